"""Envoy: the entry's configuration, which lets inference through and nothing else, and its endpoint files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from serving.envoy_cluster import BY_ID, GRPC, HTTP, TYPE, Files, Json, Names, cluster, seconds, socket
from serving.envoy_routes import BUFFER, V2, Interface, by_id_routes, grpc_routes, http_routes
from serving.facts import facts

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ADMIN = "admin"  # the cluster that is this Envoy's own admin interface

__all__ = ["GRPC", "HTTP", "Endpoint", "Entry", "Names", "arguments", "bootstrap", "endpoints"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where the entry listens and how long a request may take."""

    address: str
    http_port: int
    grpc_port: int
    admin_port: int  # always on the loopback
    max_request_s: float
    node: str
    endpoints_folder: str | None = None  # of http.json and grpc.json, as Envoy sees it
    names: Names | None = None  # else the servers are found by name
    interface: Interface = V2
    metrics_port: int | None = None  # statistics and readiness, and nothing else of the admin interface

    @property
    def found(self) -> Files | Names:
        if self.names is not None:
            return self.names
        assert self.endpoints_folder is not None, "the servers are found by a folder or by a name"
        return Files(folder=self.endpoints_folder)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One server; a draining one gets no new requests and finishes those it has."""

    address: str
    port: int
    health_port: int  # of the health URL, plain HTTP
    draining: bool = False


def bootstrap(entry: Entry) -> str:
    """The configuration file, as JSON."""
    by_id = entry.names is not None and BY_ID in entry.names.ports
    before = by_id_routes(entry.max_request_s) if by_id else []
    routes = [*before, *http_routes(entry.interface, entry.max_request_s)]
    config: Json = {
        "node": {"id": entry.node, "cluster": "slipway"},
        "admin": {"address": socket("127.0.0.1", entry.admin_port)},
        "static_resources": {
            "listeners": [
                _listener(entry, HTTP, entry.http_port, "AUTO", routes),
                _listener(entry, GRPC, entry.grpc_port, "HTTP2", grpc_routes(entry.interface, entry.max_request_s)),
            ],
            "clusters": [
                cluster(HTTP, entry.found, {"http_protocol_options": {}}),
                cluster(GRPC, entry.found, {"http2_protocol_options": {}}),
                *([cluster(BY_ID, entry.found, {"http_protocol_options": {}})] if by_id else []),
            ],
        },
    }
    if entry.metrics_port is not None:
        resources = config["static_resources"]
        assert isinstance(resources, dict)
        resources["listeners"].append(_metrics_listener(entry, entry.metrics_port))
        resources["clusters"].append(_admin_cluster(entry))
    return json.dumps(config, indent=1) + "\n"


def endpoints(name: str, servers: Sequence[Endpoint]) -> str:
    """An endpoint file; written beside and renamed, since Envoy watches for the move."""
    assignment = {
        "@type": f"{TYPE}envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [
            {
                "lb_endpoints": [
                    {
                        "endpoint": {
                            "address": socket(s.address, s.port),
                            "health_check_config": {"port_value": s.health_port},
                        },
                        "health_status": "DRAINING" if s.draining else "UNKNOWN",
                    }
                    for s in servers
                ]
            }
        ],
    }
    return json.dumps({"resources": [assignment]}, indent=1) + "\n"


def arguments(config: str, *, mode: str = "serve", concurrency: int = 1) -> tuple[str, ...]:
    """Envoy's command line after the executable; hot restart would leave shared memory behind."""
    words = ("-c", config, "--mode", mode, "--concurrency", str(concurrency), "--log-level", "warn")
    return (*words, "--disable-hot-restart")


def _listener(entry: Entry, name: str, port: int, codec: str, routes: list[Json]) -> Json:
    numbers = facts("envoy")
    manager: Json = {
        "@type": TYPE + MANAGER,
        "stat_prefix": name,
        "codec_type": codec,
        "normalize_path": True,  # else /v2/models/../repository would pass as a model
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "request_headers_timeout": seconds(numbers["request_headers_ms"]),
        "common_http_protocol_options": {"idle_timeout": seconds(numbers["downstream_idle_ms"])},
        "http2_protocol_options": {"max_concurrent_streams": numbers["max_requests"]},
        "route_config": {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.buffer",
                "typed_config": {"@type": f"{TYPE}{BUFFER}Buffer", "max_request_bytes": numbers["max_request_bytes"]},
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE}envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    return {
        "name": name,
        "address": socket(entry.address, port),
        # A request is kept until its answer begins, to be sent again elsewhere; what is longer than this is not.
        "per_connection_buffer_limit_bytes": numbers["max_request_bytes"],
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _metrics_listener(entry: Entry, port: int) -> Json:
    """The admin interface stays on the loopback: it can also end this process and change its log."""
    routes = [
        {"match": {"path": path}, "route": {"cluster": ADMIN, "timeout": "5s"}}
        for path in ("/stats/prometheus", "/ready")
    ]
    manager: Json = {
        "@type": TYPE + MANAGER,
        "stat_prefix": "metrics",
        "route_config": {"name": "metrics", "virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE}envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": "metrics", "address": socket(entry.address, port), "filter_chains": [chain]}


def _admin_cluster(entry: Entry) -> Json:
    endpoint = {"endpoint": {"address": socket("127.0.0.1", entry.admin_port)}}
    return {
        "name": ADMIN,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": ADMIN, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
