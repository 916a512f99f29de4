"""Envoy: the servers behind the entry: how they are found, checked, left out when broken, and let go."""

from __future__ import annotations

from collections.abc import Sequence

from serving.facts import facts

Json = dict[str, object]
HTTP, GRPC = "http", "grpc"  # the clusters, and so the names of the endpoint files
TYPE = "type.googleapis.com/"
UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Answers of a server that is broken (Triton with a dead Python stub): 500, INTERNAL. A full queue or a feature store
# that does not answer (503, UNAVAILABLE) is no fault of the server, and its place would be no better used empty.
BROKEN = {HTTP: ((":status", "500"),), GRPC: (("grpc-status", "13"), (":status", "500"))}


def seconds(ms: float) -> str:
    """A duration as Envoy writes it."""
    return f"{ms / 1000:g}s"


def cluster(name: str, endpoints_folder: str, protocol: Json) -> Json:
    """The servers of one protocol, from the endpoint file of this name."""
    numbers = facts("envoy")
    return {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": f"{endpoints_folder}/{name}.json"},
            }
        },
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
        "health_checks": [_health_check()],
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


def _health_check() -> Json:
    numbers = facts("envoy")
    interval = seconds(numbers["health_interval_ms"])
    return {
        "timeout": seconds(numbers["health_timeout_ms"]),
        "interval": interval,
        "no_traffic_interval": interval,
        "unhealthy_threshold": numbers["unhealthy_threshold"],
        "healthy_threshold": 1,
        # Plain HTTP also for gRPC servers: each endpoint names the port of its health URL.
        "http_health_check": {"path": "/v2/health/ready", "codec_client_type": "HTTP1"},
    }


def _any_of(headers: Sequence[tuple[str, str]]) -> Json:
    rules: list[Json] = [
        {"http_response_headers_match": {"headers": [{"name": name, "string_match": {"exact": value}}]}}
        for name, value in headers
    ]
    return {"or_match": {"rules": rules}} if len(rules) > 1 else rules[0]
