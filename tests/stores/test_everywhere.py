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


# Whole stacks that no worked one is: store, and the worked stack whose cloud and shape it stands on.
WALKS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "firestore on GKE": ("gke-cpu", {"feature_store": "firestore"}),
    "valkey on GKE": ("gke-cpu", {"features": {"engine": "valkey", "keys": 1_000_000, "value_bytes": 512}}),
    "bigtable on Compute Engine": ("gce-cpu", {"feature_store": "bigtable"}),
    "redis on Compute Engine": ("gce-cpu", {"feature_store": "memorystore"}),
}
SAMPLED = ("redis on Compute Engine",)
DATA = ("gcp:redis/instance", "gcp:memorystore/instance", "gcp:bigtable/instance", "gcp:firestore/database")


@pytest.mark.slow
@pytest.mark.parametrize(
    "walk",
    [
        pytest.param(
            w,
            marks=pytest.mark.skipif(
                w not in SAMPLED and "SLIPWAY_FULL" not in os.environ, reason="set SLIPWAY_FULL to walk every one"
            ),
        )
        for w in WALKS
    ],
)
def test_a_stack_lives_with_its_store(walk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up, to the other scaling and back, to the dearest mode and back, away: the store is the same one throughout."""
    for package in ("pulumi_gcp", "pulumi_kubernetes"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra `simulators`)")
    from tests.stacks.life import Life, done

    stack, always = WALKS[walk]
    budget = {"budget_usd_per_month": 90_000, "cost": "economy"}
    life = Life(stack=stack, folder=tmp_path / "state", always={**always, **budget})

    def holds() -> dict[str, str]:
        return {k: r["id"] for k, r in life.resources().items() if k.startswith(DATA)}

    done(life.go("up"))
    made = holds()
    assert made
    if walk == "redis on Compute Engine":
        the_way_to_it_is_known(stack, list(life.resources().values()), monkeypatch)
    for change in ({"scaling": "vertical"}, {}, {"cost": "performance"}, {}):
        for _ in range(2 if stack.startswith("gce") else 1):
            assert "replace" not in done(life.go("up", change)).changes
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
