"""Rules about an object as a whole: which of its properties go together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from simulators.core.diff import quantity
from simulators.core.values import UNKNOWN, Json, Properties


def _text(value: Json) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _set(parent: Properties, argument: str) -> list[str]:
    return [n for n in argument.split("|") if _value(parent, n) not in (None, [], "")]


def _value(parent: Properties, name: str) -> Json:
    value: Json = parent
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _at_most_one(parent: Properties, argument: str) -> Iterator[tuple[str, str]]:
    given = _set(parent, argument)
    for name in given if len(given) > 1 else ():
        others = ", ".join(n for n in given if n != name)
        yield name, f"conflicts with {others}; only one of {argument.replace('|', ', ')} can be set"


def _at_least_one(parent: Properties, argument: str) -> Iterator[tuple[str, str]]:
    given = [n for n in argument.split("|") if _value(parent, n) is not None]
    for name in () if given else argument.split("|"):
        yield name, f"one of {argument.replace('|', ', ')} must be set"


def _only_one(parent: Properties, argument: str) -> Iterator[tuple[str, str]]:
    yield from _at_least_one(parent, argument)
    yield from _at_most_one(parent, argument)


def _all_of(parent: Properties, argument: str) -> Iterator[tuple[str, str]]:
    given = _set(parent, argument)
    for name in given if given and len(given) < len(argument.split("|")) else ():
        yield name, f"all of {argument.replace('|', ', ')} must be set together"


def _selector(parent: Properties, _: str) -> Iterator[tuple[str, str]]:
    selector, labels = _value(parent, "selector.matchLabels"), _value(parent, "template.metadata.labels")
    if isinstance(selector, dict) and UNKNOWN not in (*selector.values(), labels):
        have = labels if isinstance(labels, dict) else {}
        if any(have.get(k) != v for k, v in selector.items() if have.get(k) != UNKNOWN):
            yield "template.metadata.labels", "`selector` does not match template `labels`"
            yield "selector.matchLabels", "`selector` does not match template `labels`"


def _resources(parent: Properties, _: str) -> Iterator[tuple[str, str]]:
    requests, limits = parent.get("requests"), parent.get("limits")
    requests = requests if isinstance(requests, dict) else {}
    limits = limits if isinstance(limits, dict) else {}
    for name, limit in limits.items():
        whole = quantity(limit)
        if "/" in name and whole is not None and whole % 1:
            yield f'limits["{name}"]', f"must be an integer, got {_text(limit)}"
    for name, request in requests.items():
        asked, most = quantity(request), quantity(limits.get(name))
        if "/" in name and asked != most:
            limit = _text(limits.get(name)) or "(unset)"
            yield "requests", f"{_text(request)} must be equal to {name} limit of {limit}"
        elif asked is not None and most is not None and asked > most:
            yield (
                f"requests.{name}",
                f"{_text(request)} must be less than or equal to {name} limit of {_text(limits[name])}",
            )


OF_PARENT: dict[str, Callable[[Properties, str], Iterator[tuple[str, str]]]] = {
    "at-most-one": _at_most_one,
    "at-least-one": _at_least_one,
    "only-one": _only_one,
    "all-of": _all_of,
    "selector": _selector,
    "resources": _resources,
}
