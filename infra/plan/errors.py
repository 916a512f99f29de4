"""No plan: what binds, and the nearest change that would allow one."""

from __future__ import annotations

from collections.abc import Sequence

from infra.plan.types import Rejected
from infra.spec import Problem, SpecError


class Infeasible(SpecError):  # noqa: N818  -- a finding, named as the JSON names it
    """The configuration is sound, but nothing in the catalogue can keep what it asks for."""

    def __init__(self, problems: Sequence[Problem], binding_constraint: str, rejected: Sequence[Rejected] = ()) -> None:
        super().__init__(problems)
        self.binding_constraint = binding_constraint
        self.rejected = tuple(rejected)

    def to_json(self) -> dict[str, object]:
        """The keys of a plan, as docs/plan.md describes them, where there is none."""
        return {
            "feasible": False,
            "pools": [],
            "replicas": None,
            "serving": None,
            "latency_ms": None,
            "max_rps_within_slo": 0.0,
            "usd_per_month": None,
            "usd_per_million_predictions": None,
            "lines": [],
            "unpriced": [],
            "rejected": [{"machine_type": r.machine_type, "reason": r.reason} for r in self.rejected],
            "binding_constraint": self.binding_constraint,
            "problems": [p.to_json() for p in self.problems],
        }
