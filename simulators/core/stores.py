"""Where feature stores and storage listen, as far as their resources say."""

from __future__ import annotations

from simulators.core import paths
from simulators.core.checks import number
from simulators.core.values import plain_properties
from simulators.core.world import Thing

CLOUD_API = {"gcp": "199.36.153.8/32", "aws": "52.216.0.1/32"}  # private.googleapis.com; an address of S3 (API-AWS)
STORES = {  # type -> (field of the address, field of the port, port where none is said)
    "gcp:redis/instance:Instance": ("host", "port", 6379),
    "gcp:redis/cluster:Cluster": ("discoveryEndpoints[0].address", "discoveryEndpoints[0].port", 6379),
    "gcp:memorystore/instance:Instance": (
        "endpoints[0].connections[0].pscAutoConnection.ipAddress",
        "endpoints[0].connections[0].pscAutoConnection.port",
        6379,
    ),
    "aws:elasticache/replicationGroup:ReplicationGroup": ("primaryEndpointAddress", "port", 6379),
    "aws:elasticache/serverlessCache:ServerlessCache": ("endpoints[0].address", "endpoints[0].port", 6379),
}


def store_port(store: Thing) -> int:
    _, port, default = STORES[store.token]
    return int(number(paths.get(plain_properties(store.outputs), paths.parse(port))) or default)
