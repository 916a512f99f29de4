"""What one kind of resource has to answer: check, drift, create, read, update, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from infra.clouds.local.root import Inputs, Root


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One problem of the inputs: where, what is wrong, and the way out."""

    path: str
    reason: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" + (f" To fix: {self.fix}" if self.fix else "")


class LocalError(Exception):
    """The thing could not be made, changed or removed; nothing half-made is left behind."""


class UnreadyError(Exception):
    """The thing stands but is not ready: the engine keeps it, and the next run repairs it."""

    def __init__(self, outputs: Inputs, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.outputs, self.reasons = outputs, reasons


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Inputs with defaults and assigned values, and every problem of them."""

    inputs: Inputs
    faults: list[Fault]


class Kind(Protocol):
    """One resource type. `name` is an input of every kind and is its id."""

    token: str
    required: Mapping[str, type]
    optional: Mapping[str, object]  # field -> default
    replaces: frozenset[str]

    def check(self, root: Root, inputs: Inputs, olds: Inputs) -> Checked: ...

    def outputs(self, root: Root, inputs: Inputs) -> Inputs:
        """What is known of it from its inputs alone."""

    def drift(self, root: Root, inputs: Inputs) -> list[str]:
        """What differs between these inputs and what is there now; cheap, reads only."""

    def apply(self, root: Root, inputs: Inputs, olds: Inputs | None) -> Inputs:
        """Makes or repairs it (idempotent) and returns its outputs."""

    def read(self, root: Root, name: str) -> tuple[Inputs, Inputs] | None:
        """(inputs, outputs) as they are now, or None when it is gone."""

    def delete(self, root: Root, name: str, inputs: Inputs) -> None: ...


def check_fields(kind: Kind, news: Inputs) -> Checked:
    """Types, missing and unknown fields, defaults: the part of a check that every kind shares."""
    faults = []
    inputs: Inputs = {}
    for field, expected in kind.required.items():
        value = news.get(field)
        if value is None:
            faults.append(Fault(path=field, reason="is missing."))
        elif not _is(value, expected):
            faults.append(Fault(path=field, reason=f"is {value!r:.60}; it must be of type {expected.__name__}."))
        else:
            inputs[field] = value
    for field, default in kind.optional.items():
        value = news.get(field)
        if value is None:
            if default is not None:
                inputs[field] = default
        elif default is not None and not _is(value, type(default)):
            faults.append(Fault(path=field, reason=f"is {value!r:.60}; it must be of type {type(default).__name__}."))
        else:
            inputs[field] = value
    known = {*kind.required, *kind.optional}
    faults += [
        Fault(path=field, reason=f"{kind.token} has no such property; allowed: {', '.join(sorted(known))}.")
        for field in sorted(set(news) - known)
    ]
    return Checked(inputs=inputs, faults=faults)


def _is(value: object, expected: type) -> bool:
    if expected in (int, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, expected)
