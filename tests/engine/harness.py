"""Runs a scenario on an engine, keeps what it did in a form that both engines share, and compares two such records.

A record of a step: the provider's calls in order, the state after it, the outputs, whether it succeeded, what it
counted. Compared are the calls of each resource, the order that dependencies and phases fix, state, outputs, success
and counts; not texts, ids, serial numbers, or the order of what is independent.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

Record = dict[str, Any]
MUTATING = ("Create", "Update", "Delete")
KEPT = (
    "urn",
    "custom",
    "type",
    "id",
    "inputs",
    "outputs",
    "parent",
    "protect",
    "external",
    "dependencies",
    "propertyDependencies",
    "delete",
    "initErrors",
    "retainOnDelete",
    "deletedWith",
    "additionalSecretOutputs",
    "pendingReplacement",
    "customTimeouts",
    "ignoreChanges",
    "replaceOnChanges",
)
CREDENTIALS = ("AWS_", "GOOGLE_", "KUBECONFIG", "PULUMI_")


class Step(Protocol):
    cmd: str
    flags: list[str]


def slim(deployment: Mapping[str, Any]) -> Record:
    """What defines a deployment, without times, versions and the ids of providers."""
    rows = []
    body = deployment.get("deployment") or {}
    for resource in body.get("resources") or []:
        row = {k: resource[k] for k in KEPT if k in resource}
        if row["type"].startswith("pulumi:providers:"):
            row["id"] = "<provider id>"
        if "provider" in resource:
            row["provider"] = re.sub(r"::[0-9a-f-]{36}$", "::<provider id>", resource["provider"])
        rows.append({k: v for k, v in row.items() if v not in (None, "", [], {}, False)})
    operations = [{"type": o["type"], "urn": o["resource"]["urn"]} for o in body.get("pending_operations") or []]
    return {"resources": rows, "pending_operations": operations}


class Bench:
    """A copy of a scenario's program and provider in a temporary folder, with its own shelf and diary."""

    def __init__(self, source: Path, folder: Path, scenario: str) -> None:
        self.folder, self.project = folder, folder / "program"
        for part in ("program", "provider"):
            shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            (folder / part).chmod(0o755)
        self.diary, self.shelf = folder / "diary", folder / "shelf.json"
        self.env = {
            "LAB_DIARY": str(self.diary),
            "LAB_SHELF": str(self.shelf),
            "LAB_PYTHON": sys.executable,
            "SCENARIO": scenario,
            "STEP": "0",
        }

    def prepare(self, place: int, step: Any) -> None:
        self.env["STEP"] = str(place)
        self.diary.write_text("")
        if not (step.shelf or step.found):
            return
        world = json.loads(self.shelf.read_text()) if self.shelf.exists() else {"serial": 0, "things": {}}
        if step.found:
            world["things"]["id-900"] = {"name": "found", "inputs": dict(step.found), "serial": "found/900"}
        for name, inputs in (step.shelf or {}).items():
            for id_, thing in list(world["things"].items()):
                if thing["name"] == name and inputs is None:
                    del world["things"][id_]
                elif thing["name"] == name:
                    thing["inputs"] = {**thing["inputs"], **inputs}
        self.shelf.write_text(json.dumps(world))

    def calls(self) -> list[Record]:
        return [json.loads(line) for line in self.diary.read_text().splitlines()]

    def things(self) -> dict[str, Record]:
        things: dict[str, Record] = json.loads(self.shelf.read_text())["things"] if self.shelf.exists() else {}
        return things


