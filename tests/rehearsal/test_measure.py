"""What a phase amounts to, on small logs: who waits for whom, the engine's words, the longest chain, money."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from cli.rehearsal import measure
from cli.rehearsal.judges import Case, Money, quota
from cli.rehearsal.prices import CatalogPrices
from cli.rehearsal.standing import Machine, Moment
from infra.catalog import load
from simulators.core.timeline import schedule
from simulators.core.world import Operation, Thing, World

S = "urn:pulumi:s::p::"
NET, CLUSTER, POOL, POD = (
    f"{S}{t}::x"
    for t in (
        "gcp:compute/network:Network",
        "gcp:container/cluster:Cluster",
        "gcp:container/nodePool:NodePool",
        "kubernetes:core/v1:Pod",
    )
)


def op(seq: int, kind: str, urn: str, seconds: float, result: str = "ok") -> Operation:
    token = urn.split("::")[2]
    return Operation(
        seq=seq, cloud=token.partition(":")[0], op=kind, urn=urn, token=token, name="x",
        start_s=0.0, end_s=seconds, result=result,
    )  # fmt: skip


def state(*rows: dict[str, Any]) -> dict[str, Any]:
    full = [{"type": r["urn"].split("::")[2], "custom": True, **r} for r in rows]
    return {"version": 3, "deployment": {"resources": full}}


def test_a_provider_stands_for_what_it_needs() -> None:
    """An object of the cluster names its provider alone, and waits for the cluster that the kubeconfig came from."""
    provider = f"{S}pulumi:providers:kubernetes::k"
    found = measure.needs(
        [
            state(
                {"urn": CLUSTER},
                {"urn": provider, "propertyDependencies": {"kubeconfig": [CLUSTER]}},
                {"urn": POD, "provider": f"{provider}::id"},
            ),
            None,
        ]
    )
    assert found == {CLUSTER: [], POD: [CLUSTER]}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("create", "delete", ["create-replacement", "delete-replaced"]),
        ("delete", "create", ["delete-replaced", "create-replacement"]),
    ],
)
def test_a_replacement_is_one_thing_in_either_order(first: str, second: str, words: list[str]) -> None:
    done = [op(0, first, POOL, 60), op(1, second, POOL, 60)]
    phase, _ = measure.phase("switch", done, state({"urn": POOL}), state({"urn": POOL}), ok=True, destroys=False)
    assert [s.op for s in phase.steps] == words
    assert (phase.creates, phase.replaces, phase.deletes) == (0, 1, 0)
    assert phase.makespan_s == 120


def test_a_failed_step_took_time_and_made_nothing() -> None:
    done = [op(0, "create", NET, 12), op(1, "create", CLUSTER, 300, result="failed: internalError")]
    phase, _ = measure.phase("up", done, None, state({"urn": NET}), ok=False, destroys=False)
    assert (phase.creates, phase.makespan_s) == (1, 300)


def test_the_longest_chain_goes_from_what_is_made_to_what_goes() -> None:
    """Deletes wait for every create, except the one before a replacement, whose create waits for it."""
    chain = schedule([op(0, "create", CLUSTER, 300), op(1, "create", NET, 10), op(2, "delete", POOL, 50)], {}, 16)
    assert [o.op for o in chain.chain] == ["create", "delete"]
    assert chain.makespan_s == 350
    first = schedule([op(0, "delete", POOL, 50), op(1, "create", POOL, 60), op(2, "create", NET, 10)], {}, 16)
    assert first.makespan_s == 110
    assert next(s for s in first.steps if s.urn == NET).start_s == 0
    narrow = schedule([op(0, "create", CLUSTER, 300), op(1, "create", NET, 10)], {}, 1)
    assert [o.urn for o in narrow.chain] == [CLUSTER, NET]


def pool(name: str, machine: str, nodes: int) -> Thing:
    outputs = {"cluster": "c", "nodeCount": nodes, "location": "us-central1-a", "nodeConfig": {"machineType": machine}}
    token = "gcp:container/nodePool:NodePool"
    return Thing(cloud="gcp", token=token, id=name, name=name, outputs=outputs, account="gcp")  # type: ignore[arg-type]


def test_both_generations_count_and_only_what_goes_costs_extra() -> None:
    """Ten minutes of a new pool beside an old one: quota for both, the old one's price for as long as both stand."""
    world = World()
    cluster = Thing(
        cloud="gcp", token="gcp:container/cluster:Cluster", id="c", name="c", account="gcp",
        outputs={"name": "c", "initialNodeCount": 1, "removeDefaultNodePool": True, "location": "us-central1-a"},
    )  # fmt: skip
    old, new = pool("old", "e2-standard-4", 3), pool("new", "e2-standard-8", 2)
    world.note(cluster, seq=0)
    world.note(old, seq=1)
    world.note(new, seq=2)
    world.note(old, gone=True, seq=3)
    other = POOL + "-new"
    done = [op(2, "create", other, 400), op(3, "delete", POOL, 200)]
    world.operations = [op(0, "create", CLUSTER, 1), op(1, "create", POOL, 1), *done]
    phase, timeline = measure.phase(
        "switch", done, state({"urn": POOL}), state({"urn": other}), ok=True, destroys=False
    )

    class Flat:
        def machine(self, machine: Machine) -> float | None:
            return {"e2-standard-4": 1.0, "e2-standard-8": 2.0}[machine.type]

        def thing(self, thing: Thing, beside: Moment) -> float | None:
            return None if thing.token.endswith(":Cluster") else 0.0

    case = Case(world=world, timeline=timeline, phase=phase, outputs={}, config={}, served=True, destroys=False)
    judged, _ = quota(case)
    assert judged.quota_peak["vcpus"] == 3 * 4 + 2 * 8
    paid, _ = Money(prices=Flat())(case)
    assert paid.extra_cost_usd == pytest.approx(3 * 1.0 * 600 / 3600, abs=1e-4)
    assert paid.unpriced == (), "the cluster stands before and after: its price changes nothing"


