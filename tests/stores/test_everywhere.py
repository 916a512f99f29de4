"""Every store on every cloud that has it, in both shapes and every mode: no mode moves what holds the entities."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.plan import store as sizes
from infra.plan.cost_store import store_uses
from infra.stores import protect
from tests.stores.test_protect import spec_of, wanted

STORES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "redis": ("memorystore", {}),
    "redis, standard": ("memorystore", {"replicas": 1}),
    "redis, read replicas": ("memorystore", {"replicas": 2}),
    "valkey": ("memorystore", {"engine": "valkey"}),
    "bigtable": ("bigtable", {}),
    "firestore": ("firestore", {}),
    "dynamodb": ("dynamodb", {}),
    "dynamodb, provisioned": ("dynamodb", {"capacity": "provisioned"}),
    "elasticache": ("elasticache", {}),
    "elasticache, redis": ("elasticache", {"engine": "redis"}),
}
COSTS, SCALINGS, SHAPES = ("economy", "balanced", "performance"), ("horizontal", "vertical"), ("kubernetes", "vm")
MOVES = {"capacity_bytes"}  # in place


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", STORES)
def test_no_mode_moves_a_store(case: str, shape: str) -> None:
    """Made in one mode, then through all others and back: nothing is refused, and what replaces stays the same."""
    store, features = STORES[case]
    access = {"admin_cidrs": ["203.0.113.0/24"]} if shape == "kubernetes" else {}
    modes = list(itertools.product(COSTS, SCALINGS))
    for first in modes:
        recorded = wanted(spec_of(store, shape=shape, features=features, cost=first[0], scaling=first[1], **access))
        for cost, scaling in [*modes, first]:
            asked = spec_of(store, shape=shape, features=features, cost=cost, scaling=scaling, **access)
            held = protect.hold(asked, recorded)
            now = wanted(held.spec)
            assert protect.verdict(store, recorded, now, held.spec).refused == ()
            assert {k for k in now if now[k] != recorded.get(k)} <= MOVES
            assert store_uses(held.spec), "it is on the bill, or the bill says that it has no price"


@pytest.mark.parametrize("case", STORES)
def test_a_cost_mode_says_how_a_store_is_made(case: str) -> None:
    """Where the configuration does not: copies come with what the mode promises, sizes with the data."""
    store, features = STORES[case]
    copies = {c: sizes.replicas(spec_of(store, features=features, cost=c)) for c in COSTS}
    if "replicas" in features:
        assert set(copies.values()) == {features["replicas"]}
    else:
        assert copies["economy"] <= copies["balanced"] <= copies["performance"]
        assert copies["performance"] > 0, "a zone may be lost"
    keys = (10**5, 10**10, 3 * 10**10) if store == "bigtable" else (10**5, 2 * 10**6, 10**7)
    room = [sizes.capacity_gib(spec_of(store, features={**features, "keys": n})) for n in keys]
    if room[0] is not None:
        assert room == sorted(room, key=lambda gib: gib or 0)
        assert room[0] != room[2]


CPU_STACKS = {  # worked stacks, by cloud and shape
    ("gcp", "kubernetes"): "gke-cpu",
    ("gcp", "vm"): "gce-cpu",
    ("aws", "kubernetes"): "eks-cpu",
    ("aws", "vm"): "ec2-cpu",
}
CLOUD = {"memorystore": "gcp", "bigtable": "gcp", "firestore": "gcp", "dynamodb": "aws", "elasticache": "aws"}
SAMPLED = ("redis", "vm")
DATA = (
    "gcp:redis/instance",
    "gcp:memorystore/instance",
    "gcp:bigtable/instance",
    "gcp:bigtable/table:",
    "gcp:firestore/database",
    "aws:dynamodb/table:",
    "aws:elasticache/replicationGroup",
)


def walks() -> list[Any]:
    full = "SLIPWAY_FULL" in os.environ
    skip = pytest.mark.skipif(not full, reason="set SLIPWAY_FULL to walk every one")
    pairs = itertools.product(STORES, SHAPES)
    return [pytest.param(*pair, marks=() if pair == SAMPLED else skip) for pair in pairs]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "shape"), walks())
def test_a_stack_lives_with_its_store(case: str, shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up, through each cost mode to the other scaling and back, and to the first mode again, away: the store is the
    same one throughout."""
    for package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra `simulators`)")
    from tests.stacks.life import TALL, WIDE, Life, done

    store, features = STORES[case]
    stack = CPU_STACKS[CLOUD[store], shape]
    size = {"keys": 1_000_000, "value_bytes": 512, "reads_per_s": 200, "writes_per_s": 20}
    always = {"feature_store": store, "features": {**size, **features}, "budget_usd_per_month": 90_000}
    life = Life(stack=stack, folder=tmp_path / "state", always=always)

    def holds() -> dict[str, str]:
        return {k: r["id"] for k, r in life.resources().items() if k.startswith(DATA)}

    done(life.go("up", {"cost": "economy", **WIDE}))
    made = holds()
    assert made
    if (case, shape) == SAMPLED:
        the_way_to_it_is_known(stack, list(life.resources().values()), monkeypatch)
    for cost in COSTS if "SLIPWAY_FULL" in os.environ else COSTS[::2]:
        for scaling in (WIDE, TALL, WIDE):
            for _ in range(2 if stack == "gce-cpu" else 1):  # there the second update takes the old machines away
                assert "replace" not in done(life.go("up", {"cost": cost, **scaling})).changes
            assert holds() == made
    done(life.go("up", {"cost": "economy", **WIDE}))
    assert holds() == made
    done(life.go("destroy"))
    assert life.world.leftovers() == ()


def the_way_to_it_is_known(stack: str, resources: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command that loads features needs is in the state: where a machine stands, and what the store asks for."""
    from cli.features import one_shot

    where = one_shot.place(stack, resources)
    assert where.zone.startswith("europe-west4-")
    assert "/subnetworks/" in where.subnet
    assert where.tag.startswith(stack)
    assert where.port.isdecimal()
    asked: list[tuple[str, ...]] = []

    def gcloud(*arguments: str) -> str:
        asked.append(arguments)
        return "password"

    monkeypatch.setattr(one_shot, "_gcloud", gcloud)
    found = one_shot.store_secrets(where.project, resources)
    assert found["password"] == "password"
    assert "BEGIN CERTIFICATE" in found["ca"]
    assert f"--secret={stack}-store-password" in asked[0]
