"""What of a stack runs on this machine now, without Pulumi: for `slipway status` and `slipway logs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.clouds.local import supervision
from infra.clouds.local.machine import running
from infra.clouds.local.probe import ask
from infra.clouds.local.root import MARKER, Root, read_json
from infra.clouds.local.supervisor import WATCH


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process of the stack."""

    name: str
    pid: int | None
    state: str  # running, or supervisord's word in lower case; "unsupervised" while its supervisord is gone
    ports: Mapping[str, int]
    log: Path
    problem: str = ""  # what a real request to it found wrong


def processes(root: Path, *, probe: bool = False) -> list[Process]:
    """supervisord, the watch and every server; [] when nothing of the stack is here. `probe`: ask each model."""
    marker = read_json(root / MARKER)
    if marker is None:
        return []
    here = Root(path=root, stack=str(marker["stack"]))
    supervisor = supervision.pid(here)
    states = supervision.states(here)
    log = here.log("supervisord")
    state = "running" if supervisor else "stopped"
    found = [Process(name="supervisord", pid=supervisor, state=state, ports={}, log=log)]
    watch = supervision.pids(here).get(WATCH)
    word = states.get(WATCH, "stopped").lower()
    found.append(Process(name=WATCH, pid=watch, state=word, ports={}, log=here.log(WATCH)))
    for path in sorted((root / "programs").glob("*.json")):
        program = read_json(path)
        if program is not None:
            found.append(_server(here, path.stem, program, states, probe))
    return found


def _server(root: Root, name: str, program: Mapping[str, object], states: Mapping[str, str], probe: bool) -> Process:
    pid = running(root, name)
    state = states.get(name, "unsupervised" if pid else "stopped").lower()
    if pid is None and state == "running":
        state = "starting"
    ports, probes = program["ports"], root.records("ModelServer").get(name, {}).get("probes", [])
    assert isinstance(ports, dict)
    assert isinstance(probes, list)
    answers = [ask(ports["http"], p) for p in probes] if probe and pid is not None else []
    problem = "; ".join(a.reason for a in answers if not a.ok)
    return Process(name=name, pid=pid, state=state, ports=ports, log=root.log(name), problem=problem)
