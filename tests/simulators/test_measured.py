"""What the real providers answered, measured, against what the simulators answer: the suite prints the percentages."""

from __future__ import annotations

import copy
import csv
import json
import re
from pathlib import Path

import pytest

from simulators.core import diff, naming, paths, planning, rules, schema, tables
from simulators.core.edits import put
from simulators.core.values import Json, Properties

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

DATA = Path(__file__).parent / "data"
BASES: dict[str, list[Properties]] = json.loads((DATA / "bases.json").read_text())
KNOWN = {"namespace": frozenset({"default", "kube-system"}), "priorityclass": frozenset({"system-node-critical"})}


def measured(name: str) -> list[dict[str, str]]:
    with (DATA / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def base(token: str, index: int) -> Properties:
    return copy.deepcopy(BASES.get(token, [{}])[index])


def problems(token: str, inputs: Properties, phases: tuple[str, ...]) -> dict[str, str]:
    """What is refused in these phases: text -> path."""
    found = [x for phase in phases for x in rules.problems(token, inputs, phase, KNOWN)]
    if "create" in phases:
        found += schema.problems(token, inputs, strict=True)
    elif "preview" in phases:
        found += [*planning.check(token, inputs), *planning.preview(token, inputs)]
    return {str(x): x.path for x in found}


def concerns(path: str, refused: str) -> bool:
    """The refusal names the property, something in it, or the object whose properties do not go together."""
    top = re.split(r"[.\[]", path)[0]
    return refused.startswith(path) or path.startswith(refused) or re.split(r"[.\[]", refused)[0] == top


def with_values(token: str, row: dict[str, str]) -> tuple[Properties, Properties, Properties]:
    old, new = base(token, int(row["base"])), base(token, int(row["base"]))
    extra = json.loads(row["extra"] or "{}")
    for name, value in extra.get("with", {}).items():
        put(old, name, value)
        put(new, name, value)
    for name, (before, after) in extra.get("also", {}).items():
        put(old, name, before)
        put(new, name, after)
    put(old, row["path"], json.loads(row["from"]))
    put(new, row["path"], json.loads(row["to"]))
    return old, new, extra.get("provider", {})


def test_changes_give_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """At least 95% of the measured single-field changes; no wrong one turns a replacement into an update."""
    rows, wrong, dangerous = measured("changes"), [], []
    for row in rows:
        old, new, config = with_values(row["type"], row)
        verdict = diff.compare(row["type"], old, new, config)
        got = "replace" if verdict.replaces else "update" if verdict.changes else "noop"
        if got != row["result"]:
            text = f"{row['type']} {row['path']} {row['from'][:40]} -> {row['to'][:40]}: {row['result']}, got {got}"
            wrong.append(text)
            if row["result"] == "replace":
                dangerous.append(text)
    share = 1 - len(wrong) / len(rows)
    with capsys.disabled():
        print(f"\nsingle-field changes as measured: {share:.1%} of {len(rows)}")
    assert dangerous == []
    assert share >= 0.95, "\n".join(wrong)


def test_deletes_first_as_measured() -> None:
    """A replacement deletes first where the real provider asks for it: the name was given, or stays."""
    wrong = []
    rows = [r for r in measured("changes") if r["result"] == "replace" and not r["type"].startswith("aws:")]
    for row in rows:
        kind = tables.kinds(tables.cloud_of(row["type"]))[row["type"]]
        old, new, _ = with_values(row["type"], row)
        if naming.delete_first(kind, old, new) != (row["delete_first"] == "yes"):
            wrong.append(f"{row['type']} {row['path']}: deletes first {row['delete_first'] or 'no'}")
    assert 1 - len(wrong) / len(rows) >= 0.85, "\n".join(wrong)


def test_wrong_inputs_are_refused_with_their_path(capsys: pytest.CaptureFixture[str]) -> None:
    """At least 90% of the measured wrong inputs, before anything is created, and the corrected value passes."""
    rows, missed, corrected_refused, corrected = measured("refused"), [], [], 0
    for row in rows:
        token, before = row["type"], ("check", "preview")
        good = base(token, 0)
        already = problems(token, good, before)
        bad = copy.deepcopy(good)
        put(bad, row["path"], json.loads(row["bad"]))
        new = {text: path for text, path in problems(token, bad, before).items() if text not in already}
        if not any(concerns(row["path"], path) for path in new.values()):
            missed.append(f"{token} {row['path']} {row['bad'][:50]} ({row['note'][:50]})")
        if row["corrected"] and row["corrected"] != "null":
            corrected += 1
            put(good, row["path"], json.loads(row["corrected"]))
            still = [t for t, path in problems(token, good, before).items() if t not in already and path == row["path"]]
            corrected_refused += [f"{token} {row['path']}: {t}" for t in still]
    share = 1 - len(missed) / len(rows)
    with capsys.disabled():
        print(f"\nwrong inputs refused with their path: {share:.1%} of {len(rows)}")
        print(f"corrected values that pass: {1 - len(corrected_refused) / corrected:.1%} of {corrected}")
    assert share >= 0.9, "\n".join(missed)
    assert len(corrected_refused) <= corrected * 0.03, "\n".join(corrected_refused)


def test_what_only_the_cloud_refuses_is_refused_at_create(capsys: pytest.CaptureFixture[str]) -> None:
    """An input that the provider lets through is refused by the cloud: at create, not at check, not in preview."""
    rows, early, missed = measured("late"), [], []
    for row in rows:
        token = row["type"]
        inputs: list[Properties] = [base(token, 0), base(token, 0)]
        put(inputs[1], row["path"], json.loads(row["bad"]))
        companion = re.search(r"with ([\w.]+)=(true|false)\b", row["note"])
        if companion:
            name = re.sub(r"_([a-z])", lambda m: m[1].upper(), companion[1])
            put(inputs[1], name, companion[2] == "true")
        before = [problems(token, i, ("check", "preview")) for i in inputs]
        late = [problems(token, i, ("check", "preview", "create")) for i in inputs]
        if set(before[1]) - set(before[0]):
            early.append(f"{token} {row['path']} {row['bad'][:40]}: {set(before[1]) - set(before[0])}")
        if not set(late[1]) - set(late[0]):
            missed.append(f"{token} {row['path']} {row['bad'][:50]} ({row['note'][:50]})")
    share = 1 - len({*early, *missed}) / len(rows)
    with capsys.disabled():
        print(f"\nrefused by the cloud only, and at create: {share:.1%} of {len(rows)}")
    assert len(early) <= len(rows) * 0.03, "\n".join(early)
    assert share >= 0.9, "\n".join([*early, *missed])


def test_unknown_fields_are_in_place_unless_a_row_says_otherwise() -> None:
    """A field that nobody measured updates in place; below a field that replaces, everything replaces."""
    token = "kubernetes:batch/v1:Job"
    value: Json = {"containers": [{"name": "c", "image": "a", "workingDir": "/x"}]}
    old: Properties = {"spec": {"template": {"spec": value}, "suspend": False}}
    new = copy.deepcopy(old)
    put(new, "spec.template.spec.containers[0].workingDir", "/y")
    assert diff.compare(token, old, new).replaces
    new = copy.deepcopy(old)
    put(new, "spec.suspend", True)
    assert diff.compare(token, old, new).changes
    assert not diff.compare(token, old, new).replaces


def test_paths_reach_every_place() -> None:
    """A pattern names every index and key; an absent leaf is named too, so that it can be required."""
    inputs: Properties = {"a": [{"b": 1}, {"c": 2}]}
    assert [paths.join(at) for at, _ in paths.places(inputs, paths.parse("a[*].b"))] == ["a[0].b", "a[1].b"]
