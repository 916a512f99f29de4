"""Fault rules on the command line: `KIND[@N][,type=GLOB][,name=GLOB][,op=OP][,skip=N][,times=N][,phase=PHASE]`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from cli.errors import USAGE, CliError
from simulators.core.faults import KINDS, Fault

SWITCH = "fail-switch"
OPERATIONS = ("create", "update", "delete", "*")
NUMBERS = ("skip", "times")
WORDS = {"op": "operation"}  # on the command line -> in the simulators' rule
FORM = "KIND[@N][,type=GLOB][,name=GLOB][,op=create|update|delete|*][,skip=N][,times=N][,message=TEXT][,phase=PHASE]"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A fault as it was asked for; without a phase it waits from the first one on."""

    text: str
    fault: Fault
    phase: str = ""

    @property
    def struck(self) -> bool:
        return self.fault.seen > self.fault.skip


def parse(texts: Iterable[str], phases: Sequence[str]) -> tuple[Rule, ...]:
    """Every rule, or every problem of them."""
    rules: list[Rule] = []
    problems: list[str] = []
    for text in texts:
        try:
            rules.append(_rule(text, phases))
        except ValueError as e:
            problems.append(f"--fault {text}: {e}")
    if problems:
        raise CliError([*problems, f"To fix: {FORM}"], USAGE)
    return tuple(rules)


def of_phase(rules: Sequence[Rule], phase: str) -> list[int]:
    """Which rules may act in a phase."""
    return [i for i, rule in enumerate(rules) if rule.phase in ("", phase)]


def rows(rules: Sequence[Rule], which: Sequence[int]) -> list[dict[str, Any]]:
    return [asdict(rules[i].fault) for i in which]


def counted(rules: Sequence[Rule], which: Sequence[int], after: Sequence[Fault]) -> tuple[Rule, ...]:
    """The rules with what a run counted on them."""
    found = list(rules)
    for i, fault in zip(which, after, strict=True):
        found[i] = replace(rules[i], fault=fault)
    return tuple(found)


def killed(before: Sequence[Rule], after: Sequence[Rule]) -> bool:
    """Whether a rule killed the engine in the run between."""
    return any(a.fault.kind == "killed" and _acted(b.fault, a.fault) for b, a in zip(before, after, strict=True))


def _acted(before: Fault, after: Fault) -> bool:
    """Whether it struck between two counts: operations that ran beside the struck one are counted after it."""
    passed = max(before.seen, after.skip)
    return after.seen > passed and (after.times == 0 or passed < after.skip + after.times)


def _rule(text: str, phases: Sequence[str]) -> Rule:
    head, *parts = text.split(",")
    kind, at, number = head.strip().partition("@")
    values: dict[str, Any] = {}
    phase = ""
    if at:
        values |= {"skip": _number("@", number, least=1) - 1, "operation": "*"}
    if kind == SWITCH:
        kind, phase = "fail", "switch"
        values.setdefault("operation", "*")
    for part in parts:
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals:
            raise ValueError(f"'{part}' is not of the form key=value")
        if key == "phase":
            phase = value
        else:
            values[WORDS.get(key, key)] = _number(key, value, least=0) if key in NUMBERS else value
    known = {f.name for f in fields(Fault)} - {"kind", "seen"}
    strange = sorted(set(values) - known)
    if kind not in KINDS:
        raise ValueError(f"no kind '{kind}'; allowed: {', '.join(sorted((*KINDS, SWITCH)))}")
    if strange:
        raise ValueError(f"no key '{strange[0]}'; allowed: {', '.join(sorted({*known, 'op', 'phase'}))}")
    if values.get("operation", "create") not in OPERATIONS:
        raise ValueError(f"op '{values['operation']}' is none; allowed: {', '.join(OPERATIONS)}")
    if phase and phase not in phases:
        raise ValueError(f"phase '{phase}' is not in the scenario; allowed: {', '.join(dict.fromkeys(phases))}")
    return Rule(text=text, fault=Fault(kind=kind, **values), phase=phase)


def _number(key: str, text: str, *, least: int) -> int:
    if not text.isdigit() or int(text) < least:
        raise ValueError(f"{key}: '{text}' is no number from {least} on")
    return int(text)
