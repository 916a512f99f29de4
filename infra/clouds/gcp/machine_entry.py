"""The entry of groups of machines: each request to a machine that is ready, predictions alone.

The application load balancer reads requests. Its clients speak gRPC only over TLS; without a certificate the gRPC port
is passed on unread where the server guards its control by itself, and else there is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

from infra.clouds.gcp.balancer import Balancer, log
from infra.clouds.gcp.facts import whole
from infra.clouds.gcp.here import Here
from infra.clouds.gcp.machine_routes import routes
from infra.clouds.gcp.network import Network
from infra.clouds.machine_site import ServingGroup
from infra.clouds.site import EntryAddress
from infra.plan.facts import drain_s
from infra.plan.predictions import passes_unread

NONE = ""  # no gRPC


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the load balancer is told of the servers."""

    ports: Mapping[str, int]
    ready_path: str
    longest_s: float  # of a request


def machine_entry(here: Here, net: Network, asked: Asked, groups: Sequence[ServingGroup]) -> EntryAddress:
    b = Balancer(here, net, asked.longest_s)
    check = _check(here, asked)
    refused = _backend(b, "refused", "HTTP", "http", check, [])
    http = _backend(b, "http", "HTTP", "http", check, groups)
    rules = [b.forward("http", b.web_proxy("entry-http", routes(here, "http", http, refused)))]
    grpc: pulumi.Output[str] = pulumi.Output.from_input(NONE)
    if b.tls is not None:
        backend = _backend(b, "grpc", "H2C", "grpc", check, groups)
        rules.append(b.forward("grpc", b.web_proxy("entry-grpc", routes(here, "grpc", backend, refused))))
        grpc, note = b.grpc(), ""
    elif passes_unread(here.spec.server):
        backend = _backend(b, "grpc", "TCP", "grpc", check, groups)
        rules.append(b.forward("grpc", b.tcp_proxy("entry-grpc", backend)))
        grpc, note = b.grpc(), "; without tls a gRPC connection stays with one machine"
    else:
        note = f"; no gRPC without tls: its port would also let clients replace {here.spec.server}'s configuration"
    after = [*rules, *(r for g in groups for r in g.after)]
    return EntryAddress(http=b.http(), grpc=grpc, reachable_from=b.reachable_from() + note, after=after)


def _check(here: Here, asked: Asked) -> compute.RegionHealthCheck:
    """Another path or port is another check, which the backends are told of when the new machines stand: the old ones
    are not measured by it before."""
    port, path = asked.ports["http"], asked.ready_path
    digest = hashlib.sha256(json.dumps([port, path]).encode()).hexdigest()[:8]
    interval = whole("health_interval")
    return compute.RegionHealthCheck(
        f"entry-{digest}",
        name=here.name("compute/regionHealthCheck:RegionHealthCheck", "entry", digest),
        region=here.spec.region,
        check_interval_sec=interval,
        timeout_sec=interval,
        healthy_threshold=whole("healthy_after"),
        unhealthy_threshold=whole("healthy_after"),
        # also for gRPC: there is one answer to whether every model is loaded
        http_health_check=compute.RegionHealthCheckHttpHealthCheckArgs(port=port, request_path=path),
        log_config=compute.RegionHealthCheckLogConfigArgs(enable=True),
        opts=here.on(),
    )


def _backend(
    b: Balancer,
    name: str,
    protocol: str,
    port: str,
    check: compute.RegionHealthCheck,
    groups: Sequence[ServingGroup],
) -> compute.RegionBackendService:
    """Without groups it is where nothing is: what no route allows ends there."""
    here, role, read = b.here, f"entry-{name}", protocol != "TCP"
    return compute.RegionBackendService(
        role,
        name=here.name("compute/regionBackendService:RegionBackendService", role),
        region=here.spec.region,
        load_balancing_scheme=b.scheme,
        protocol=protocol,
        port_name=port,
        timeout_sec=b.longest_s if read else whole("connection_idle"),
        connection_draining_timeout_sec=int(drain_s(here.spec)) + whole("backend_timeout_margin"),
        # of two machines the less busy one; Google has that for internal balancers alone (compute.v1, BackendService)
        locality_lb_policy="LEAST_REQUEST" if read and not b.public else None,
        health_checks=check.id,
        security_policy=b.armor.self_link if b.armor else None,
        backends=[_member(g, read) for g in groups] or None,
        log_config=log(),
        opts=here.on(),  # it has the groups' addresses, and so comes after their machines answer
    )


def _member(group: ServingGroup, read: bool) -> compute.RegionBackendServiceBackendArgs:
    """Requests by what the plan says that a machine carries. Of connections nothing is known: evenly."""
    member = compute.RegionBackendServiceBackendArgs
    if not read:
        return member(
            group=group.address,
            balancing_mode="CONNECTION",
            max_connections_per_instance=whole("connections_per_machine"),
            capacity_scaler=1.0,
        )
    return member(
        group=group.address,
        balancing_mode="RATE",
        # Google keeps it as a float of 32 bits: with more digits what it gives back would differ in every preview
        max_rate_per_instance=float(f"{group.max_rps_per_machine:.5g}"),
        capacity_scaler=1.0,
    )
