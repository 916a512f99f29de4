"""What every entry has, whatever stands behind it: an address, who may come in, TLS, proxies, forwarding rules."""

from __future__ import annotations

import pulumi
from pulumi_gcp import compute

from infra.clouds.gcp.facts import text, whole
from infra.clouds.gcp.here import Here
from infra.clouds.gcp.network import Network


class Balancer:
    """What the two ports of an entry share. One address: the two are told apart by their numbers.

    A public one asks Cloud Armor who may come in: behind a proxy a firewall rule would see the proxy alone.
    """

    def __init__(self, here: Here, net: Network, longest_s: float) -> None:
        self.here = here
        self.net = net
        self.public = here.spec.exposure == "public"
        self.scheme = "EXTERNAL_MANAGED" if self.public else "INTERNAL_MANAGED"
        self.address = _address(here, net, self.public)
        self.armor = _armor(here) if self.public else None
        self.tls = _tls(here) if here.spec.tls else None
        # of a request, as the load balancer counts: it must not be the first to give up
        self.longest_s = int(longest_s) + whole("backend_timeout_margin")

    def http(self) -> pulumi.Output[str]:
        scheme, port = ("https", "https_port") if self.tls else ("http", "http_port")
        standard = {"http": 80, "https": 443}[scheme] == whole(port)
        return pulumi.Output.concat(f"{scheme}://", self.address.address, "" if standard else f":{whole(port)}")

    def grpc(self) -> pulumi.Output[str]:
        return pulumi.Output.concat(self.address.address, f":{whole('grpc_port')}")

    def reachable_from(self) -> str:
        if self.public:
            return f"the internet, from {', '.join(self.here.spec.allowed_cidrs)}"
        name = self.here.name("compute/network:Network", "network")
        return f"the network {name} and what is connected to it, in {self.here.spec.region}"

    def forward(self, name: str, target: pulumi.Output[str]) -> compute.ForwardingRule:
        """The port of the entry that the name means, to a proxy."""
        here, role = self.here, f"entry-{name}"
        ports = {"http": "https_port" if self.tls else "http_port", "grpc": "grpc_port"}
        return compute.ForwardingRule(
            role,
            name=here.name("compute/forwardingRule:ForwardingRule", role),
            region=here.spec.region,
            load_balancing_scheme=self.scheme,
            network_tier="PREMIUM" if self.public else None,
            network=self.net.network.id,
            subnetwork=None if self.public else self.net.nodes.id,
            ip_address=self.address.id,
            ip_protocol="TCP",
            port_range=text(ports[name]),
            target=target,
            labels=here.labels(role),
            opts=here.on(self.net.proxies),
        )

    def tcp_proxy(self, role: str, backend: compute.RegionBackendService) -> pulumi.Output[str]:
        """Passes connections on as they are."""
        here = self.here
        return compute.RegionTargetTcpProxy(
            role,
            name=here.name("compute/regionTargetTcpProxy:RegionTargetTcpProxy", role),
            region=here.spec.region,
            backend_service=backend.id,
            opts=here.on(),
        ).id

    def web_proxy(self, role: str, routes: compute.RegionUrlMap) -> pulumi.Output[str]:
        """Reads requests and sends each where the routes say; with a certificate it ends TLS."""
        here, tls = self.here, self.here.spec.tls
        if tls is None or self.tls is None:
            return compute.RegionTargetHttpProxy(
                role,
                name=here.name("compute/regionTargetHttpProxy:RegionTargetHttpProxy", role),
                region=here.spec.region,
                url_map=routes.id,
                opts=here.on(),
            ).id
        certificate = tls.certificate
        if "/" not in certificate:  # a name alone is a regional certificate of the project
            certificate = f"projects/{here.project}/regions/{here.spec.region}/sslCertificates/{certificate}"
        return compute.RegionTargetHttpsProxy(
            role,
            name=here.name("compute/regionTargetHttpsProxy:RegionTargetHttpsProxy", role),
            region=here.spec.region,
            url_map=routes.id,
            ssl_certificates=[certificate],
            ssl_policy=self.tls.id,
            opts=here.on(),
        ).id


def log() -> compute.RegionBackendServiceLogConfigArgs:
    """One request in a hundred: enough to see what comes, at a hundredth of the bill."""
    return compute.RegionBackendServiceLogConfigArgs(enable=True, sample_rate=0.01)


def _address(here: Here, net: Network, public: bool) -> compute.Address:
    return compute.Address(
        "entry",
        name=here.name("compute/address:Address", "entry"),
        region=here.spec.region,
        address_type="EXTERNAL" if public else "INTERNAL",
        network_tier="PREMIUM" if public else None,
        purpose=None if public else "SHARED_LOADBALANCER_VIP",  # two forwarding rules, one address
        subnetwork=None if public else net.nodes.id,
        labels=here.labels("entry"),
        opts=here.on(),
    )


def _armor(here: Here) -> compute.RegionSecurityPolicy:
    """The addresses that may come in; the last rule refuses the rest."""
    rule, match, config = (
        compute.RegionSecurityPolicyRuleArgs,
        compute.RegionSecurityPolicyRuleMatchArgs,
        compute.RegionSecurityPolicyRuleMatchConfigArgs,
    )
    most = 10  # ranges of one rule: cloud.google.com/armor/quotas
    cidrs = here.spec.allowed_cidrs
    blocks = [list(cidrs[i : i + most]) for i in range(0, len(cidrs), most)]
    allowed = [
        rule(
            action="allow",
            priority=1000 + i,
            description="allowed_cidrs",
            match=match(versioned_expr="SRC_IPS_V1", config=config(src_ip_ranges=block)),
        )
        for i, block in enumerate(blocks)
    ]
    rest = rule(
        action="deny(403)",
        priority=2147483647,
        description="everybody else",
        match=match(versioned_expr="SRC_IPS_V1", config=config(src_ip_ranges=["*"])),
    )
    return compute.RegionSecurityPolicy(
        "entry-callers",
        name=here.name("compute/regionSecurityPolicy:RegionSecurityPolicy", "entry-callers"),
        region=here.spec.region,
        type="CLOUD_ARMOR",
        rules=[*allowed, rest],
        opts=here.on(),
    )


def _tls(here: Here) -> compute.RegionSslPolicy:
    return compute.RegionSslPolicy(
        "entry-tls",
        name=here.name("compute/regionSslPolicy:RegionSslPolicy", "entry-tls"),
        region=here.spec.region,
        profile="MODERN",
        min_tls_version="TLS_1_2",
        opts=here.on(),
    )
