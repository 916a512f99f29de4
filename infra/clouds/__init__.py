"""One package a cloud: network, cluster, pools, instances, entry, identity."""
