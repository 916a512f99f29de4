"""The bill's rules: nothing dropped, months in order, usage from the load, the gate on the worst month."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from cost_stacks import STACKS, pool, spec
from hypothesis import given
from hypothesis import strategies as st

from infra.catalog import load
from infra.plan.cost import Amount, Machines, Quantities, Use, cost, over_budget
from infra.plan.cost_facts import items, store_sizes
from infra.plan.cost_stack import bill, quantities
from infra.plan.types import Pool
from infra.spec import Spec, parse, to_values
from infra.spec.problems import apply_fix

CATALOG = load()
WHOLE = st.integers(min_value=0, max_value=60)


def of(machines: Machines, cloud: str = "gcp", region: str = "us-central1") -> Quantities:
    return Quantities(cloud=cloud, region=region, machines=(machines,))


def with_load(spec: Spec, mean: float, peak: float) -> Spec:
    return replace(spec, load=replace(spec.load, mean_rps=mean, peak_rps=peak))


def quantity(spec: Spec, pools: list[Pool], fee: str) -> Amount:
    uses = [u.quantity for u in quantities(spec, pools, CATALOG).uses if u.fee == fee]
    total = Amount.of(0)
    for u in uses:
        total = total.plus(u)
    return total


@pytest.mark.parametrize("stack", STACKS)
def test_the_least_month_is_the_cheapest_and_the_worst_the_dearest(stack: str) -> None:
    """Of the bill and of each line: a worst month below the expected one would pass a budget that it breaks."""
    found = bill(*STACKS[stack], CATALOG)
    assert found.min <= found.expected <= found.max
    for line in found.lines:
        assert line["usd_min"] <= line["usd"] <= line["usd_max"], line  # type: ignore[operator]


@pytest.mark.parametrize("stack", STACKS)
def test_every_line_can_be_checked(stack: str) -> None:
    """Each has the source and date of its row and says where its quantity comes from."""
    found = bill(*STACKS[stack], CATALOG)
    assert [x for x in found.lines if not (x["source"] and x["as_of"] and x["basis"] and x["unit"])] == []
    assert [u for u in found.unpriced if not (u["item"] and u["reason"])] == []


@given(low=WHOLE, more=WHOLE, most=WHOLE, mean=st.floats(0.1, 1e5), burst=st.floats(1, 10))
def test_more_of_anything_never_costs_less(low: int, more: int, most: int, mean: float, burst: float) -> None:
    """More machines or more load: no month gets cheaper, and the lines still add up to the total."""
    base, _ = STACKS["eks-cpu"]
    pools = [pool("serving", "c7i.2xlarge", low, low + more, low + more + most, zones=2)]
    small = cost(quantities(with_load(base, mean, mean * burst), pools, CATALOG), CATALOG)
    larger = [replace(pools[0], max_nodes=pools[0].max_nodes + 1)]
    big = cost(quantities(with_load(base, mean, 2 * mean * burst), larger, CATALOG), CATALOG)
    assert small.total.max < big.total.max
    assert small.total.min <= big.total.min
    assert small.total.expected <= big.total.expected
    assert sum(x.usd.max for x in small.lines) == small.total.max


def test_a_machine_without_a_trusted_price_is_listed_not_dropped() -> None:
    """H100 on demand in us-central1 has no believable figure: host priced, accelerators listed with the reason."""
    machines = Machines(
        role="serving", machine_type="a3-highgpu-1g", accelerator="h100", accelerator_count=1, nodes=Amount.of(2)
    )
    found = cost(of(machines), CATALOG)
    assert [x.item for x in found.lines] == ["serving: a3-highgpu-1g host, on-demand"]
    assert [u.item for u in found.unpriced] == ["serving: 1 h100 of a3-highgpu-1g, on-demand"]
    assert "left empty" in found.unpriced[0].reason


def test_a_machine_that_the_region_does_not_sell_is_listed() -> None:
    """A plan of another catalogue must not turn into a bill that looks complete."""
    found = cost(of(Machines(role="serving", machine_type="z9-none-4", nodes=Amount.of(1))), CATALOG)
    assert found.lines == ()
    assert [u.reason for u in found.unpriced] == ["the catalogue has no price row for it in us-central1"]


def test_spot_without_a_spot_price_is_listed() -> None:
    """g6.xlarge has no spot figure in us-east-1: it is not billed at nothing, nor at the on-demand price."""
    machines = Machines(
        role="burst",
        machine_type="g6.xlarge",
        accelerator="l4",
        accelerator_count=1,
        nodes=Amount.of(1),
        capacity_type="spot",
    )
    found = cost(of(machines, "aws", "us-east-1"), CATALOG)
    assert found.lines == ()
    assert "no trusted spot figure" in found.unpriced[0].reason


def test_what_is_not_used_is_not_on_the_bill() -> None:
    """A fee of nothing is no line, and an unknown price of nothing no gap."""
    nothing = tuple(Use(fee=f.id, quantity=Amount.of(0), basis="none") for f in CATALOG.fees if f.cloud == "gcp")
    found = cost(Quantities(cloud="gcp", region="us-central1", machines=(), uses=nothing), CATALOG)
    assert (found.lines, found.unpriced, found.usd_per_million_predictions) == ((), (), None)


def test_a_price_of_another_region_says_so() -> None:
    """Few fees have a figure for each region; a reader must see which one was taken."""
    found = bill(*STACKS["ec2-cpu"], CATALOG)
    (nat,) = [x for x in found.lines if x["item"] == "NAT gateway"]
    assert str(nat["basis"]).endswith("; the figure is for us-east-1")


def test_dollars_per_million_predictions_are_those_of_the_planned_load() -> None:
    """720.60 USD in the expected month over 300 x 2,628,000 s = 788.4 million predictions: 0.914 each."""
    found = cost(quantities(*STACKS["gke-cpu"], CATALOG), CATALOG)
    assert found.usd_per_million_predictions is not None
    assert round(found.usd_per_million_predictions, 3) == Decimal("0.914")


def test_a_capacity_unit_counts_the_larger_of_bytes_and_connections() -> None:
    """With answers of this size bytes decide; 100 requests a connection are a unit for each 2,500 requests/s."""
    base, pools = STACKS["ec2-cpu"]
    gb = Decimal(3000) * 3600 * 2560 / 10**9  # an hour
    units = quantity(base, list(pools), "application_load_balancer_capacity_unit").expected / 730
    assert round(units, 9) == round(max(gb, Decimal(3000) / 2500), 9)


def test_nat_is_billed_for_32_machines_at_most() -> None:
    """Google's fee by machine ends there, and the flat one above it has no source here."""
    assert quantity(*map_list("gke-large"), "cloud_nat_gateway_per_assigned_vm_first_32").max == 32 * 730


