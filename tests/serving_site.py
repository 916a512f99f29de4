"""A small serving site against the simulated clouds, call by call: entry, Envoy, servers, policies."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

from cloud_driver import Made, Site, gke, node_pool

from simulators.core.edits import put
from simulators.core.traffic import Capacity, Demand, capacity
from simulators.core.values import Json, Properties
from simulators.core.world import World

DEPLOYMENT, SERVICE = "kubernetes:apps/v1:Deployment", "kubernetes:core/v1:Service"
POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
HEALTH: Json = ["35.191.0.0/16", "130.211.0.0/22"]
DEMAND = Demand(rps=100, rates={"server-*": 50})


def sequential(world: World, first: int, demand: Demand = DEMAND) -> Capacity:
    """The phase since operation `first`, one step after the other."""
    steps, now = [], 0.0
    for one in world.operations[first:]:
        steps.append(replace(one, start_s=now, end_s=now + one.end_s - one.start_s))
        now = steps[-1].end_s
    return capacity(world, steps, demand)


@dataclass(kw_only=True)
class Stack:
    site: Site
    made: dict[str, Made] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.site.cloud.world

    def phase(self, first: int, demand: Demand = DEMAND) -> Capacity:
        """What the entry saw since operation `first`."""
        return sequential(self.world, first, demand)

    def server(self, generation: str, replicas: int = 2, prestop: int = 60, **pod: Json) -> Made:
        sleep: Json = {"preStop": {"sleep": {"seconds": prestop}}} if prestop else {}
        container: Properties = {
            "name": "server",
            "image": "nvcr.io/nvidia/tritonserver:26.07-py3",
            "ports": [{"name": "http", "containerPort": 8000}, {"name": "metrics", "containerPort": 8002}],
            "lifecycle": sleep,
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        }
        if not prestop:
            del container["lifecycle"]
        spec: Properties = {"containers": [container], "terminationGracePeriodSeconds": prestop + 35, **pod}
        labels: Properties = {"app": "model-server", "generation": generation}
        body: Properties = {
            "metadata": {"name": f"server-{generation}", "namespace": "serving"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
        self.made[generation] = self.site.kubernetes.create(DEPLOYMENT, f"server-{generation}", body)
        return self.made[generation]

    def server_body(self, made: Made, *, image: str, surge: int, unavailable: int) -> Properties:
        """The same Deployment with another image and a stated strategy."""
        body = copy.deepcopy(made.inputs)
        put(body, "spec.template.spec.containers[0].image", image)
        strategy: Json = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
        put(body, "spec.strategy", strategy)
        return body


def stack(world: World, *, datapath: str = "ADVANCED_DATAPATH", allowed: bool = True, health: str = "") -> Stack:
    """A GKE cluster whose entry leads to Envoy, and Envoy to the servers of the namespace `serving`."""
    site = gke(world, removeDefaultNodePool=True, datapathProvider=datapath)
    cloud = site.cloud
    proxy: Properties = {
        "name": "proxy", "network": site.network["selfLink"], "ipCidrRange": "10.9.0.0/24", "region": "us-central1",
        "purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE",
    }  # fmt: skip
    cloud.create("gcp:compute/subnetwork:Subnetwork", "proxy", proxy)
    system = node_pool(site, "system", tags=["system"])
    node_pool(site, "serving", machineType="e2-standard-16")
    _balancer(site, system)
    made = Stack(site=site)
    if allowed:
        made.made["firewall"] = cloud.create("gcp:compute/firewall:Firewall", "allow", firewall(site))
    site.namespace()
    _envoy(site, health)
    return made


def firewall(site: Site, ports: Json = None) -> Properties:
    return {
        "name": "allow", "network": site.network["selfLink"], "targetTags": ["system"],
        "sourceRanges": ["10.9.0.0/24", "35.191.0.0/16", "130.211.0.0/22"],
        "allows": [{"protocol": "tcp", "ports": ports or ["30080"]}],
    }  # fmt: skip


def _balancer(site: Site, system: Made) -> None:
    cloud = site.cloud
    urls = system["managedInstanceGroupUrls"]
    assert isinstance(urls, list)
    cloud.create(
        "gcp:compute/instanceGroupNamedPort:InstanceGroupNamedPort",
        "port",
        {"group": urls[0], "name": "entry", "port": 30080, "zone": "us-central1-a"},
    )
    check = cloud.create(
        "gcp:compute/regionHealthCheck:RegionHealthCheck",
        "check",
        {"name": "check", "region": "us-central1", "tcpHealthCheck": {"portSpecification": "USE_SERVING_PORT"}},
    )
    backend: Properties = {
        "name": "backend", "region": "us-central1", "protocol": "TCP", "portName": "entry",
        "loadBalancingScheme": "INTERNAL_MANAGED", "healthChecks": check.id,
        "backends": [{"group": u, "balancingMode": "UTILIZATION", "capacityScaler": 1.0} for u in urls],
    }  # fmt: skip
    service = cloud.create("gcp:compute/regionBackendService:RegionBackendService", "backend", backend)
    proxy: Properties = {"name": "target", "region": "us-central1", "backendService": service.id}
    target = cloud.create("gcp:compute/regionTargetTcpProxy:RegionTargetTcpProxy", "target", proxy)
    rule: Properties = {
        "name": "entry", "region": "us-central1", "loadBalancingScheme": "INTERNAL_MANAGED", "portRange": "80",
        "network": site.network["selfLink"], "subnetwork": site.subnets[0]["selfLink"], "target": target.id,
    }  # fmt: skip
    cloud.create("gcp:compute/forwardingRule:ForwardingRule", "entry", rule)


def _envoy(site: Site, health: str) -> None:
    kube = site.kubernetes
    address = "{address: {socket_address: {address: servers.serving.svc.cluster.local., port_value: 8000}}}"
    config = "{type: STRICT_DNS, dns_refresh_rate: 5s, " + health + "endpoint: " + address + "}"
    labels: Properties = {"app": "envoy"}
    kube.create(
        "kubernetes:core/v1:ConfigMap", "envoy", {"metadata": {"name": "envoy"}, "data": {"envoy.yaml": config}}
    )
    container: Properties = {
        "name": "envoy", "image": "envoyproxy/envoy:v1", "ports": [{"name": "http", "containerPort": 8080}],
        "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
        "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}},
    }  # fmt: skip
    spec: Properties = {
        "containers": [container],
        "nodeSelector": {"cloud.google.com/gke-nodepool": "system"},
        "volumes": [{"name": "config", "configMap": {"name": "envoy"}}],
    }
    body: Properties = {
        "metadata": {"name": "envoy"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    kube.create(DEPLOYMENT, "envoy", body)
    ports: Json = [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}]
    entry: Properties = {"type": "NodePort", "selector": labels, "ports": ports}
    kube.create(SERVICE, "envoy", {"metadata": {"name": "envoy"}, "spec": entry})
    servers: Properties = {
        "clusterIP": "None", "selector": {"app": "model-server"}, "ports": [{"name": "http", "port": 8000}]
    }  # fmt: skip
    kube.create(SERVICE, "servers", {"metadata": {"name": "servers", "namespace": "serving"}, "spec": servers})


def policy(name: str, **spec: Json) -> Properties:
    return {
        "metadata": {"name": name, "namespace": "serving"},
        "spec": {"podSelector": {"matchLabels": {"app": "model-server"}}, **spec},
    }
