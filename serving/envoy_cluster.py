"""Envoy: the servers behind the entry: how they are found, checked, left out when broken, and let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.facts import facts

Json = dict[str, object]
HTTP, GRPC = "http", "grpc"  # the clusters, and so the names of the endpoint files
BY_ID = "by-id"  # the cluster of what predicts by id beside the servers, where they cannot by themselves
TYPE = "type.googleapis.com/"
UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Answers of a server that is broken (Triton with a dead Python stub): 500, INTERNAL. A full queue or a feature store
# that does not answer (503, UNAVAILABLE) is no fault of the server, and its place would be no better used empty.
BROKEN = {HTTP: ((":status", "500"),), BY_ID: ((":status", "500"),), GRPC: (("grpc-status", "13"), (":status", "500"))}


def seconds(ms: float) -> str:
    """A duration as Envoy writes it."""
    return f"{ms / 1000:g}s"


@dataclass(frozen=True, kw_only=True)
class Files:
    """Servers from an endpoint file for each protocol."""

    folder: str


@dataclass(frozen=True, kw_only=True)
class Names:
    """Servers from the addresses of a name, such as those of a headless Service: its ready pods."""

    host: str
    ports: Mapping[str, int]  # by cluster
    health_path: str  # on the HTTP port
    by_id_health_path: str = ""  # on the port by-id, where there is one

    def health(self, cluster: str) -> tuple[int, str]:
        """Port and path of a cluster's health URL: gRPC servers have theirs on the HTTP port."""
        if cluster == BY_ID:
            return self.ports[BY_ID], self.by_id_health_path
        return self.ports[HTTP], self.health_path


def socket(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def cluster(name: str, found: Files | Names, protocol: Json) -> Json:
    """The servers of one protocol."""
    numbers = facts("envoy")
    return {
        "name": name,
        **(_by_files(name, found) if isinstance(found, Files) else _by_name(name, found)),
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            "healthy_panic_threshold": {"value": numbers["panic_percent"]},
            # Draining servers are left out of that count. The window is 1 s by default: a change of health reaches
            # the workers so much later than the admin interface tells of it, and whoever waits for "healthy" before
            # the old servers go is told too early (measured: requests came after 1.2 s).
            "update_merge_window": "0s",
        },
        "connect_timeout": seconds(numbers["connect_timeout_ms"]),
        "ignore_health_on_host_removal": True,  # a removed server is let go at once, so that it can stop
        "circuit_breakers": {"thresholds": [_limits()]},
        "health_checks": [_health_check("/v2/health/ready" if isinstance(found, Files) else found.health(name)[1])],
        "outlier_detection": {
            "consecutive_5xx": numbers["consecutive_5xx"],
            "interval": "1s",
            "base_ejection_time": seconds(numbers["ejection_ms"]),
            "max_ejection_percent": numbers["max_ejection_percent"],
            "successful_active_health_check_uneject_host": False,  # the health URL is the one that lies
        },
        "typed_extension_protocol_options": {
            UPSTREAM: {
                "@type": TYPE + UPSTREAM,
                "outlier_detection": {"error_matcher": _any_of(BROKEN[name])},
                "common_http_protocol_options": {"idle_timeout": seconds(numbers["idle_timeout_ms"])},
                "explicit_http_config": protocol,
            }
        },
    }


def _limits() -> Json:
    numbers = facts("envoy")
    most = numbers["max_requests"]
    return {
        "max_retries": numbers["max_retries"],
        "max_requests": most,
        "max_pending_requests": most,
        "max_connections": most,
    }


def _by_files(name: str, found: Files) -> Json:
    source = {"resource_api_version": "V3", "path_config_source": {"path": f"{found.folder}/{name}.json"}}
    return {"type": "EDS", "eds_cluster_config": {"eds_config": source}}


def _by_name(name: str, found: Names) -> Json:
    """Asked again at a fixed pace: the cluster's DNS answers from its cache until the record's time to live is over."""
    endpoint = {
        "address": socket(found.host, found.ports[name]),
        "health_check_config": {"port_value": found.health(name)[0]},
    }
    return {
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "dns_refresh_rate": seconds(facts("envoy")["dns_refresh_ms"]),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    }


def _health_check(path: str) -> Json:
    numbers = facts("envoy")
    interval = seconds(numbers["health_interval_ms"])
    return {
        "timeout": seconds(numbers["health_timeout_ms"]),
        "interval": interval,
        "no_traffic_interval": interval,
        "unhealthy_threshold": numbers["unhealthy_threshold"],
        "healthy_threshold": 1,
        # Plain HTTP also for gRPC servers: each endpoint names the port of its health URL.
        "http_health_check": {"path": path, "codec_client_type": "HTTP1"},
    }


def _any_of(headers: Sequence[tuple[str, str]]) -> Json:
    rules: list[Json] = [
        {"http_response_headers_match": {"headers": [{"name": name, "string_match": {"exact": value}}]}}
        for name, value in headers
    ]
    return {"or_match": {"rules": rules}} if len(rules) > 1 else rules[0]
