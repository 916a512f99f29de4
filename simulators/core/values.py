"""Property values between the wire and the rules: JSON with secrets and unknowns marked, and the same without marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf import json_format, struct_pb2

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
Properties = dict[str, Json]

UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"  # pulumi/runtime/rpc.py: UNKNOWN
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"
OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
ASSET: Final = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"
DEFAULTS: Final = "__defaults"  # the Terraform bridge lists here what Check filled in by itself


def from_struct(struct: struct_pb2.Struct) -> Properties:
    """The marked form: secrets stay wrapped; whole numbers come back as int (the wire knows only doubles)."""
    value = _whole(json_format.MessageToDict(struct))
    assert isinstance(value, dict)
    return value


def to_struct(properties: Mapping[str, Json]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    json_format.ParseDict(dict(properties), struct)
    return struct


def plain(value: Json) -> Json:
    """Without marks, for rules that look at values; an unknown stays the sentinel. Never log the result."""
    if isinstance(value, dict):
        mark = value.get(SIGNATURE)
        if mark == SECRET:
            return plain(value.get("value"))
        if mark == OUTPUT:
            return plain(value["value"]) if "value" in value else UNKNOWN
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def plain_properties(properties: Properties) -> Properties:
    value = plain(properties)
    assert isinstance(value, dict)
    return {k: v for k, v in value.items() if not k.startswith("__")}


def has_unknown(value: Json) -> bool:
    if isinstance(value, dict):
        return any(has_unknown(v) for v in value.values())
    if isinstance(value, list):
        return any(has_unknown(v) for v in value)
    return value == UNKNOWN


def strings(value: Json) -> list[str]:
    """Every text in a value, in order: what a reference to another resource can hide in."""
    if isinstance(value, dict):
        return [s for v in value.values() for s in strings(v)]
    if isinstance(value, list):
        return [s for v in value for s in strings(v)]
    return [value] if isinstance(value, str) and value != UNKNOWN else []


def _whole(value: Json) -> Json:
    if isinstance(value, dict):
        return {k: _whole(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_whole(v) for v in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
