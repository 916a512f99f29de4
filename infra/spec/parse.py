"""From what Pulumi's configuration gives to one frozen Spec, or every problem together."""

from __future__ import annotations

from collections.abc import Mapping

from infra.spec import rules
from infra.spec.model import Spec
from infra.spec.problems import Problem, SpecError
from infra.spec.structure import Structure


def parse(values: Mapping[str, object]) -> Spec:
    """Reads keys without their `slipway:`; raises SpecError with all problems, and never anything else."""
    found: list[Problem] = []
    spec = Structure(Spec).read(dict(values), (), found)
    if spec is None:
        raise SpecError(found)
    found = [*rules.check(spec), *rules.cloud.unused(spec, values)]
    if found:
        raise SpecError(found)
    return spec
