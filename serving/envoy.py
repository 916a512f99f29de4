"""Envoy: the entry's configuration, which lets inference through and nothing else, and its endpoint files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from serving.envoy_cluster import GRPC, HTTP, TYPE, Json, cluster, seconds
from serving.facts import facts

NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
MODEL = f"/v2/models/{NAME}(/versions/[0-9]+)?"
# What a client may ask: method, path. Everything else is refused: loading models, shared memory, trace and log
# settings, statistics of other users' requests.
HTTP_ROUTES = (
    ("POST", f"{MODEL}/infer"),
    ("GET", MODEL),
    ("GET", f"{MODEL}/ready"),
    ("GET", "/v2/health/(live|ready)"),
    ("GET", "/v2/?"),
)
HTTP_REFUSED = ("/v2/models/stats",)  # has the form of a model's name
GRPC_SERVICE = "/inference.GRPCInferenceService"
GRPC_METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelStreamInfer",
)
REFUSAL = "this entry serves predictions only: infer, ready and metadata of a model, health and metadata of the server"
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
BUFFER = "envoy.extensions.filters.http.buffer.v3."


__all__ = ["GRPC", "HTTP", "Endpoint", "Entry", "arguments", "bootstrap", "endpoints"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where the entry listens and how long a request may take."""

    address: str
    http_port: int
    grpc_port: int
    admin_port: int  # always on the loopback
    endpoints_folder: str  # of http.json and grpc.json, as Envoy sees it
    max_request_s: float
    node: str


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One server; a draining one gets no new requests and finishes those it has."""

    address: str
    port: int
    health_port: int  # of the health URL, plain HTTP
    draining: bool = False


def bootstrap(entry: Entry) -> str:
    """The configuration file, as JSON."""
    config: Json = {
        "node": {"id": entry.node, "cluster": "slipway"},
        "admin": {"address": _socket("127.0.0.1", entry.admin_port)},
        "static_resources": {
            "listeners": [
                _listener(entry, HTTP, entry.http_port, "AUTO", _http_routes(entry)),
                _listener(entry, GRPC, entry.grpc_port, "HTTP2", _grpc_routes(entry)),
            ],
            "clusters": [
                cluster(HTTP, entry.endpoints_folder, {"http_protocol_options": {}}),
                cluster(GRPC, entry.endpoints_folder, {"http2_protocol_options": {}}),
            ],
        },
    }
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
                            "address": _socket(s.address, s.port),
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


def _socket(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def _timeout(entry: Entry) -> str:
    return seconds(entry.max_request_s * 1000 + facts("envoy")["timeout_margin_ms"])


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
        "address": _socket(entry.address, port),
        # A request is kept until its answer begins, to be sent again elsewhere; what is longer than this is not.
        "per_connection_buffer_limit_bytes": numbers["max_request_bytes"],
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _http_routes(entry: Entry) -> list[Json]:
    refused = [_refuse({"path": path}) for path in HTTP_REFUSED]
    allowed = [
        _route(entry, HTTP, {"safe_regex": {"regex": path}, "headers": [_method(method)]}, "5xx")
        for method, path in HTTP_ROUTES
    ]
    return [*refused, *allowed, _refuse({"prefix": "/"})]


def _grpc_routes(entry: Entry) -> list[Json]:
    # The last three are gRPC statuses: what a stopping server or a dead Python stub answers.
    statuses = "5xx,unavailable,internal,cancelled"
    allowed = [
        _route(entry, GRPC, {"path": f"{GRPC_SERVICE}/{method}", "grpc": {}}, statuses) for method in GRPC_METHODS
    ]
    # A stream has no end to wait for: it is passed on as it comes.
    stream = next(r for r, method in zip(allowed, GRPC_METHODS, strict=True) if method == "ModelStreamInfer")
    unbuffered: Json = {"@type": f"{TYPE}{BUFFER}BufferPerRoute", "disabled": True}
    stream["typed_per_filter_config"] = {"envoy.filters.http.buffer": unbuffered}
    return [*allowed, _refuse({"prefix": "/"})]


def _method(method: str) -> Json:
    return {"name": ":method", "string_match": {"exact": method}}


def _refuse(match: Json) -> Json:
    return {
        "match": match,
        "direct_response": {"status": 403, "body": {"inline_string": json.dumps({"error": REFUSAL}) + "\n"}},
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _route(entry: Entry, to: str, match: Json, retry_on: str) -> Json:
    previous_hosts: Json = {
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {"@type": f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
    }
    tries = facts("envoy")["num_retries"]
    return {
        "match": match,
        "route": {
            "cluster": to,
            "timeout": _timeout(entry),
            "retry_policy": {
                "retry_on": f"{retry_on},reset,connect-failure,refused-stream",
                "num_retries": tries,
                "retry_back_off": {
                    "base_interval": seconds(facts("envoy")["retry_base_ms"]),
                    "max_interval": seconds(facts("envoy")["retry_max_ms"]),
                },
                "retry_host_predicate": [previous_hosts],
                "host_selection_retry_max_attempts": tries,
            },
        },
    }
