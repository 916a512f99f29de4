"""The kinds of rule that a row of rules_<cloud>.csv can name: a value in, the reason for refusing it out."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import zoneinfo
from collections.abc import Callable
from difflib import get_close_matches
from typing import Protocol

from simulators.core import api
from simulators.core.diff import quantity
from simulators.core.values import UNKNOWN, Json


class Surroundings(Protocol):
    def other(self, path: str) -> Json: ...
    def sibling(self, name: str) -> Json: ...
    def everywhere(self, pattern: str) -> list[Json]: ...
    def known(self, what: str) -> frozenset[str] | None: ...


Check = Callable[[Json, str, Surroundings], str]


def text(value: Json) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict | list) else str(value)


def check(rule: str, value: Json, argument: str, around: Surroundings) -> str:
    """The reason for refusing, or nothing."""
    return OF_VALUE[rule](value, argument, around)


def number(value: Json) -> float | None:
    """A number as the bridge reads one: 5, 5.0, "5", and the seconds of "3600s"."""
    try:
        return float(text(value).removesuffix("s")) if not isinstance(value, bool) else None
    except ValueError:
        return None


def _enum(value: Json, argument: str, _: Surroundings) -> str:
    return one_of(text(value), argument.split("|"))


def one_of(value: str, allowed: list[str]) -> str:
    if value in allowed:
        return ""
    shown = [a for a in allowed if a]
    near = get_close_matches(value.upper(), [a.upper() for a in shown], n=1)
    hint = next((f". Did you mean '{a}'?" for a in shown if near and a.upper() == near[0]), "")
    return f"expected one of {', '.join(shown[:40])}; got '{value[:80]}'{hint}"


def _enum_api(value: Json, argument: str, _: Surroundings) -> str:
    service, shape = argument.split(":")
    return one_of(text(value), list(api.enum(service, shape)))


def _bounds(argument: str) -> tuple[float, float]:
    low, _, high = argument.partition("..")
    return float(low or "-inf"), float(high or "inf")


def _range(value: Json, argument: str, _: Surroundings) -> str:
    low, high = _bounds(argument)
    got = number(value)
    if got is None or low <= got <= high:
        return ""
    return f"expected a number in the range {argument}, got {text(value)}"


def _length(value: Json, argument: str, _: Surroundings) -> str:
    low, high = _bounds(argument)
    if low <= len(text(value)) <= high:
        return ""
    return f"expected a length in the range {argument}, got {len(text(value))}"


def _items(value: Json, argument: str, _: Surroundings) -> str:
    low, high = _bounds(argument)
    size = len(value) if isinstance(value, list | dict) else 1
    return "" if low <= size <= high else f"expected {argument} items, got {size}"


def _regex(value: Json, argument: str, _: Surroundings) -> str:
    return "" if re.search(argument, text(value)) else f"'{text(value)[:80]}' does not match {argument}"


def _not_regex(value: Json, argument: str, _: Surroundings) -> str:
    return f"'{text(value)[:80]}' must not match {argument}" if re.search(argument, text(value)) else ""


def _network(value: Json, strict: bool) -> str:
    try:
        if "/" not in text(value):
            raise ValueError("no prefix length")
        ipaddress.ip_network(text(value), strict=strict)
    except ValueError as error:
        return f"'{text(value)}' is not a valid CIDR block: {error}"
    return ""


def _bits(value: Json, argument: str, _: Surroundings) -> str:
    low, high = _bounds(argument)
    prefix = text(value).rpartition("/")[2]
    if not prefix.isdigit() or low <= int(prefix) <= high:
        return ""
    return f"expected a network with {argument} significant bits, got {prefix}"


def _ipv4(value: Json, _: str, __: Surroundings) -> str:
    try:
        ipaddress.IPv4Address(text(value))
    except ValueError:
        return f"expected an IPv4 address, got {text(value)}"
    return ""


def _arn(value: Json, _: str, __: Surroundings) -> str:
    ok = text(value) == "" or re.match(r"arn:[\w-]+:[\w-]+:[\w-]*:\w*:.+", text(value))
    return "" if ok else f"'{text(value)}' is an invalid ARN; allowed: arn:partition:service:region:account:resource"


def _json(value: Json, kinds: type | tuple[type, ...]) -> str:
    if isinstance(value, dict | list):
        return ""
    try:
        return "" if isinstance(json.loads(text(value)), kinds) else "contains JSON that is not an object"
    except ValueError as error:
        return f"contains an invalid JSON: {error}"


def _duration(value: Json, _: str, __: Surroundings) -> str:
    ok = re.fullmatch(r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+", text(value))
    return "" if ok else f"expected a duration like 168h, got '{text(value)}' (units: ns, us, ms, s, m, h)"


def _base64(value: Json, _: str, __: Surroundings) -> str:
    try:
        base64.b64decode(text(value), validate=True)
    except (binascii.Error, ValueError):
        return "illegal base64 data"
    return ""


def _quantity(value: Json, _: str, __: Surroundings) -> str:
    if quantity(value) is not None:
        return ""
    return f"'{text(value)}' is no quantity: they match ^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"


def _positive_quantity(value: Json, _: str, __: Surroundings) -> str:
    got = quantity(value)
    return "must be greater than zero" if got is not None and got <= 0 else ""


def _at_most(value: Json, argument: str, around: Surroundings) -> str:
    mine, theirs = number(value), number(around.other(argument))
    if mine is None or theirs is None or mine <= theirs:
        return ""
    return f"{text(value)} must be at most {argument.lstrip('.')}, which is {text(around.other(argument))}"


def _items_at_most(value: Json, argument: str, around: Surroundings) -> str:
    limit = number(around.other(argument))
    too_many = isinstance(value, list) and limit is not None and len(value) > limit
    return f"more items than {argument}, which is {text(around.other(argument))}" if too_many else ""


def _within(value: Json, argument: str, around: Surroundings) -> str:
    there = [text(v) for pattern in argument.split("|") for v in around.everywhere(pattern)]
    return (
        "" if text(value) in there or UNKNOWN in there else f"'{text(value)}' is not among {', '.join(there) or '()'}"
    )


def _contains(value: Json, argument: str, _: Surroundings) -> str:
    missing = isinstance(value, list) and argument not in value and UNKNOWN not in value
    return f"must contain '{argument}'" if missing else ""


def _unique(value: Json, argument: str, _: Surroundings) -> str:
    names = [text(v.get(argument)) for v in value if isinstance(v, dict)] if isinstance(value, list) else []
    twice = sorted({n for n in names if names.count(n) > 1 and n != UNKNOWN})
    return f"duplicated {argument}: {', '.join(twice)}" if twice else ""


def _keys(value: Json, argument: str, _: Surroundings) -> str:
    wrong = [k for k in value if not re.search(argument, k)] if isinstance(value, dict) else []
    return f"invalid key '{wrong[0]}': keys match {argument}" if wrong else ""


def _power_of_two(value: Json, _: str, __: Surroundings) -> str:
    got = number(value)
    bad = got is not None and (got < 1 or int(got) & (int(got) - 1))
    return f"must be a power of two, got {text(value)}" if bad else ""


def _cron(value: Json, _: str, __: Surroundings) -> str:
    fields = text(value).split()
    if len(fields) != 5:
        return f"'{text(value)}': expected exactly 5 fields, found {len(fields)}"
    for field, (low, high) in zip(fields, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True):
        for part in re.findall(r"\d+", field.partition("/")[0]):
            if not low <= int(part) <= high:
                return f"'{text(value)}': {part} is outside {low}..{high}"
    return ""


def _time_zone(value: Json, _: str, __: Surroundings) -> str:
    try:
        zoneinfo.ZoneInfo(text(value))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return f"unknown time zone {text(value)}"
    return ""


def _port_or_name(value: Json, _: str, around: Surroundings) -> str:
    if isinstance(value, str) and not value.isdigit():
        return "" if re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", value) else f"invalid port name '{value}'"
    return _range(value, "1..65535", around)


def _known(what: str) -> Check:
    def check_name(value: Json, _: str, around: Surroundings) -> str:
        names = around.known(what)
        return "" if names is None or text(value) in names else f'{what} "{text(value)}" not found'

    return check_name


def _named_if_many(value: Json, _: str, __: Surroundings) -> str:
    many = isinstance(value, list) and len(value) > 1
    unnamed = many and [i for i, v in enumerate(value) if isinstance(v, dict) and not v.get("name")]  # type: ignore[arg-type]
    return f"[{unnamed[0]}].name: required when there is more than one port" if unnamed else ""


def _not_both_zero(value: Json, argument: str, around: Surroundings) -> str:
    zero = text(value) in ("0", "0%") and text(around.sibling(argument)) in ("0", "0%")
    return f"may not be 0 when {argument} is 0" if zero else ""


def _docker_config(value: Json, _: str, around: Surroundings) -> str:
    if value != "kubernetes.io/dockerconfigjson":
        return ""
    keys = [k for p in ("data", "stringData") if isinstance(v := around.sibling(p), dict) for k in v]
    return "" if ".dockerconfigjson" in keys else "data[.dockerconfigjson]: required value"


OF_VALUE: dict[str, Check] = {
    "enum": _enum,
    "enum-api": _enum_api,
    "range": _range,
    "length": _length,
    "items": _items,
    "items-at-most": _items_at_most,
    "regex": _regex,
    "not-regex": _not_regex,
    "cidr": lambda v, _, __: _network(v, strict=False),
    "network": lambda v, _, __: _network(v, strict=True),
    "bits": _bits,
    "ipv4": _ipv4,
    "arn": _arn,
    "json": lambda v, _, __: _json(v, object),
    "json-object": lambda v, _, __: _json(v, dict),
    "duration": _duration,
    "base64": _base64,
    "quantity": _quantity,
    "positive-quantity": _positive_quantity,
    "equals": lambda v, a, _: "" if text(v) == a else f"must be {a}, got {text(v)}",
    "at-most": _at_most,
    "within": _within,
    "contains": _contains,
    "unique": _unique,
    "keys": _keys,
    "power-of-two": _power_of_two,
    "text": lambda v, _, __: "" if isinstance(v, str) else f"must be a string, got {text(v)[:40]}",
    "scalar": lambda v, _, __: "must be one value, not a list" if isinstance(v, list) else "",
    "map": lambda v, _, __: "" if isinstance(v, dict) else f"expected a map, got '{text(v)[:40]}'",
    "forbidden": lambda v, _, __: "must not be set here" if v not in ([], {}, "") else "",
    "cron": _cron,
    "time-zone": _time_zone,
    "port-or-name": _port_or_name,
    "named-if-many": _named_if_many,
    "not-both-zero": _not_both_zero,
    "docker-config": _docker_config,
    "known-class": _known("priorityclass"),
    "known-namespace": _known("namespace"),
}
