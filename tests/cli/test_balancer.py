"""The wait between the two updates of a switch: what the load balancer is asked, and what becomes of its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cli import balancer, lifecycle
from cli.engines.base import Command, Deployment, Event, OnEvent, Outcome
from cli.errors import CliError
from cli.project import find
from cli.session import Session
from infra.plan import transition
from stacks.past import announcement
from stacks.standing import Generation, pack
from tests.plan.stacks import plan

ROOT = Path(__file__).resolve().parents[2]
URN = "urn:pulumi:gce-gpu::slipway::{type}::{name}"
GROUPS = "https://www.googleapis.com/compute/v1/projects/p/regions/us-central1/instanceGroups/"
NEW, OLD = "aaaaaaaa", "bbbbbbbb"


def row(kind: str, name: str, **outputs: Any) -> dict[str, Any]:
    own = {"name": f"gce-gpu-{name}", "project": "p", "region": "us-central1"}
    return {"urn": URN.format(type=kind, name=name), "type": kind, "custom": True, "outputs": {**own, **outputs}}


def deployment(*generations: str, **outputs: Any) -> Deployment:
    groups = [row(balancer.GROUP, f"base-{g}", instanceGroup=f"{GROUPS}gce-gpu-base-{g}") for g in generations]
    behind = [{"group": g["outputs"]["instanceGroup"]} for g in groups]
    services = [row(balancer.SERVICE, name, backends=behind) for name in ("http", "grpc")]
    stack = {"urn": URN.format(type="pulumi:pulumi:Stack", name="s"), "type": "pulumi:pulumi:Stack", "outputs": outputs}
    return {"version": 3, "deployment": {"resources": [stack, *groups, *services]}}


@dataclass
class Balancer:
    """Answers as the API does: a state for each machine of a group, other ones each time it is asked."""

    answers: list[list[str]]
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def __call__(self, url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((url, body))
        states = self.answers[min(len(self.asked) - 1, len(self.answers) - 1)]
        rows = [{"ipAddress": f"10.0.0.{i}", "port": 8000, "healthState": s} for i, s in enumerate(states)]
        return {"kind": "compute#backendServiceGroupHealth", **({"healthStatus": rows} if rows else {})}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "PAUSE_S", 0.0)


def test_every_service_is_asked_for_the_new_groups_alone() -> None:
    ask = Balancer([["HEALTHY"]])
    found = balancer.backends(deployment(OLD, NEW), NEW)
    assert balancer.wait(found, ask, within_s=0, tell=print) == []
    assert [(url.rsplit("/", 2)[1], body) for url, body in ask.asked] == [
        (f"gce-gpu-{name}", {"group": f"{GROUPS}gce-gpu-base-{NEW}"}) for name in ("http", "grpc")
    ]


def test_it_waits_until_every_machine_is_healthy_and_says_so_once() -> None:
    """A group without an answer has no machine yet."""
    told: list[str] = []
    ask = Balancer([[], ["HEALTHY"], ["HEALTHY", "UNHEALTHY"], ["HEALTHY"], ["HEALTHY", "HEALTHY"]])
    found = balancer.backends(deployment(NEW), NEW)
    assert balancer.wait(found, ask, within_s=60, tell=told.append) == []
    assert told == [
        f"gce-gpu-http: 0 of 0 machines of gce-gpu-base-{NEW} are healthy",
        f"gce-gpu-http: 1 of 2 machines of gce-gpu-base-{NEW} are healthy",
    ]


def test_it_gives_up_with_what_is_missing() -> None:
    found = balancer.backends(deployment(NEW), NEW)
    lacking = balancer.wait(found, Balancer([["UNHEALTHY"]]), within_s=0, tell=print)
    assert lacking == [f"gce-gpu-{s}: 0 of 1 machines of gce-gpu-base-{NEW} are healthy" for s in ("http", "grpc")]


def test_the_question_is_one_that_the_api_has() -> None:
    cache = pytest.importorskip(
        "googleapiclient.discovery_cache", reason="google-api-python-client is not installed (extra `simulators`)"
    )
    document = json.loads((Path(cache.__file__).parent / "documents/compute.v1.json").read_text())
    method = document["resources"]["regionBackendServices"]["methods"]["getHealth"]
    path = document["rootUrl"] + document["servicePath"] + method["path"]
    filled = path.format(project="p", region="us-central1", backendService="gce-gpu-http")
    assert balancer.backends(deployment(NEW), NEW)[0].url in (filled, filled.replace("www.", "compute."))
    assert method["httpMethod"] == "POST"
    assert "group" in document["schemas"][method["request"]["$ref"]]["properties"]
    answer = document["schemas"][method["response"]["$ref"]]["properties"]["healthStatus"]["items"]["$ref"]
    assert "HEALTHY" in document["schemas"][answer]["properties"]["healthState"]["enum"]


@dataclass
class Engine:
    """An engine whose next update ends with the next outputs."""

    outputs: list[dict[str, Any]]
    runs: int = 0
    name: str = "pulumi"

    def export(self, stack: str) -> Deployment | None:
        return deployment(OLD, NEW, **self.outputs[min(self.runs, len(self.outputs) - 1)])

    def replace(self, stack: str, deployment: Deployment) -> None:
        raise AssertionError("nothing edits the state here")

    def run(self, command: Command, stack: str, config: Mapping[str, str], on_event: OnEvent) -> Outcome:
        self.runs += 1
        return Outcome(ok=True, outputs=self.outputs[self.runs])

    def settle(self, stack: str) -> list[str]:
        return []

    def forget(self, stack: str) -> None:
        raise AssertionError("nothing is forgotten here")


WIDE, TALL = plan("gce-gpu", scaling="horizontal"), plan("gce-gpu", scaling="vertical")
BEFORE, AFTER = (Generation(digest=d, plan=p, told={}) for d, p in ((OLD, WIDE), (NEW, TALL)))
HALF = {"plan": TALL.to_json(), "generation": NEW, "machines": [pack(AFTER), pack(BEFORE)]}
WHOLE = {"plan": TALL.to_json(), "generation": NEW, "machines": [pack(AFTER)]}


def session(*outputs: dict[str, Any]) -> tuple[Session, Engine]:
    engine = Engine(outputs=list(outputs))
    return Session(project=find(ROOT), stack="gce-gpu", engine=engine), engine


def answering(monkeypatch: pytest.MonkeyPatch, *states: str) -> None:
    monkeypatch.setattr(balancer, "asking", lambda: Balancer([list(states)]))


def test_a_healthy_switch_ends_with_a_second_update(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "HEALTHY", "HEALTHY")
    now, engine = session(HALF, WHOLE)
    ended = lifecycle.retire(now, Outcome(ok=True, outputs=HALF), TALL)
    assert (ended.ok, engine.runs, len(ended.outputs["machines"])) == (True, 1, 1)


def test_a_switch_whose_machines_do_not_serve_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "HEALTHY", "UNHEALTHY")
    now, engine = session(HALF, WHOLE)
    monkeypatch.setattr(lifecycle, "limit_s", lambda plan: 0.0)
    ended = lifecycle.retire(now, Outcome(ok=True, outputs=HALF), TALL)
    assert (ended.ok, engine.runs) == (False, 0)
    assert "1 of 2 machines" in ended.errors[0]
    assert ended.errors[-1] == lifecycle.NOTHING_TAKEN


def test_a_failed_first_update_has_no_second_and_one_update_is_enough_elsewhere() -> None:
    now, engine = session(HALF, WHOLE)
    failed = Outcome(ok=False, outputs=HALF, errors=("no",))
    assert lifecycle.retire(now, failed, TALL) is failed
    one = Outcome(ok=True, outputs=WHOLE)
    assert lifecycle.retire(now, one, TALL) is one
    assert engine.runs == 0


def test_an_up_that_retires_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a plain `pulumi up` nobody has looked yet whether the new machines serve."""
    answering(monkeypatch, "UNHEALTHY")
    monkeypatch.setattr(lifecycle, "limit_s", lambda plan: 0.0)
    with pytest.raises(CliError, match="0 of 1 machines"):
        lifecycle.may_retire(session(HALF)[0], TALL)
    lifecycle.may_retire(session(HALF)[0], WIDE)  # it goes back: nothing is retired
    lifecycle.may_retire(session(WHOLE)[0], TALL)


@dataclass
class Talking(Engine):
    """One whose program says what it is about to do, as the command has done before."""

    def run(self, command: Command, stack: str, config: Mapping[str, str], on_event: OnEvent) -> Outcome:
        for text in (announcement(transition(WIDE, TALL)), "something else"):
            on_event(Event(kind="message", text=f"{text}\n"))
        return Outcome(ok=True)


def test_the_transition_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints it before it asks, and the program says it to whoever runs Pulumi: a person reads it once."""
    engine = Talking(outputs=[{"plan": WIDE.to_json(), "generation": OLD, "machines": [pack(BEFORE)]}])
    now = Session(project=find(ROOT), stack="gce-gpu", engine=engine)
    told = lifecycle.say_transition(now, TALL)
    lifecycle.run(now, "up", told=told)
    said = capsys.readouterr().out
    assert said.count(f"serving {TALL.generation}") == 1
    assert said.count("in two updates") == 1
    assert "something else" in said
