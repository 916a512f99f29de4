"""Envoy: what a client may ask of each kind of server; everything else is refused at the entry."""

from __future__ import annotations

import json
from dataclasses import dataclass

from serving.envoy_cluster import BY_ID, GRPC, HTTP, TYPE, Json, seconds
from serving.facts import facts

NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
MODEL = f"/v2/models/{NAME}(/versions/[0-9]+)?"
TF_MODEL = f"/v1/models/{NAME}(/(versions/[0-9]+|labels/[A-Za-z0-9_]+))?"
TF_BY_ID = f"/v1/models/{NAME}_by_id"
BUFFER = "envoy.extensions.filters.http.buffer.v3."


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The predictions of one kind of server, over both protocols."""

    http: tuple[tuple[str, str], ...]  # method, path
    http_refused: tuple[str, ...]  # paths that have the form of an allowed one
    grpc_service: str
    grpc_methods: tuple[str, ...]
    streams: tuple[str, ...]  # methods without an end to wait for
    refusal: str


# Not among them: loading models, shared memory, trace and log settings, statistics of other users' requests.
V2 = Interface(
    http=(
        ("POST", f"{MODEL}/infer"),
        ("GET", MODEL),
        ("GET", f"{MODEL}/ready"),
        ("GET", "/v2/health/(live|ready)"),
        ("GET", "/v2/?"),
    ),
    http_refused=("/v2/models/stats",),  # has the form of a model's name
    grpc_service="/inference.GRPCInferenceService",
    grpc_methods=(
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelInfer",
        "ModelStreamInfer",
    ),
    streams=("ModelStreamInfer",),
    refusal=(
        "this entry serves predictions only: infer, ready and metadata of a model, health and metadata of the server"
    ),
)
# Not among them: ModelService, which replaces the configuration; SessionService, which runs any part of a graph; the
# profiler; the metrics, which TensorFlow Serving has on the port of its predictions.
TF_SERVING = Interface(
    http=(
        ("POST", f"{TF_MODEL}:(predict|classify|regress)"),
        ("GET", TF_MODEL),
        ("GET", f"{TF_MODEL}/metadata"),
    ),
    http_refused=(),
    grpc_service="/tensorflow.serving.PredictionService",
    grpc_methods=("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"),
    streams=(),
    refusal="this entry serves predictions only: predict, classify, regress, status and metadata of a model",
)


def by_id_routes(max_request_s: float) -> list[Json]:
    """To what looks features up beside servers that cannot; tried first, as the servers' own routes look alike."""
    paths = (("POST", f"{TF_BY_ID}(/(versions/[0-9]+|labels/[A-Za-z0-9_]+))?:predict"), ("GET", TF_BY_ID))
    return [
        _route(max_request_s, BY_ID, {"safe_regex": {"regex": path}, "headers": [_method(method)]}, "5xx")
        for method, path in paths
    ]


def http_routes(interface: Interface, max_request_s: float) -> list[Json]:
    refused = [_refuse({"path": path}, interface) for path in interface.http_refused]
    allowed = [
        _route(max_request_s, HTTP, {"safe_regex": {"regex": path}, "headers": [_method(method)]}, "5xx")
        for method, path in interface.http
    ]
    return [*refused, *allowed, _refuse({"prefix": "/"}, interface)]


def grpc_routes(interface: Interface, max_request_s: float) -> list[Json]:
    # The last three are gRPC statuses: what a stopping server or a dead Python stub answers.
    statuses = "5xx,unavailable,internal,cancelled"
    unbuffered: Json = {"@type": f"{TYPE}{BUFFER}BufferPerRoute", "disabled": True}
    routes = []
    for method in interface.grpc_methods:
        match: Json = {"path": f"{interface.grpc_service}/{method}", "grpc": {}}
        route = _route(max_request_s, GRPC, match, statuses)
        if method in interface.streams:  # it is passed on as it comes
            route["typed_per_filter_config"] = {"envoy.filters.http.buffer": unbuffered}
        routes.append(route)
    return [*routes, _refuse({"prefix": "/"}, interface)]


def _method(method: str) -> Json:
    return {"name": ":method", "string_match": {"exact": method}}


def _refuse(match: Json, interface: Interface) -> Json:
    return {
        "match": match,
        "direct_response": {"status": 403, "body": {"inline_string": json.dumps({"error": interface.refusal}) + "\n"}},
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _route(max_request_s: float, to: str, match: Json, retry_on: str) -> Json:
    previous_hosts: Json = {
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {"@type": f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
    }
    tries = facts("envoy")["num_retries"]
    return {
        "match": match,
        "route": {
            "cluster": to,
            "timeout": seconds(max_request_s * 1000 + facts("envoy")["timeout_margin_ms"]),
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
