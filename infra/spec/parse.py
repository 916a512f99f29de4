"""From what Pulumi's configuration gives to one frozen Spec, or every problem together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from infra.spec import rules
from infra.spec.accelerator import Accelerator
from infra.spec.model import Spec
from infra.spec.problems import Problem, SpecError
from infra.spec.structure import Structure


def parse(values: Mapping[str, object]) -> Spec:
    """Reads keys without their `slipway:`; raises SpecError with all problems, and never anything else."""
    found: list[Problem] = []
    spec = Structure(Spec).read(dict(values), (), found)
    if spec is None:
        raise SpecError(found)
    found = rules.check(spec)
    if found:
        raise SpecError(found)
    return spec


def to_values(spec: Spec) -> dict[str, object]:
    """The plain values that `parse` reads back into the same spec."""
    plain = _plain(spec)
    assert isinstance(plain, dict)
    return plain


def _plain(value: object) -> object:
    if isinstance(value, Accelerator):
        return str(value)
    if is_dataclass(value):
        pairs = ((f.name, _plain(getattr(value, f.name))) for f in fields(value))
        return {name: plain for name, plain in pairs if plain is not None}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value