def test_prices_are_the_catalogues_rows() -> None:
    """Whole machines with their accelerators; spot by its own row; what no row has is None and not 0."""
    prices = CatalogPrices(catalog=load())
    plain = Machine(cloud="gcp", type="e2-standard-4", region="us-central1", spot=False)
    row = next(p for p in load().prices if (p.machine_type, p.region) == ("e2-standard-4", "us-central1"))
    assert row.on_demand is not None
    assert prices.machine(plain) == float(row.on_demand)
    t4 = Machine(
        cloud="gcp",
        type="n1-standard-4",
        region="us-central1",
        spot=False,
        accelerator="nvidia-tesla-t4",
        accelerators=1,
    )
    bare = Machine(cloud="gcp", type="n1-standard-4", region="us-central1", spot=False)
    assert (prices.machine(t4) or 0) > (prices.machine(bare) or 0) > 0
    assert prices.machine(Machine(cloud="gcp", type="e2-standard-4", region="mars-1", spot=False)) is None


def thing(token: str, id: str = "x", **outputs: Any) -> Thing:
    return Thing(cloud=token.partition(":")[0], token=token, id=id, name=id, outputs=outputs)


def usd(cloud: str, fee: str) -> float:
    found = load().fee(cloud, fee).usd
    assert found is not None
    return float(found)


def test_what_runs_by_the_clock_has_its_fees() -> None:
    """By type and property; five forwarding rules are one; a NAT counts machines; what has no figure is None."""
    prices = CatalogPrices(catalog=load())
    rules = {str(i): thing("gcp:compute/forwardingRule:ForwardingRule", str(i)) for i in range(7)}
    node = Machine(cloud="gcp", type="e2-standard-4", region="us-central1", spot=False)
    beside = Moment(at_s=0, things=rules, machines={node: 40})
    first, further = (
        usd("gcp", f"load_balancer_{n}")
        for n in ("first_five_forwarding_rules_together", "each_further_forwarding_rule")
    )
    assert sum(prices.thing(r, beside) or 0 for r in rules.values()) == pytest.approx(first + 2 * further)
    nat = usd("gcp", "cloud_nat_gateway_per_assigned_vm_first_32") * 32 + usd("gcp", "cloud_nat_external_ip")
    assert prices.thing(thing("gcp:compute/routerNat:RouterNat"), beside) == pytest.approx(nat)
    store = thing("gcp:redis/instance:Instance", tier="STANDARD_HA", memorySizeGb=6)
    assert prices.thing(store, beside) == pytest.approx(6 * usd("gcp", "memorystore_redis_standard_capacity_tier_m2"))
    assert prices.thing(thing("aws:kms/key:Key"), beside) == pytest.approx(usd("aws", "kms_key") / 730)
    assert prices.thing(thing("aws:eks/cluster:Cluster"), beside) == 0.1
    assert prices.thing(thing("gcp:compute/network:Network"), beside) == 0.0
    assert prices.thing(thing("gcp:compute/address:Address", addressType="INTERNAL"), beside) == 0.0
    assert prices.thing(thing("gcp:redis/instance:Instance", tier="GOLDEN", memorySizeGb=6), beside) is None


def test_every_row_by_the_hour_is_a_fee_of_its_type() -> None:
    """The types and fees are those of the bill, so that both count the same things."""
    here = Path(measure.__file__).parent
    with (here / "hourly.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (here.parents[1] / "infra" / "plan" / "cost_resources.csv").open(newline="") as file:
        bill = {r["type"]: r["items"].split(";") for r in csv.DictReader(file)}
    assert [r for r in rows if r["fee"] and r["fee"] not in bill[r["type"]]] == []
    units = {load().fee(r["type"].partition(":")[0], r["fee"]).unit for r in rows if r["fee"]}
    assert all(u == "hour" or u.endswith(("-hour", "-month")) for u in units)
