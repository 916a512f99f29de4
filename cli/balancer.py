"""What Google's load balancer says of a stack's new machines: asked between the two updates of a switch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cli.engines.base import Deployment, resources
from cli.google import answered, session

HEALTH = (
    "https://compute.googleapis.com/compute/v1/projects/{project}/regions/{region}/backendServices/{name}/getHealth"
)
SERVICE = "gcp:compute/regionBackendService:RegionBackendService"
GROUP = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
PAUSE_S = 5.0  # the balancer's own checks are no closer
Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]  # address and body to the answer's JSON


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One group of machines behind one backend service."""

    url: str
    service: str
    group: str  # its address
    name: str


def backends(deployment: Deployment | None, generation: str) -> list[Backend]:
    """Those of one generation, whose digest is in the names of its groups."""
    rows = resources(deployment)
    groups = {
        str(r["outputs"]["instanceGroup"]): str(r["outputs"]["name"])
        for r in rows
        if r["type"] == GROUP and generation in r["urn"].rpartition("::")[2]
    }
    return [
        Backend(
            url=HEALTH.format(project=made["project"], region=made["region"], name=made["name"]),
            service=str(made["name"]),
            group=group,
            name=groups[group],
        )
        for made in (r["outputs"] for r in rows if r["type"] == SERVICE)
        for group in [str(b["group"]) for b in made.get("backends") or ()]
        if group in groups
    ]


def wanting(found: list[Backend], ask: Ask) -> Iterator[str]:
    """Why not all of them serve yet; nothing: they do."""
    for backend in found:
        states = [s.get("healthState", "UNKNOWN") for s in _states(backend, ask)]
        healthy = states.count("HEALTHY")
        if not states or healthy < len(states):
            yield f"{backend.service}: {healthy} of {len(states)} machines of {backend.name} are healthy"


def wait(found: list[Backend], ask: Ask, *, within_s: float, tell: Callable[[str], None]) -> list[str]:
    """Until the balancer reports every machine healthy; what is missing when the time is over."""
    until, told = time.monotonic() + within_s, ""
    while lacking := list(wanting(found, ask)):
        if time.monotonic() >= until:
            return lacking
        if (said := "; ".join(lacking)) != told:
            tell(said)
            told = said
        time.sleep(PAUSE_S)
    return []


def _states(backend: Backend, ask: Ask) -> list[Mapping[str, Any]]:
    return list(ask(backend.url, {"group": backend.group}).get("healthStatus") or ())


def asking() -> Ask:
    """With this machine's credentials."""
    post = session("compute.readonly").post
    return lambda url, body: answered(post, url, "To fix: the role Compute Viewer", json=body)
