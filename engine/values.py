"""Property values: the protocol's form (a Struct with sentinels) and plain Python, and what the engine does to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from google.protobuf import struct_pb2

Props = dict[str, object]

# The sentinels of Pulumi's wire format: pulumi/runtime/rpc.py of the SDK.
SIG = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
RESOURCE = "5cf8f73096256a8f31e491e813e4eb8e"
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_MORE_UNKNOWNS = {
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "030794c1-ac77-496b-92df-f27374a8bd58",
    "e48ece36-62e2-4504-bad9-02848725956a",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
}
_PATH = re.compile(r'\.?([^.\[\]"]+)|\["((?:[^"\\]|\\.)*)"\]|\[(\d+|\*)\]')


def from_struct(struct: struct_pb2.Struct) -> Props:
    return {k: _from_value(v) for k, v in struct.fields.items()}


def _from_value(value: struct_pb2.Value) -> object:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if kind == "struct_value":
        return _resolve(from_struct(value.struct_value))
    if kind == "list_value":
        return [_from_value(v) for v in value.list_value.values]
    if kind in ("string_value", "bool_value"):
        plain: object = getattr(value, kind)
        return UNKNOWN if plain in _MORE_UNKNOWNS else plain
    return None


def _resolve(value: Props) -> object:
    """An output value becomes the value, unknown or secret that it holds; all else stays."""
    if value.get(SIG) != OUTPUT:
        return value
    inner = value.get("value", UNKNOWN)
    return secret(inner) if value.get("secret") else inner


def to_struct(props: Mapping[str, object]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    for key, value in props.items():
        _set(struct.fields[key], value)
    return struct


def _set(target: struct_pb2.Value, value: object) -> None:
    if value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, (int, float)):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        for key, inner in value.items():
            _set(target.struct_value.fields[key], inner)
    elif isinstance(value, list):
        target.list_value.SetInParent()
        for inner in value:
            _set(target.list_value.values.add(), inner)
    else:
        raise TypeError(f"{type(value).__name__} is no property value")


def secret(value: object) -> object:
    return value if is_secret(value) else {SIG: SECRET, "value": value}


def is_secret(value: object) -> bool:
    return isinstance(value, dict) and value.get(SIG) == SECRET


def walk(value: object, change: Callable[[object], object]) -> object:
    """The value with `change` applied to each inner value, innermost first, then to itself."""
    if isinstance(value, dict):
        return change({k: walk(v, change) for k, v in value.items()})
    if isinstance(value, list):
        return change([walk(v, change) for v in value])
    return change(value)


def any_value(value: object, test: Callable[[object], bool]) -> bool:
    if test(value):
        return True
    inner: Iterable[object] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(any_value(v, test) for v in inner)


def has_unknown(value: object) -> bool:
    return any_value(value, lambda v: v == UNKNOWN)


def has_secret(value: object) -> bool:
    return any_value(value, is_secret)


def _open(value: object) -> object:
    return value["value"] if isinstance(value, dict) and value.get(SIG) == SECRET else value


def plain(value: object) -> object:
    """Secrets opened, everywhere."""
    return walk(value, _open)


def plain_props(props: Mapping[str, object]) -> Props:
    return {k: plain(v) for k, v in props.items()}


def without_refs(value: object) -> object:
    """References to resources as their id (or URN), for a provider that does not take references."""

    def change(v: object) -> object:
        if isinstance(v, dict) and v.get(SIG) == RESOURCE:
            return v.get("id", v.get("urn"))
        return v

    return walk(value, change)


def mark_secrets(outputs: Props, inputs: Mapping[str, object], names: Iterable[str]) -> Props:
    """Outputs of a provider that does not keep secrets: an output is one if its input was, or if it is so named."""
    marked = set(names)
    return {k: secret(v) if k in marked or has_secret(inputs.get(k)) else v for k, v in outputs.items()}


def path(text: str) -> list[str | int]:
    return [int(i) if i.isdigit() else i or word or quoted for word, quoted, i in _PATH.findall(text)]


def covers(pattern: str, target: str) -> bool:
    """Whether a property path is the pattern or lies below it; `*` stands for any one element."""
    want, have = path(pattern), path(target)
    return len(want) <= len(have) and all(w in ("*", h) for w, h in zip(want, have, strict=False))


def ignore_changes(news: Props, olds: Mapping[str, object], paths: Iterable[str]) -> Props:
    """The new inputs with the old value, or the old absence, at every ignored path."""
    result: object = news
    for text in paths:
        result = _restore(result, dict(olds), path(text))
    return result if isinstance(result, dict) else news


_ABSENT = object()


def _get(value: object, key: str | int) -> object:
    if isinstance(value, dict):
        return value.get(key, _ABSENT)
    return value[key] if isinstance(value, list) and isinstance(key, int) and key < len(value) else _ABSENT


def _restore(new: object, old: object, where: list[str | int]) -> object:
    if not where:
        return old
    if is_secret(new) or is_secret(old):
        inner = _restore(_open(new), _open(old), where)
        return secret(inner) if is_secret(new) else inner
    key, rest = where[0], where[1:]
    if key == "*":
        keys: list[str | int] = (
            list(new) if isinstance(new, dict) else list(range(len(new) if isinstance(new, list) else 0))
        )
        keys += [k for k in old if k not in keys] if isinstance(old, dict) else []
        for k in keys:
            new = _restore(new, old, [k, *rest])
        return new
    before, now = _get(old, key), _get(new, key)
    if rest and (before is _ABSENT or now is _ABSENT):
        return new
    value = _restore(now, before, rest)
    if isinstance(new, dict) and isinstance(key, str):
        return {**{k: v for k, v in new.items() if k != key}, **({} if value is _ABSENT else {key: value})}
    if isinstance(new, list) and isinstance(key, int) and key < len(new) and value is not _ABSENT:
        return [*new[:key], value, *new[key + 1 :]]
    return new
