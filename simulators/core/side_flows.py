"""Flows beside the requests: control plane to webhooks, metrics, names, tokens, models, the store."""

from __future__ import annotations

import re
from collections.abc import Iterator

from simulators.core import charts, entries, firewalls, flows, group_flows, paths, policies, scheduler
from simulators.core.checks import text
from simulators.core.firewalls import From
from simulators.core.fitting import matches, objects
from simulators.core.flows import Flow, Serving, Site
from simulators.core.peers import Pods, find, pool_things
from simulators.core.policies import Other
from simulators.core.stores import CLOUD_API, STORES, store_port
from simulators.core.values import plain_properties, strings
from simulators.core.world import Thing, World

METADATA = "169.254.169.254/32"
_NODE_LOCAL_DNS = "169.254.20.10/32"


def judge(world: World, serving: Serving) -> tuple[Flow, ...]:
    """All that must arrive for the stack to work, beside the requests themselves."""
    found: list[Flow] = []
    for site in flows.sites(world):
        found += _control_plane(site)
        found += _metrics(site)
        servers = [p for p in site.pods if p.key in serving.servers]
        doors = [p for p in site.pods if p.key in serving.doors]
        for pods in dict.fromkeys(p.key for p in (*servers, *doors)):
            found += _names(site, next(p for p in site.pods if p.key == pods))
        for pods_ in servers:
            found += _outside(site, pods_)
    found += [_flow(*one) for one in group_flows.beside(world, serving.servers)]
    return tuple(dict.fromkeys(found))


def _flow(source: object, target: object, port: int, why: str) -> Flow:
    return Flow(source=str(source), target=str(target), port=str(port), arrives=not why, why=why)


