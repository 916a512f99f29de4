"""What a changed input does: update in place, replace, or nothing, decided by the rows of fields_<cloud>.csv."""

from __future__ import annotations

import functools
import ipaddress
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase

from simulators.core import paths, tables
from simulators.core.values import UNKNOWN, Json, Properties

_SUFFIX = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(r"([+-]?\d*\.?\d+)(?:([KMGTPE]i)|([numkMGTPE]?)|e([+-]?\d+))\Z")


@dataclass(frozen=True, kw_only=True)
class Change:
    path: tuple[paths.Step, ...]
    kind: str  # added, removed, changed
    old: Json
    new: Json


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`changes`: (path, kind, replaces) of what is seen; nothing in it: no change."""

    changes: tuple[tuple[str, str, bool], ...]

    @property
    def replaces(self) -> tuple[str, ...]:
        return tuple(path for path, _, replaces in self.changes if replaces)


def compare(token: str, old: Properties, new: Properties, config: Properties | None = None) -> Verdict:
    """Compares inputs with inputs: outputs hold computed values that were never asked for."""
    exact, wild = tables.of_type("fields", token)
    wild += identity_rows(token)
    context: Properties = {**new, "provider": config or {}}
    seen: list[tuple[str, str, bool]] = []
    for change in _changes(old, new, (), exact + wild):
        action = _action(exact, wild, change, context)
        if action != "noop":
            seen.append((paths.join(change.path), change.kind, action == "replace"))
    return Verdict(changes=tuple(seen))


@functools.cache
def identity_rows(token: str) -> tuple[dict[str, str], ...]:
    """What is part of a resource's id cannot change in place; a row of the type itself comes first."""
    kind = tables.kinds(tables.cloud_of(token)).get(token)
    names = re.findall(r"\{([A-Za-z][\w.]*)", kind.identity) if kind is not None else []
    made = re.compile(r"(hex|n)\d+|uuid|seq|b|id|account|number")
    return tuple(
        {"type": token, "path": name, "on": "changed", "action": "replace", "when": "", "source": "E-IDENTITY"}
        for name in dict.fromkeys(names)
        if not made.fullmatch(name)
    )


def _changes(old: Json, new: Json, at: tuple[paths.Step, ...], rows: tuple[dict[str, str], ...]) -> Iterator[Change]:
    if old == new and type(old) is type(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new)):
            yield from _changes(old.get(key), new.get(key), (*at, key), rows)
    elif isinstance(old, list) and isinstance(new, list) and at and not _whole_list(at, old, new, rows):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            yield from _changes(before, after, (*at, index), rows)
    elif not _same_scalar(old, new):
        kind = "added" if old is None else "removed" if new is None else "changed"
        yield Change(path=at, kind=kind, old=old, new=new)


def _whole_list(at: tuple[paths.Step, ...], old: list[Json], new: list[Json], rows: tuple[dict[str, str], ...]) -> bool:
    """A list of scalars is one value, and so is one whose row looks at it as a whole (`order`, `shrinks`)."""
    if not any(isinstance(v, dict | list) for v in (*old, *new)):
        return True
    looks = {r["on"] for r in rows if paths.matches(r["path"], at)}
    return (
        ("order" in looks and same_set(old, new))
        or ("to=[]" in looks and not new)
        or ("shrinks" in looks and _shrinks(old, new))
    )


def _same_scalar(old: Json, new: Json) -> bool:
    """The wire and the SDK differ in how they write one value: 5 and "5", true and "true", {} and nothing."""
    if isinstance(old, dict | list) or isinstance(new, dict | list) or old is None or new is None:
        return False
    return _text(old) == _text(new)


