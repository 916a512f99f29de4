"""A specification, or a part of it, as the plain values that it was read from; what has its default is left out."""

from __future__ import annotations

from collections.abc import Mapping

from infra.spec.accelerator import Accelerator
from infra.spec.model import Spec
from infra.spec.structure import keys


def to_values(spec: Spec) -> dict[str, object]:
    """The plain values that `parse` reads back into the same spec."""
    return plain(spec)


def plain(part: object) -> dict[str, object]:
    """A structure as a mapping of plain values."""
    cloud = getattr(part, "cloud", None)
    pairs = ((k, getattr(part, k.name)) for k in keys(type(part)))
    return {k.name: _plain(value) for k, value in pairs if value is not None and value != k.default_for(cloud)}


def _plain(value: object) -> object:
    if isinstance(value, Accelerator):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return plain(value) if keys_of(value) else value


def keys_of(value: object) -> bool:
    return hasattr(type(value), "__dataclass_fields__")
