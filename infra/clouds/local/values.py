"""The wire's Struct and plain Python values: integers come back as integers, unknowns and secrets are recognised."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import json_format, struct_pb2

from infra.clouds.local.root import Inputs

# pulumi/runtime/rpc.py of SDK 3.272: the engine's sentinels.
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"


def from_struct(struct: struct_pb2.Struct) -> Inputs:
    """A Struct as plain values. Secrets are opened: nothing of this provider is secret, and it never logs values."""
    plain = _plain(json_format.MessageToDict(struct))
    assert isinstance(plain, dict)
    return plain


def to_struct(values: Mapping[str, object]) -> struct_pb2.Struct:
    return json_format.ParseDict(dict(values), struct_pb2.Struct())


def unknown(value: object) -> bool:
    """Whether anything inside is not known yet (a preview)."""
    if isinstance(value, dict):
        return any(unknown(v) for v in value.values())
    if isinstance(value, list):
        return any(unknown(v) for v in value)
    return value == UNKNOWN


def _plain(value: object) -> object:
    if isinstance(value, dict):
        if value.get(SIGNATURE) in (SECRET, OUTPUT):
            return _plain(value["value"]) if "value" in value else UNKNOWN
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
