"""Property paths (`nodeConfig.taints[0].effect`): read, pattern of a table row, every place that a pattern names."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from simulators.core.values import Json

Step = str | int
_PLAIN = re.compile(r"[A-Za-z_$][\w$-]*\Z")
_PART = re.compile(r'([^.\["\]]+)|\["((?:[^"\\]|\\.)*)"\]|\[(\d+|\*)\]')


@functools.lru_cache(maxsize=65536)
def parse(path: str) -> tuple[Step, ...]:
    """`a.b[0]["x/y"]` -> ("a", "b", 0, "x/y"); `*` and `[*]` stay the text `*`."""
    steps: list[Step] = []
    for name, quoted, index in _PART.findall(path):
        if index:
            steps.append(index if index == "*" else int(index))
        else:
            steps.append(name or quoted.replace('\\"', '"'))
    return tuple(steps)


def join(steps: tuple[Step, ...]) -> str:
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.match(step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def get(value: Json, steps: tuple[Step, ...]) -> Json:
    """The value at a path, None where any part of it is missing."""
    for step in steps:
        if isinstance(step, int) and isinstance(value, list):
            value = value[step] if step < len(value) else None
        elif isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        else:
            return None
    return value


def places(
    value: Json, pattern: tuple[Step, ...], at: tuple[Step, ...] = ()
) -> Iterator[tuple[tuple[Step, ...], Json]]:
    """Every place that a pattern names, present or not; below a list that is absent there is nothing to name."""
    if not pattern:
        yield at, value
        return
    step, rest = pattern[0], pattern[1:]
    if step == "**":
        yield from _anywhere(value, rest, at)
    elif step == "*":
        items: list[tuple[Step, Json]] = []
        if isinstance(value, list):
            items = list(enumerate(value))
        elif isinstance(value, dict):
            items = list(value.items())
        for key, item in items:
            yield from places(item, rest, (*at, key))
    elif isinstance(value, dict):
        yield from places(value.get(str(step)), rest, (*at, step))
    elif isinstance(value, list) and isinstance(step, int):
        yield from places(value[step] if step < len(value) else None, rest, (*at, step))
    elif value is None and not at and rest == ():
        yield (*at, step), None


def _anywhere(value: Json, rest: tuple[Step, ...], at: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Json]]:
    if isinstance(value, dict):
        if rest and (rest[0] in value or rest[0] == "*"):
            yield from places(value, rest, at)
        for key, item in value.items():
            yield from _anywhere(item, rest, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _anywhere(item, rest, (*at, index))


@functools.lru_cache(maxsize=65536)
def matches(pattern: str, path: tuple[Step, ...]) -> bool:
    """Whether a row's path names this place: `*` one step, `[*]` one index, `**` any steps."""
    return _match(parse(pattern), path)


def _match(pattern: tuple[Step, ...], path: tuple[Step, ...]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_match(pattern[1:], path[i:]) for i in range(len(path) + 1))
    if not path:
        return False
    same = pattern[0] == "*" or pattern[0] == path[0] or fnmatchcase(str(path[0]), str(pattern[0]))
    return same and _match(pattern[1:], path[1:])
