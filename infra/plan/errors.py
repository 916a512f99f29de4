"""No plan: what binds, and the nearest change that would allow one."""

from __future__ import annotations

from collections.abc import Sequence

from infra.spec import Problem, SpecError


class Infeasible(SpecError):  # noqa: N818  -- a finding, named as the JSON names it
    """The configuration is sound, but nothing in the catalogue can keep what it asks for."""

    def __init__(self, problems: Sequence[Problem], binding_constraint: str, rejected: Sequence[object] = ()) -> None:
        super().__init__(problems)
        self.binding_constraint = binding_constraint
        self.rejected = tuple(rejected)