def _control_plane(site: Site) -> Iterator[Flow]:
    """Webhooks and aggregated APIs of charts: the API server asks their pods."""
    caller = _api_server(site)
    for release in [t for t in site.world.things.values() if t.cluster == site.cluster.key and charts.of(t)]:
        for one in charts.objects(release):
            if one.kind not in ("APIService", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
                continue
            for pods in [p for p in site.pods if p.key.startswith(f"{release.key}#")]:
                if matches({"matchLabels": dict(one.labels)}, pods.labels):
                    for port in one.ports.values():
                        yield _flow(caller.what, pods, port, flows.edge(site, caller, pods, port))


def _api_server(site: Site) -> From:
    outputs = plain_properties(site.cluster.outputs)
    if site.cluster.cloud == "aws":
        ranges = entries.subnet_ranges(site.world, paths.get(outputs, ("vpcConfig", "subnetIds")))
        return From(what="the control plane", ranges=ranges, groups=frozenset({firewalls.cluster_group(site.cluster)}))
    private = outputs.get("privateClusterConfig")
    given = private if isinstance(private, dict) else {}
    cidr = text(given.get("masterIpv4CidrBlock"))
    own = text(given.get("privateEndpointSubnetwork"))
    where = own or text(outputs.get("subnetwork"))
    subnet = find(site.world, where, "gcp:compute/subnetwork:Subnetwork") if where else None
    ranges = (cidr,) if cidr else (text(subnet.outputs.get("ipCidrRange")),) if subnet is not None else ()
    return From(what="the control plane", ranges=ranges)


def _metrics(site: Site) -> Iterator[Flow]:
    """Prometheus to what it scrapes, and the autoscaler to Prometheus: without them nothing scales."""
    everybody = site.pods
    prometheus = [p for p in everybody if p.labels.get("app.kubernetes.io/name") == "prometheus"]
    keda = [p for p in everybody if p.labels.get("app.kubernetes.io/name") == "keda-operator"]
    for scaled in [t for t in site.world.things.values() if t.token.endswith(":ScaledObject")]:
        if scaled.cluster != site.cluster.key:
            continue
        spec = plain_properties(scaled.inputs).get("spec")
        given = spec if isinstance(spec, dict) else {}
        target = text(paths.get(given, ("scaleTargetRef", "name")))
        space = scheduler.namespace_of(scaled)
        for trigger in objects(given.get("triggers")):
            if trigger.get("type") != "prometheus":
                continue
            address = text(paths.get(trigger, ("metadata", "serverAddress")))
            yield from _signal(site, address, keda, prometheus)
            for pods in [p for p in everybody if (p.name, p.namespace) == (target, space)]:
                port = pods.ports.get("metrics") or pods.ports.get("http")
                for scraper in prometheus if port else ():
                    yield _flow(scraper, pods, port or 0, flows.between(site, scraper, pods, port or 0))


def _signal(site: Site, address: str, keda: list[Pods], prometheus: list[Pods]) -> Iterator[Flow]:
    port = int((re.findall(r":(\d+)", address) or ["80"])[0])
    if not prometheus:
        yield _flow("KEDA", address, port, "no Prometheus runs there")
    for asker in keda:
        for pods in prometheus:
            real = pods.ports.get("http", port)
            yield _flow(asker, pods, real, flows.between(site, asker, pods, real))
    if not keda:
        yield _flow("KEDA", address, port, "KEDA does not run")


def _names(site: Site, pods: Pods) -> Iterator[Flow]:
    dns = Pods(
        key="kube-dns", name="kube-dns", namespace="kube-system", labels={"k8s-app": "kube-dns"}, ports={"dns": 53},
        spec={}, pools=(),
    )  # fmt: skip
    why = policies.refused(site.world, site.cluster, pods, "egress", Other(pods=dns), 53, "UDP")
    cloud_dns = paths.get(plain_properties(site.cluster.outputs), ("dnsConfig", "clusterDns")) == "CLOUD_DNS"
    if why and (cloud_dns or site.cluster.cloud == "gcp"):
        near = METADATA if cloud_dns else _NODE_LOCAL_DNS
        there = Other(addresses=(near,), what="the node's name server")
        why = policies.refused(site.world, site.cluster, pods, "egress", there, 53, "UDP") and why
    yield _flow(pods, "names", 53, why)


def _outside(site: Site, pods: Pods) -> Iterator[Flow]:
    """Tokens, models and features of the servers."""
    world, cluster = site.world, site.cluster
    outputs = plain_properties(cluster.outputs)
    if cluster.cloud == "gcp" and outputs.get("workloadIdentityConfig"):
        there = Other(addresses=(METADATA,), what="the metadata server")
        port = 80 if outputs.get("datapathProvider") == "ADVANCED_DATAPATH" else 988
        if port == 988:
            there = Other(addresses=("169.254.169.252/32",), what="the metadata server")
        yield _flow(pods, there.what, port, policies.refused(world, cluster, pods, "egress", there, port, "TCP"))
    if any(re.search(r"\b(gs|s3)://", s) for s in (*strings(pods.spec), *pods.texts)):
        api = Other(addresses=(CLOUD_API[cluster.cloud],), what="storage")
        yield _flow(pods, "storage", 443, policies.refused(world, cluster, pods, "egress", api, 443, "TCP"))
    for store in [t for t in world.things.values() if t.token in STORES and t.cloud == cluster.cloud]:
        yield _flow(pods, f"store {store.name}", store_port(store), _to_store(site, pods, store))


def _to_store(site: Site, pods: Pods, store: Thing) -> str:
    outputs = plain_properties(store.outputs)
    address = text(paths.get(outputs, paths.parse(STORES[store.token][0])))
    known = (f"{address}/32",) if re.fullmatch(r"[0-9.]+", address) else ()
    there = Other(addresses=known, what=f"store {store.name}")
    why = policies.refused(site.world, site.cluster, pods, "egress", there, store_port(store), "TCP")
    groups = outputs.get("securityGroupIds")
    if why or site.cluster.cloud != "aws" or not isinstance(groups, list):
        return why
    mine = firewalls.node_groups(site.world, site.cluster, pool_things(site.world, site.cluster, pods.pools))
    caller = From(what=f"nodes of {pods}", groups=mine)
    targets = frozenset(text(g) for g in groups)
    return firewalls.aws_refused(site.world, caller, targets, f"store {store.name}", store_port(store))
