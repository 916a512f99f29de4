"""What the entries of machines route is what Envoy routes in front of pods, and no more."""

from __future__ import annotations

import re

import pytest

from infra.plan.predictions import asked, passes_unread
from serving.envoy_routes import TF_SERVING, V2, Interface

SERVERS = {"triton": V2, "tf-serving": TF_SERVING}
NEVER = [  # of both servers: control, statistics, measurements, and what is no request of theirs
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/digits/load"),
    ("POST", "/v2/repository/models/digits/unload"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/digits/stats"),
    ("GET", "/v2/models/digits/config"),
    ("POST", "/v2/models/digits/trace/setting"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/cudasharedmemory/region/a/register"),
    ("GET", "/metrics"),
    ("GET", "/monitoring/prometheus/metrics"),
    ("GET", "/"),
]
ASKED = {
    "triton": [
        ("POST", "/v2/models/digits/infer"),
        ("POST", "/v2/models/digits/versions/3/infer"),
        ("GET", "/v2/models/digits"),
        ("GET", "/v2/models/digits/versions/3"),
        ("GET", "/v2/models/digits/ready"),
        ("GET", "/v2/models/digits/versions/3/ready"),
        ("GET", "/v2/health/ready"),
        ("GET", "/v2/health/live"),
        ("GET", "/v2"),
    ],
    "tf-serving": [
        *(("POST", f"/v1/models/digits{which}:{verb}")
          for which in ("", "/versions/3", "/labels/canary") for verb in ("predict", "classify", "regress")),
        *(("GET", f"/v1/models/digits{which}{end}")
          for which in ("", "/versions/3", "/labels/canary") for end in ("", "/metadata")),
    ],
}  # fmt: skip


def routed(server: str, method: str, path: str) -> bool:
    """As a load balancer reads the table: the first row that fits decides, else it is refused."""
    for row in asked(server, "http"):
        form = "[^/]+".join(re.escape(part) for part in row.path.split("*"))
        if row.method == method and re.fullmatch(form, path):
            return row.allowed
    return False


def envoy(interface: Interface, method: str, path: str) -> bool:
    fits = any(m == method and re.fullmatch(p, path) for m, p in interface.http)
    return fits and path not in interface.http_refused


@pytest.mark.parametrize("server", SERVERS)
def test_both_entries_let_the_same_requests_in(server: str) -> None:
    interface = SERVERS[server]
    for method, path in [*NEVER, *(r for paths in ASKED.values() for r in paths)]:
        assert routed(server, method, path) == envoy(interface, method, path), f"{method} {path}"
    assert all(routed(server, *request) for request in ASKED[server])
    assert not any(routed(server, *request) for request in NEVER)


@pytest.mark.parametrize("server", SERVERS)
def test_every_row_is_one_of_envoys_kinds_of_request(server: str) -> None:
    """And each kind of Envoy's is asked for above, so that none is forgotten."""
    interface = SERVERS[server]
    reached = {p for m, p in interface.http for method, path in ASKED[server] if m == method and re.fullmatch(p, path)}
    assert reached == {p for _, p in interface.http}
    assert {r.path for r in asked(server, "grpc")} == {f"{interface.grpc_service}/{m}" for m in interface.grpc_methods}
    assert {r.path for r in asked(server, "http") if not r.allowed} == set(interface.http_refused)


def test_only_a_port_that_guards_its_control_is_passed_on_unread() -> None:
    assert passes_unread("triton")
    assert not passes_unread("tf-serving"), "ModelService replaces the configuration on the port of the predictions"