def load(name: str, file: Path) -> ModuleType:
    """A module by its file: scenarios and providers are copied about and belong to no package."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def ambient() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(CREDENTIALS)}


class Embedded:
    """The embedded engine, in this process; with `servicer` the provider is too, which saves starting it."""

    def __init__(self, bench: Bench, parallel: int = 1, servicer: object | None = None) -> None:
        self.bench, self.parallel = bench, parallel
        self.providers: dict[str, Any] = {} if servicer is None else {"lab": servicer}

    def step(self, place: int, step: Step) -> Record:
        from engine import Request, export_state, run

        self.bench.prepare(place, step)
        state = self.bench.folder / "state"
        result = run(
            Request(
                command=step.cmd,  # type: ignore[arg-type]
                project=self.bench.project,
                stack="dev",
                state_dir=state,
                parallel=self.parallel,
                env=self.bench.env,
                providers=self.providers,
                warm=bool(self.providers),  # those with executables start as a person's runs do
                continue_on_error="--continue-on-error" in step.flags,
                expect_no_changes="--expect-no-changes" in step.flags,
            )
        )
        record: Record = {
            "exit_is_zero": result.ok,
            "provider_calls": self.bench.calls(),
            "state": slim(export_state(self.bench.project, "dev", state, show_secrets=True) if state.exists() else {}),
            "outputs": {} if step.cmd == "preview" else dict(result.outputs),
            "changes": dict(result.changes),
            "errors": list(result.errors),
        }
        if step.cmd == "preview":
            record["preview"] = {s.urn: s.op for s in result.steps if s.op not in ("same", "delete-replaced")}
            record["reasons"] = {s.urn: sorted(s.keys) for s in result.steps if s.op == "replace"}
        return record


class Cli:
    """The real Pulumi CLI with a file backend, for recordings and for runs beside the embedded engine."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.env = {
            **ambient(),
            **bench.env,
            "PULUMI_HOME": str(bench.folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{bench.folder}",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
            "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.pulumi("stack", "init", "dev", check=True)

    def pulumi(self, *args: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", *args], cwd=self.bench.project, env=self.env, capture_output=True, text=True, check=check
        )

    def step(self, place: int, step: Step) -> Record:
        self.bench.prepare(place, step)
        self.env.update(self.bench.env)
        flags = ["--json"] if step.cmd == "preview" else ["--yes", "--skip-preview"]
        command = ["pulumi", step.cmd, "--stack", "dev", "--non-interactive", "--parallel", "1", *step.flags, *flags]
        process = subprocess.Popen(
            command,
            cwd=self.bench.project,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        out, err = process.communicate()
        record: Record = {
            "exit_is_zero": process.returncode == 0,
            "provider_calls": self.bench.calls(),
            "state": slim(json.loads(self.pulumi("stack", "export", "--show-secrets", "--stack", "dev").stdout)),
            "outputs": {}
            if step.cmd == "preview"
            else json.loads(
                self.pulumi("stack", "output", "--json", "--show-secrets", "--stack", "dev").stdout or "{}"
            ),
            "changes": counts(re.sub(r"\x1b\[[0-9;]*m", "", out)),
            "errors": sorted({line.strip() for line in (out + err).splitlines() if "error:" in line})[:6],
        }
        if step.cmd == "preview" and process.returncode == 0:
            told = json.loads(out)
            record["preview"] = {s["urn"]: s["op"] for s in told.get("steps", []) if s["op"] != "same"}
            record["reasons"] = {
                s["urn"]: sorted(s["replaceReasons"]) for s in told.get("steps", []) if s.get("replaceReasons")
            }
            record["changes"] = told.get("changeSummary") or {}
        return record


WORDS = {
    "created": "create",
    "updated": "update",
    "replaced": "replace",
    "deleted": "delete",
    "unchanged": "same",
    "imported": "import",
    "read": "read",
}


def counts(text: str | Iterable[str]) -> dict[str, int]:
    """The CLI's summary (`+ 2 created`, `1 unchanged`) as numbers."""
    lines = text if isinstance(text, str) else "\n".join(text)
    part = lines.rpartition("Resources:")[2] if "Resources:" in lines else lines
    return {WORDS[word]: int(n) for n, word in re.findall(r"(\d+) (" + "|".join(WORDS) + r")\b", part)}


# Comparison.


def blur(value: Any) -> Any:
    """Ids and serial numbers depend on the order of independent resources."""
    if isinstance(value, str):
        return re.sub(r"/\d+\b", "/N", re.sub(r"\bid-\d+\b", "id-N", value))
    if isinstance(value, list):
        return [blur(v) for v in value]
    if isinstance(value, dict):
        return {k: blur(v) for k, v in value.items()}
    return value


def per_resource(calls: Iterable[Record]) -> Counter[str]:
    """How often each resource saw which call; a repeated Diff says nothing, nor a default provider's DiffConfig."""
    found: Counter[str] = Counter()
    for call in calls:
        if call["call"] == "DiffConfig" and call["name"].startswith("default"):
            continue
        key = json.dumps(blur({k: v for k, v in call.items() if k != "id"}), sort_keys=True)
        found[key] = 1 if call["call"] == "Diff" else found[key] + 1
    return found


def related(*states: Record) -> dict[str, set[str]]:
    """For each resource name those that it needs, directly or not, in any of the states."""
    direct: dict[str, set[str]] = {}
    for state in states:
        for row in state["resources"]:
            urns = [
                *row.get("dependencies", []),
                *(u for d in row.get("propertyDependencies", {}).values() for u in d),
                row.get("parent", ""),
            ]
            direct.setdefault(row["urn"].rsplit("::", 1)[1], set()).update(u.rsplit("::", 1)[1] for u in urns if u)
    for _ in direct:
        for name, needs in direct.items():
            direct[name] = needs | {far for near in needs for far in direct.get(near, set())} - {name}
    return direct


def fixed_order(calls: Sequence[Record], needs: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    """Pairs of calls whose order is no accident: of one resource, of related ones, a delete after all else."""
    changing = [(c["call"], c["name"]) for c in calls if c["call"] in MUTATING and not c.get("preview")]
    pairs = set()
    for place, (first, a) in enumerate(changing):
        for second, b in changing[place + 1 :]:
            tied = a == b or b in needs.get(a, set()) or a in needs.get(b, set())
            if tied or (second == "Delete" and first != "Delete"):
                pairs.add((f"{first} {a}", f"{second} {b}"))
    return pairs


def differences(got: Record, want: Record, before: Record | None = None) -> list[str]:
    """Empty when both did the same."""
    found = []
    for what in ("exit_is_zero", "outputs"):
        if blur(got[what] or {}) != blur(want[what] or {}):
            found.append(f"{what}: {got[what]} instead of {want[what]}")
    ours, pulumis = per_resource(got["provider_calls"]), per_resource(want["provider_calls"])
    accident = () if want["exit_is_zero"] else ('"call": "Diff"',)  # of what is independent of the failure
    found += [
        f"call {k}: {ours[k]} instead of {pulumis[k]}"
        for k in sorted({*ours, *pulumis})
        if ours[k] != pulumis[k] and not any(a in k for a in accident)
    ]
    needs = related(want["state"], *([before["state"]] if before else []))
    wrong = fixed_order(got["provider_calls"], needs) - fixed_order(want["provider_calls"], needs)
    reverse = {(b, a) for a, b in fixed_order(want["provider_calls"], needs)}
    found += [f"order: {a} before {b}" for a, b in sorted(wrong & reverse)]
    found += _rows(got["state"], want["state"])
    for what in ("changes", "preview", "reasons"):
        if what == "changes" and not want["exit_is_zero"]:
            continue  # how far others had come when the failure stopped them is an accident
        mine, theirs = (_counted(r.get(what)) if what == "changes" else r.get(what) for r in (got, want))
        if what in want and mine != theirs:
            found.append(f"{what}: {mine} instead of {theirs}")
    return found


def _counted(changes: Mapping[str, int] | None) -> dict[str, int]:
    """The CLI tells of things that are only read in some summaries and not in others."""
    return {op: n for op, n in (changes or {}).items() if op not in ("read", "discard")}


def _rows(got: Record, want: Record) -> list[str]:
    mine = {r["urn"] + str(r.get("delete", "")): _ordered(blur(r)) for r in got["resources"]}
    theirs = {r["urn"] + str(r.get("delete", "")): _ordered(blur(r)) for r in want["resources"]}
    found = [
        f"state {k}: {mine.get(k)} instead of {theirs.get(k)}"
        for k in sorted({*mine, *theirs})
        if mine.get(k) != theirs.get(k)
    ]
    there: set[str] = set()
    for row in got["resources"]:
        urns = [*row.get("dependencies", []), row.get("parent", ""), row.get("provider", "").rpartition("::")[0]]
        found += [f"state: {row['urn']} stands before {u}, which it needs" for u in urns if u and u not in there]
        there.add(row["urn"])
    if got["pending_operations"] != want["pending_operations"]:
        found.append(f"pending: {got['pending_operations']} instead of {want['pending_operations']}")
    return found


def _ordered(row: Record) -> Record:
    return {k: sorted(v) if k == "dependencies" else v for k, v in row.items()}
