"""A serving stack on GKE, small and whole: network, cluster, pools, store, entry, workload."""

import pulumi
import pulumi_gcp as gcp
import pulumi_kubernetes as k8s

config = pulumi.Config()
machine, memory = config.get("machine") or "e2-standard-4", config.get_int("memory") or 5
cloud = gcp.Provider("gcp", project="slipway-test", region="us-central1")
on = pulumi.ResourceOptions(provider=cloud)
last = pulumi.ResourceOptions(provider=cloud, custom_timeouts=pulumi.CustomTimeouts(delete="20m"))

network = gcp.compute.Network("net", name="net", auto_create_subnetworks=False, opts=last)
subnet = gcp.compute.Subnetwork("sub", name="sub", network=network.id, ip_cidr_range="10.0.0.0/20", opts=last)
proxy = gcp.compute.Subnetwork(
    "proxy",
    name="proxy",
    network=network.id,
    ip_cidr_range="10.9.0.0/24",
    purpose="REGIONAL_MANAGED_PROXY",
    role="ACTIVE",
    opts=last,
)
router = gcp.compute.Router("router", network=network.id, opts=on)
gcp.compute.RouterNat(
    "nat",
    router=router.name,
    nat_ip_allocate_option="AUTO_ONLY",
    source_subnetwork_ip_ranges_to_nat="ALL_SUBNETWORKS_ALL_IP_RANGES",
    opts=on,
)
for name, port in (("health", "8000"), ("proxy", "10000"), ("keda", "9666")):
    gcp.compute.Firewall(
        f"allow-{name}",
        network=network.id,
        source_ranges=["10.0.0.0/8"],
        allows=[{"protocol": "tcp", "ports": [port]}],
        opts=on,
    )
accounts = {r: gcp.serviceaccount.Account(r, account_id=f"slipway-{r}", opts=on) for r in ("nodes", "serving", "batch")}
for role, account in accounts.items():
    gcp.projects.IAMMember(
        f"{role}-logs", project="slipway-test", role="roles/logging.logWriter", member=account.member, opts=on
    )
bucket = gcp.storage.Bucket("models", name="slipway-test-models", location="US", force_destroy=True, opts=on)
gcp.storage.BucketObject("model", bucket=bucket.name, name="digits/1/model.onnx", content="weights", opts=on)
gcp.storage.BucketIAMMember(
    "read", bucket=bucket.name, role="roles/storage.objectViewer", member=accounts["serving"].member, opts=on
)
store = gcp.redis.Instance(
    "store",
    name="store",
    memory_size_gb=memory,
    tier="STANDARD_HA",
    region="us-central1",
    authorized_network=network.id,
    deletion_protection=False,
    opts=on,
)
cluster = gcp.container.Cluster(
    "cluster",
    name="serving",
    location="us-central1",
    network=network.id,
    subnetwork=subnet.id,
    initial_node_count=1,
    remove_default_node_pool=True,
    deletion_protection=False,
    opts=on,
)
pools = [
    gcp.container.NodePool(
        f"pool-{role}",
        cluster=cluster.name,
        location="us-central1",
        node_count=2,
        node_config={"machine_type": size, "service_account": accounts["nodes"].email, "labels": {"role": role}},
        opts=on,
    )
    for role, size in (("system", "e2-standard-4"), ("serving", machine))
]
check = gcp.compute.RegionHealthCheck("check", region="us-central1", tcp_health_check={"port": 10000}, opts=on)
backend = gcp.compute.RegionBackendService(
    "backend",
    region="us-central1",
    protocol="TCP",
    load_balancing_scheme="INTERNAL_MANAGED",
    health_checks=check.id,
    opts=on,
)
target = gcp.compute.RegionTargetTcpProxy("target", region="us-central1", backend_service=backend.id, opts=on)
address = gcp.compute.Address("address", region="us-central1", subnetwork=subnet.id, address_type="INTERNAL", opts=on)
entry = gcp.compute.ForwardingRule(
    "entry",
    region="us-central1",
    load_balancing_scheme="INTERNAL_MANAGED",
    network=network.id,
    subnetwork=subnet.id,
    ip_address=address.address,
    target=target.id,
    port_range="8000",
    opts=pulumi.ResourceOptions(provider=cloud, depends_on=[proxy]),
)
kubeconfig = pulumi.Output.json_dumps(
    {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": cluster.endpoint.apply(lambda e: f"https://{e}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"exec": {"command": "gke-gcloud-auth-plugin"}}}],
    }
)
kube = k8s.Provider("k8s", kubeconfig=kubeconfig, cluster_identifier=cluster.id, opts=pulumi.ResourceOptions())
inside = pulumi.ResourceOptions(provider=kube, depends_on=pools)
space = k8s.core.v1.Namespace("serving", metadata={"name": "serving"}, opts=inside)
meta = {"namespace": space.metadata["name"]}
labels = {"app": "triton"}
k8s.core.v1.ServiceAccount("triton", metadata={**meta, "name": "triton"}, opts=inside)
settings = k8s.core.v1.ConfigMap("settings", metadata=meta, data={"config.pbtxt": "max_batch_size: 32"}, opts=inside)
k8s.apps.v1.Deployment(
    "triton",
    metadata={**meta, "name": "triton"},
    spec={
        "replicas": 2,
        "selector": {"match_labels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "node_selector": {"role": "serving"},
                "containers": [
                    {
                        "name": "triton",
                        "image": "triton:26.07",
                        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}},
                    }
                ],
            },
        },
    },
    opts=inside,
)
k8s.core.v1.Service(
    "triton", metadata={**meta, "name": "triton"}, spec={"selector": labels, "ports": [{"port": 8000}]}, opts=inside
)
k8s.policy.v1.PodDisruptionBudget(
    "triton", metadata=meta, spec={"max_unavailable": 1, "selector": {"match_labels": labels}}, opts=inside
)
k8s.networking.v1.NetworkPolicy(
    "triton", metadata=meta, spec={"pod_selector": {"match_labels": labels}, "policy_types": ["Ingress"]}, opts=inside
)
pulumi.export("address", entry.ip_address)
pulumi.export("store", store.host)
pulumi.export("settings", settings.metadata["name"])