def map_list(stack: str) -> tuple[Spec, list[Pool]]:
    base, pools = STACKS[stack]
    return base, list(pools)


def test_a_store_too_large_for_the_catalogue_is_listed() -> None:
    """A billion entities do not fit the largest node type that has a price."""
    big = spec("aws", "kubernetes", "us-east-1", feature_store="elasticache", features={"keys": 1_000_000_000})
    (found,) = [u for u in bill(big, [], CATALOG).unpriced if u["item"] == "ElastiCache node"]
    assert "more than the largest node type" in str(found["reason"])


def test_a_second_copy_only_where_the_mode_asks_for_two_zones() -> None:
    """Performance replicates the store; the other modes do not."""
    base = spec("gcp", "kubernetes", "us-central1", feature_store="memorystore", features={"keys": 1000})
    fees = {
        mode: [u.fee for u in quantities(replace(base, cost=mode), [], CATALOG).uses if "memorystore" in u.fee]
        for mode in ("economy", "performance")
    }
    assert fees == {
        "economy": ["memorystore_redis_basic_capacity_tier_m1"],
        "performance": ["memorystore_redis_standard_capacity_tier_m1"],
    }


def test_a_batch_job_is_priced_by_use() -> None:
    """How long its machines run is not known beforehand."""
    batch = {"input_uri": "gs://data/in", "output_uri": "gs://data/out"}
    found = bill(spec("gcp", "kubernetes", "us-central1", batch=batch), [], CATALOG)
    assert "batch predictions" in [u["item"] for u in found.unpriced]


def test_the_budget_gate_is_on_the_worst_month_and_its_fix_passes_it() -> None:
    """A month that may happen has to be paid; the problem names the largest line and a budget that suffices."""
    base, pools = STACKS["gke-cpu"]
    found = cost(quantities(base, pools, CATALOG), CATALOG)
    assert over_budget(found.total.max, None) is None
    assert over_budget(found.total.max, float(found.total.max)) is None
    problem = over_budget(found.total.max, float(found.total.expected), found.lines)
    assert problem is not None
    assert problem.path == "budget_usd_per_month"
    assert "the largest line is burst: n2-standard-4, spot with 425.39" in problem.reason
    assert problem.fix is not None
    fixed = parse(apply_fix(to_values(base), problem.fix))
    assert over_budget(found.total.max, fixed.budget_usd_per_month) is None


def test_every_item_of_a_stack_is_a_fee_of_its_cloud() -> None:
    """A row that names a fee that is not there would fail only in the stack that has it."""
    for item in items():
        assert CATALOG.fee(item.cloud, item.fee)
    for size in store_sizes():
        assert CATALOG.fee({"memorystore": "gcp", "elasticache": "aws"}[size.store], size.fee)


def test_store_sizes_rise() -> None:
    """The smallest that holds the data is taken, so of each variant no two have the same size."""
    seen = [(s.store, s.variant, s.up_to_gib) for s in store_sizes()]
    assert sorted(set(seen)) == sorted(seen)
