"""Which values a provider or a cloud refuses, by the rows of rules_<cloud>.csv and their phase."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from simulators.core import checks, parents, paths, tables
from simulators.core.values import UNKNOWN, Json, Properties

PHASES = ("check", "preview", "create")  # the provider before the plan, while planning, and only the cloud itself


@dataclass(frozen=True, kw_only=True)
class Problem:
    """`path` is the property as the program wrote it."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


def problems(
    token: str, inputs: Properties, phase: str, context: Mapping[str, frozenset[str]] | None = None
) -> tuple[Problem, ...]:
    """All problems of one phase; `context` has what only the cloud knows: the names of namespaces and classes there."""
    exact, wild = tables.of_type("rules", token)
    found: list[Problem] = []
    for row in exact + wild:
        if row["phase"] == phase:
            found += _row(row, inputs, context or {})
    return tuple(dict.fromkeys(found))


def _row(row: dict[str, str], inputs: Properties, context: Mapping[str, frozenset[str]]) -> Iterator[Problem]:
    rule, argument = row["rule"], row["argument"]
    for at, value in paths.places(inputs, paths.parse(row["path"])):
        if value == UNKNOWN or not _applies(row["when"], inputs, at):
            continue
        if rule in parents.OF_PARENT:
            if value is None and at:
                continue
            for name, reason in parents.OF_PARENT[rule](value if isinstance(value, dict) else {}, argument):
                yield Problem(path=paths.join((*at, *paths.parse(name))), reason=reason)
        elif rule == "required":
            if value is None and _parent_present(inputs, at):
                yield Problem(path=paths.join(at), reason="missing required property; it must be set")
        elif value is not None:
            reason = checks.check(rule, value, argument, _Surroundings(inputs=inputs, at=at, context=context))
            if reason:
                yield Problem(path=paths.join(at), reason=reason)


def _parent_present(inputs: Properties, at: tuple[paths.Step, ...]) -> bool:
    return len(at) < 2 or isinstance(paths.get(inputs, at[:-1]), dict)


def _applies(when: str, inputs: Properties, at: tuple[paths.Step, ...]) -> bool:
    """`a.b=v`: the value there is v (`*` anything set, nothing: unset); `!` not; a leading dot: beside the place."""
    if not when:
        return True
    negated, when = when.startswith("!"), when.removeprefix("!")
    path, _, wanted = when.partition("=")
    beside = path.startswith(".")
    steps = (*at[:-1], *paths.parse(path[1:])) if beside else paths.parse(path)
    value = paths.get(inputs, steps)
    if value == UNKNOWN:
        return False
    if wanted == "*":
        return (value not in (None, [], "", False)) != negated
    return fnmatchcase(checks.text(value), wanted) != negated


@dataclass(frozen=True, kw_only=True)
class _Surroundings:
    """What a check may look at beside its own value."""

    inputs: Properties
    at: tuple[paths.Step, ...]
    context: Mapping[str, frozenset[str]]

    def other(self, path: str) -> Json:
        beside = path.startswith(".")
        return paths.get(self.inputs, (*self.at[:-1], *paths.parse(path[1:])) if beside else paths.parse(path))

    def sibling(self, name: str) -> Json:
        return paths.get(self.inputs, (*self.at[:-1], name))

    def everywhere(self, pattern: str) -> list[Json]:
        return [v for _, v in paths.places(self.inputs, paths.parse(pattern)) if v is not None]

    def known(self, what: str) -> frozenset[str] | None:
        return self.context.get(what)
