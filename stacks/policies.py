"""Network policies, rendered from the table of allowed flows: everything is refused, then each row opens one way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from infra.plan.flows import PODS, SERVING, SYSTEM, Flow, Pods, flows

Json = dict[str, object]

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")  # RFC 1918: where control planes and stores have addresses
ANYWHERE = ("0.0.0.0/0",)
# Outside the cluster's pods. What the cloud's own filters judge has no narrower address here: storage answers from
# public ranges that change, behind the private endpoint.
OUTSIDE: Mapping[str, Sequence[str]] = {
    "dns": (
        "169.254.20.10/32",
        "169.254.169.254/32",
    ),  # the node's cache, Cloud DNS; beside kube-system
    "metadata": ("169.254.169.254/32", "169.254.169.252/32"),
    "identity_agent": ("169.254.170.23/32",),  # EKS Pod Identity's, on each node
    "control_plane": PRIVATE,
    "storage": ANYWHERE,
}
OPTIONAL = (("store", "store"), ("servers", "by-id"))  # ports that a stack may lack


def default_deny(namespace: str) -> Json:
    """No pod of the namespace speaks or listens, unless another policy says so."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


def policies(
    cloud: str,
    roles: Collection[str],
    ports: Mapping[tuple[str, str], int],
    store_ranges: Sequence[object] = ANYWHERE,
) -> Iterator[Json]:
    """The policies of the roles that the stack has; `ports`: (role, name) -> number. Without one of what a stack need
    not have there is none."""
    for namespace in (SYSTEM, SERVING):
        yield default_deny(namespace)
    absent = [end for end in OPTIONAL if end not in ports]
    table = [f for f in flows(cloud) if _of(f, roles) and (f.target, f.port) not in absent]
    for role in sorted(roles):
        ingress = [_rule(f, "from", ports, store_ranges) for f in table if f.target == role]
        egress = [_rule(f, "to", ports, store_ranges) for f in table if f.source == role]
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"allow-{role.replace('_', '-')}", "namespace": PODS[role].namespace},
            "spec": {
                "podSelector": {"matchLabels": dict(PODS[role].labels)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": ingress,
                "egress": egress,
            },
        }


def _of(flow: Flow, roles: Collection[str]) -> bool:
    """Whether the stack has both ends, as far as they are pods."""
    return all(end in roles for end in (flow.source, flow.target) if end in PODS)


def _rule(flow: Flow, way: str, ports: Mapping[tuple[str, str], int], store_ranges: Sequence[object]) -> Json:
    port = int(flow.port) if flow.port.isdecimal() else ports[flow.target, flow.port]
    rule: Json = {"ports": [{"protocol": flow.protocol.upper(), "port": port}]}
    peer = flow.source if way == "from" else flow.target
    if peer in PODS:
        rule[way] = [_pods(PODS[peer])]
    elif way == "to":
        ranges = store_ranges if peer == "store" else OUTSIDE[peer]
        found: list[Json] = [{"ipBlock": {"cidr": cidr}} for cidr in ranges]
        if peer == "dns":
            found.append({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}})
        rule[way] = found
    # from outside the cluster: the cloud's filters say who, and addresses are translated on the way to the pod
    return rule


def _pods(pods: Pods) -> Json:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": pods.namespace}},
        "podSelector": {"matchLabels": dict(pods.labels)},
    }
