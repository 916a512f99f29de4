"""The plan of the local stack."""

from __future__ import annotations

import pytest

from infra.plan import Infeasible, Plan
from infra.spec import apply_fix, parse, to_values
from tests.plan.stacks import plan, planned, worked


def test_worked_local_stack_has_two_instances_in_both_modes() -> None:
    """N processes of one instance, or one process of N: the same N."""
    wide, tall = plan("local", scaling="horizontal"), plan("local", scaling="vertical")
    assert (wide.replicas.max, wide.serving.instances) == (2, 1)
    assert (tall.replicas.max, tall.serving.instances) == (1, 2)
    assert wide.generation != tall.generation


def test_more_load_more_instances_until_the_vcpus_end() -> None:
    load = {"mean_rps": 1000, "peak_rps": 60_000}
    assert plan("local", load=load, local_vcpus=8).replicas.max > 2
    spec = worked("local", load=load)
    with pytest.raises(Infeasible) as error:
        planned(spec)
    assert error.value.binding_constraint == "local_vcpus"
    (p,) = error.value.problems
    assert p.fix is not None
    assert isinstance(planned(parse(apply_fix(to_values(spec), p.fix))), Plan)


def test_slo_below_one_item_is_refused_with_a_fix_that_works() -> None:
    spec = worked("local", slo={"p99_ms": 0.3})
    with pytest.raises(Infeasible) as error:
        planned(spec)
    assert error.value.binding_constraint == "slo.p99_ms"
    assert error.value.problems[0].fix is not None
    planned(parse(apply_fix(to_values(spec), error.value.problems[0].fix)))


def test_costs_nothing() -> None:
    assert plan("local").usd_per_month.max == 0
