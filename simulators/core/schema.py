"""Inputs checked against the SDK's own types: unknown names, missing ones, wrong kinds of value."""

from __future__ import annotations

import collections.abc
import enum
import functools
import importlib
import inspect
import sys
import threading
import typing
import warnings
from collections.abc import Iterator
from difflib import get_close_matches

from pulumi import _types, asset, output
from pulumi.runtime import rpc

from simulators.core import paths
from simulators.core.rules import Problem
from simulators.core.values import SIGNATURE, UNKNOWN, Json, Properties

PACKAGES = {"gcp": "pulumi_gcp", "aws": "pulumi_aws", "kubernetes": "pulumi_kubernetes"}
Type = typing.Any  # the SDK's annotations are of every kind that Python knows


_LOADING = threading.RLock()  # the SDK's lazy modules are half made while another thread loads them


def classes(token: str) -> tuple[type, type] | None:
    """(resource class, class of its inputs); None where the SDK does not have the type."""
    with _LOADING:
        return _classes(token)


@functools.cache
def _classes(token: str) -> tuple[type, type] | None:
    with warnings.catch_warnings():  # a whole module loads, with the SDK's notices about classes that nobody asked for
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module(PACKAGES[token.split(":", 1)[0]])
        for modules in rpc._RESOURCE_MODULES.values():
            for module in modules:
                info = getattr(module, "mod_info", {})
                name = info.get("classes", {}).get(token)
                if name:
                    resource = getattr(importlib.import_module(info["fqn"]), name)
                    home = sys.modules[resource.__module__]
                    args = getattr(home, name + "InitArgs", None) or getattr(home, name + "Args", None)
                    return (resource, args) if args is not None else None
    return None


@functools.cache
def fields(args: type) -> tuple[dict[str, Type], frozenset[str]]:
    """({wire name: type}, required wire names): required is a parameter without a default."""
    wire = _types.input_type_py_to_pulumi_names(args)
    parameters = inspect.signature(args.__init__).parameters  # type: ignore[misc]
    required = {
        wire.get(name, name)
        for name, parameter in parameters.items()
        if name not in ("self", "__self__") and parameter.default is inspect.Parameter.empty
    }
    return _types.input_type_types(args), frozenset(required)


def outputs(token: str) -> dict[str, Type]:
    """Output properties that are no input: what the cloud computes."""
    found = classes(token)
    if found is None:
        return {}
    inputs = set(fields(found[1])[0])
    return {k: t for k, t in _types.resource_types(found[0]).items() if k not in inputs}


def problems(token: str, inputs: Properties, strict: bool) -> tuple[Problem, ...]:
    """`strict` as a cloud's API reads JSON; else as the provider does, which turns "5" into 5."""
    found = classes(token)
    return tuple(_object(inputs, found[1], (), strict)) if found is not None else ()


def _object(value: Properties, args: type, at: tuple[paths.Step, ...], strict: bool) -> Iterator[Problem]:
    with _LOADING:
        types, required = fields(args)
    for name, item in value.items():
        if name.startswith("__"):
            continue
        if name in types:
            yield from _value(item, types[name], (*at, name), strict)
        else:
            near = get_close_matches(name, types, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            yield Problem(path=paths.join((*at, name)), reason=f"invalid or unknown property.{hint}")
    for name in sorted(required - {k for k, v in value.items() if v is not None}):
        yield Problem(path=paths.join((*at, name)), reason="missing required property; it must be set")


def _value(value: Json, kind: Type, at: tuple[paths.Step, ...], strict: bool) -> Iterator[Problem]:
    if value is None or value == UNKNOWN or (isinstance(value, dict) and SIGNATURE in value):
        return
    kinds = list(_alternatives(kind))
    if not kinds or any(k in (typing.Any, object) for k in kinds):
        return
    objects = [k for k in kinds if inspect.isclass(k) and _types.is_input_type(k)]
    if isinstance(value, dict) and objects:  # of several kinds of object (a policy's principals) the one that fits best
        yield from min((list(_object(value, k, at, strict)) for k in objects), key=len)
        return
    for one in kinds:
        origin = typing.get_origin(one)
        if origin in (collections.abc.Sequence, list) and isinstance(value, list):
            for index, item in enumerate(value):
                yield from _value(item, typing.get_args(one)[0], (*at, index), strict)
            return
        if origin in (collections.abc.Mapping, dict) and isinstance(value, dict):
            for key, item in value.items():
                yield from _value(item, typing.get_args(one)[1], (*at, key), strict)
            return
        if _scalar(value, one, strict):
            return
    names = " or ".join(sorted({getattr(k, "__name__", str(k)).removesuffix("Args") for k in kinds}))
    shown = value if isinstance(value, str | int | float) else type(value).__name__
    yield Problem(path=paths.join(at), reason=f"expected {names}, got {str(shown)[:40]!r}")


def _alternatives(kind: Type) -> Iterator[Type]:
    """Union, Input and Optional flattened to the concrete types."""
    origin: Type = typing.get_origin(kind)
    if origin is typing.Union:
        for one in typing.get_args(kind):
            yield from _alternatives(one)
    elif (
        origin in (collections.abc.Awaitable, typing.Awaitable)
        or kind is type(None)
        or (inspect.isclass(origin) and issubclass(origin, output.Output))
        or (inspect.isclass(kind) and issubclass(kind, output.Output))
    ):
        return
    elif isinstance(kind, str | typing.ForwardRef):
        yield typing.Any
    else:
        yield kind


def _scalar(value: Json, kind: Type, strict: bool) -> bool:
    origin: Type = typing.get_origin(kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if not inspect.isclass(kind):
        return origin is None
    if issubclass(kind, asset.Asset | asset.Archive):
        return True
    if issubclass(kind, enum.Enum):
        return isinstance(value, str | int)  # its values are checked by the rows, in the phase where the cloud does
    if isinstance(value, dict | list):
        return False
    if kind is str:
        return isinstance(value, str) or not strict
    if kind is bool:
        return isinstance(value, bool) or (not strict and value in ("true", "false"))
    return _number(value, kind, strict)


def _number(value: Json, kind: Type, strict: bool) -> bool:
    if isinstance(value, bool) or (isinstance(value, str) and strict):
        return False
    try:
        got = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return kind is float or (kind is int and got.is_integer())
