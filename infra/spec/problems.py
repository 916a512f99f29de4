"""What is wrong with a configuration, as data: where, why, what is allowed, and the change that puts it right."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Step = object  # a key (text, unless the user wrote something else) or the index of a list


def render(steps: Sequence[Step]) -> str:
    """The way to a value as a person writes it: models[0].profile.l4.base_ms."""
    text = ""
    for step in steps:
        if isinstance(step, int) and not isinstance(step, bool):
            text += f"[{step}]"
        else:
            name = step if isinstance(step, str) else repr(step)
            text += f".{name}" if text else name
    return text


@dataclass(frozen=True, kw_only=True)
class Fix:
    """A change of the values that removes one problem."""

    steps: tuple[Step, ...]
    op: Literal["set", "remove", "rename"] = "set"
    value: object = None  # the new value, or the new name of the key

    def __str__(self) -> str:
        path = render(self.steps)
        if self.op == "remove":
            return f"remove {path}"
        if self.op == "rename":
            return f"rename {path} to {self.value}"
        return f"set {path} to {self.value if isinstance(self.value, str) else json.dumps(self.value, default=str)}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault: `path: what is wrong; allowed: a, b. Did you mean 'b'? To fix: …`."""

    path: str
    reason: str
    allowed: tuple[str, ...] = ()
    hint: str = ""
    fix: Fix | None = field(default=None, compare=False)

    def __str__(self) -> str:
        allowed = f"; allowed: {', '.join(self.allowed)}" if self.allowed else ""
        return f"{self.path}: {self.reason}{allowed}." + (f" {self.hint}" if self.hint else "")

    def to_json(self) -> dict[str, object]:
        return {"path": self.path, "reason": self.reason, "allowed": list(self.allowed), "hint": self.hint}


class SpecError(Exception):
    """The configuration cannot be built as it stands; every problem that was found, together."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "\n".join(f"  {p}" for p in self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the configuration:\n{lines}")


def problem(
    steps: Sequence[Step],
    reason: str,
    *,
    allowed: Sequence[str] = (),
    nearest: str | None = None,
    to_fix: str | None = None,
    fix: Fix | None = None,
) -> Problem:
    """Builds a problem; the hint is the nearest allowed word, then the way out (the fix in words by default)."""
    way = to_fix or (str(fix) if fix else "")
    parts = [f"Did you mean '{nearest}'?" if nearest else "", f"To fix: {way}." if way else ""]
    return Problem(
        path=render(steps), reason=reason, allowed=tuple(allowed), hint=" ".join(p for p in parts if p), fix=fix
    )


def nearest(word: object, words: Iterable[str]) -> str | None:
    """The allowed word that is most like the one written, if one is near."""
    written = str(word).strip().lower()[:100]
    cutoff = 0.5 if len(written) <= 3 else 0.6  # one letter of two is half of l5
    found = difflib.get_close_matches(written, list(words), n=1, cutoff=cutoff)
    return found[0] if found else None


def apply_fix(values: Mapping[str, object], fix: Fix) -> dict[str, object]:
    """The same values with one fix applied; a structured value that was JSON text comes back parsed."""
    changed = _changed(dict(values), fix.steps, fix)
    if not isinstance(changed, dict):
        raise TypeError(f"a fix of {render(fix.steps)} cannot replace the whole configuration")
    return changed


def _changed(node: object, steps: tuple[Step, ...], fix: Fix) -> object:
    if isinstance(node, str):
        node = json.loads(node)
    head, rest = steps[0], steps[1:]
    if isinstance(node, Mapping):
        mapping = dict(node)
        if rest:
            mapping[head] = _changed(mapping[head], rest, fix) if head in mapping else _grown(rest, fix)
        elif fix.op == "set":
            mapping[head] = fix.value
        else:
            old = mapping.pop(head)
            if fix.op == "rename":
                mapping[str(fix.value)] = old
        return mapping
    if isinstance(node, list | tuple) and isinstance(head, int):
        items = list(node)
        if rest:
            items[head] = _changed(items[head], rest, fix)
        elif fix.op == "remove":
            del items[head]
        else:
            items[head] = fix.value
        return items
    raise TypeError(f"nothing to fix at {head!r} of a {type(node).__name__}")


def _grown(steps: tuple[Step, ...], fix: Fix) -> object:
    """The value for a missing parent of what is set."""
    value = fix.value
    for step in reversed(steps):
        value = {step: value}
    return value
