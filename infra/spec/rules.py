"""Rules between two fields: each a small function with its reason and source, in one registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.spec.model import Spec
from infra.spec.problems import Fix, Problem, problem

Check = Callable[[Spec], Iterator[Problem]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    name: str
    reason: str
    source: str
    check: Check


RULES: list[Rule] = []


def rule(reason: str, source: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        RULES.append(Rule(name=check.__name__, reason=reason, source=source, check=check))
        return check

    return register


def check(spec: Spec) -> list[Problem]:
    """Every problem that the rules find in a parsed specification."""
    return [p for r in RULES for p in r.check(spec)]


@rule("The local cloud is processes on this machine.", "DESIGN: the local stack")
def local_is_vm(spec: Spec) -> Iterator[Problem]:
    if spec.cloud == "local" and spec.shape != "vm":
        yield problem(
            ("shape",),
            f"{spec.shape} does not exist where cloud is local: it runs processes",
            allowed=("vm",),
            fix=Fix(steps=("shape",), value="vm"),
        )


@rule("A load's peak is its largest value.", "definition")
def peak_above_mean(spec: Spec) -> Iterator[Problem]:
    if spec.load.peak_rps < spec.load.mean_rps:
        yield problem(
            ("load", "peak_rps"),
            f"{spec.load.peak_rps:g} is below load.mean_rps, {spec.load.mean_rps:g}",
            fix=Fix(steps=("load", "peak_rps"), value=spec.load.mean_rps),
        )


@rule("Two models of one name and version cannot be told apart.", "Triton model repository layout")
def versions_differ(spec: Spec) -> Iterator[Problem]:
    seen: dict[tuple[str, int], int] = {}
    for i, m in enumerate(spec.models):
        first = seen.setdefault((m.name, m.version), i)
        if first != i:
            free = max(x.version for x in spec.models if x.name == m.name) + 1
            yield problem(
                ("models", i, "version"),
                f"{m.name} version {m.version} is already models[{first}]",
                fix=Fix(steps=("models", i, "version"), value=free),
            )