def _text(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if not isinstance(value, dict | list) else json.dumps(value, sort_keys=True)


def _action(
    exact: tuple[dict[str, str], ...], wild: tuple[dict[str, str], ...], change: Change, context: Properties
) -> str:
    """The row of this very place; else of what the value brings or takes along; else of what it is part of."""
    for rows in (exact, wild):
        for row in rows:
            if paths.matches(row["path"], change.path) and _applies(row, change, context):
                if row["action"] == "inherit":
                    break
                return row["action"]
    inside = change.new if change.kind == "added" else change.old if change.kind == "removed" else None
    if isinstance(inside, dict | list):
        whole = [_leaf_action(exact + wild, change, path, value, context) for path, value in _leaves(inside)]
        if whole:
            return "replace" if "replace" in whole else "update" if "update" in whole else "noop"
    return _inherited(exact + wild, change, context)


def _leaf_action(
    rows: tuple[dict[str, str], ...],
    change: Change,
    below: tuple[paths.Step, ...],
    value: Json,
    context: Properties,
) -> str:
    leaf = Change(
        path=(*change.path, *below),
        kind=change.kind,
        old=value if change.kind == "removed" else None,
        new=value if change.kind == "added" else None,
    )
    for row in rows:
        if paths.matches(row["path"], leaf.path) and _applies(row, leaf, context) and row["action"] != "inherit":
            return row["action"]
    return _inherited(rows, leaf, context)


def _inherited(rows: tuple[dict[str, str], ...], change: Change, context: Properties) -> str:
    """Below a field whose every change replaces, every change replaces (a Job's template, a Secret's data)."""
    for size in range(len(change.path) - 1, 0, -1):
        for row in rows:
            if row["on"] == "any" and paths.matches(row["path"], change.path[:size]) and _applies(row, change, context):
                return row["action"] if row["action"] in ("replace", "noop") else "update"
    return "update"


def _leaves(value: Json, at: tuple[paths.Step, ...] = ()) -> Iterator[tuple[tuple[paths.Step, ...], Json]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*at, key))
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*at, index))
    elif at:
        yield at, value


def _applies(row: dict[str, str], change: Change, context: Properties) -> bool:
    if row["when"]:
        path, _, wanted = row["when"].partition("=")
        if not fnmatchcase(_text(paths.get(context, paths.parse(path))), wanted):
            return False
    on, _, argument = row["on"].partition("=")
    if on in ("added", "removed", "changed"):
        return change.kind == on and (not argument or _equals(change.new, argument))
    if on == "to":
        return change.kind != "removed" and _equals(change.new, argument)
    return on == "any" or (
        change.kind == "changed" and change.new != UNKNOWN and _RELATIONS[on](change.old, change.new)
    )


def _equals(value: Json, argument: str) -> bool:
    return _text(value) == (
        json.dumps(json.loads(argument), sort_keys=True) if argument.startswith(("[", "{")) else argument
    )


def same_set(old: Json, new: Json) -> bool:
    def keys(value: Json) -> list[str]:
        return sorted(json.dumps(v, sort_keys=True) for v in value) if isinstance(value, list) else [_text(value)]

    return keys(old) == keys(new)


def _json(old: Json, new: Json) -> bool:
    try:
        return bool(json.loads(_text(old)) == json.loads(_text(new)))
    except ValueError:
        return False


def quantity(value: Json) -> Decimal | None:
    """A Kubernetes quantity (`500m`, `1Gi`) as a number, None if it is none."""
    match = _QUANTITY.match(_text(value))
    if match is None:
        return None
    number, binary, decimal, exponent = match.groups()
    try:
        if binary:
            return Decimal(number) * Decimal(1024 ** ("KMGTPE".index(binary[0]) + 1))
        return Decimal(number).scaleb(int(exponent) if exponent else _SUFFIX[decimal or ""])
    except InvalidOperation:
        return None


def _expands(old: Json, new: Json) -> bool:
    try:
        return ipaddress.ip_network(_text(old), strict=False).subnet_of(ipaddress.ip_network(_text(new), strict=False))  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False


def _lower(old: Json, new: Json) -> bool:
    """A lower version, where both are numeric throughout (`REDIS_6_X` compares with nothing)."""
    before, after = re.findall(r"\d+", _text(old)), re.findall(r"\d+", _text(new))
    if re.search(r"[._]x\Z", _text(new), re.IGNORECASE) or re.search(r"[._]x\Z", _text(old), re.IGNORECASE):
        return False
    return [int(x) for x in after] < [int(x) for x in before]


def _shrinks(old: Json, new: Json) -> bool:
    before = {json.dumps(v, sort_keys=True) for v in old} if isinstance(old, list) else set()
    after = {json.dumps(v, sort_keys=True) for v in new} if isinstance(new, list) else set()
    return bool(before - after)


_RELATIONS: dict[str, Callable[[Json, Json], bool]] = {
    "order": same_set,
    "json": _json,
    "case": lambda old, new: _text(old).lower() == _text(new).lower(),
    "quantity": lambda old, new: quantity(old) is not None and quantity(old) == quantity(new),
    "expands": _expands,
    "lower": _lower,
    "shrinks": _shrinks,
}
