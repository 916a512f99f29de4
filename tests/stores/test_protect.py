"""Forbidden changes of a store: a table over the replacing fields, against what the providers were measured to do."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from infra.plan import LatencyMs, Plan, Replicas, Serving, UsdPerMonth
from infra.plan import store as sizes
from infra.spec import Spec, parse
from infra.stores import protect
from infra.stores.store import Field, fields
from tests.stores.harness import values

ROOT = Path(__file__).resolve().parents[2]
STORES = ("memorystore", "bigtable", "firestore", "dynamodb", "elasticache")
KIND_OF = {"redis": "memorystore", "memorystore": "memorystore"}


def spec_of(store: str, **more: Any) -> Spec:
    return parse(values(store, **more))


def wanted(spec: Spec) -> dict[str, object]:
    plan = Plan(
        spec=spec,
        pools=(),
        replicas=Replicas(min=1, max=1, start=1),
        serving=Serving(instances=1, max_batch=1, queue_delay_us=0, preferred_batch=(), models=(), exit_timeout_s=5),
        latency_ms=LatencyMs(mean=1, p99=1),
        max_rps_within_slo=1,
        generation="00000000",
        usd_per_month=UsdPerMonth(min=0, expected=0, max=0),
        usd_per_million_predictions=0,
    )
    found: dict[str, object] = import_module(f"infra.stores.{spec.feature_store}").fields(plan, "dev")
    return found


def measured(token: str) -> dict[str, list[dict[str, str]]]:
    """Rows of the simulated provider, which were measured on the real one, by path."""
    found: dict[str, list[dict[str, str]]] = {}
    with (ROOT / f"simulators/tables/fields_{token.split(':')[0]}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["type"] == token:
                found.setdefault(row["path"], []).append(row)
    return found


def store_of(row: Field) -> str:
    word = row.type.split(":")[1].split("/")[0]
    return KIND_OF.get(word, word)


TYPES = sorted({f.type for f in fields() if not f.type.startswith("store:")})
OTHERWISE = {  # replaced in effect, though the provider's plan says update: with the source in the row
    ("gcp:redis/instance:Instance", "readReplicasMode"),
    ("gcp:firestore/database:Database", "type"),
    ("gcp:memorystore/instance:Instance", "desiredAutoCreatedEndpoints"),
}


@pytest.mark.parametrize("token", TYPES)
def test_rows_are_the_measured_ones(token: str) -> None:
    """Every field that the provider replaces for is a row, and no row is invented."""
    rows = measured(token)
    replacing = {
        path.replace("[*]", "[0]") for path, found in rows.items() if any(r["action"] == "replace" for r in found)
    }
    ours = {f.path for f in fields() if f.type == token}
    below = {p for p in replacing if p.split("[")[0].split(".")[0] in ours}
    assert replacing - below <= ours, "a field that replaces is not known to replace"
    assert {p for p in ours if p.replace("[1]", "[0]") not in replacing and (token, p) not in OTHERWISE} == set()


@pytest.mark.parametrize("row", fields(), ids=lambda f: f"{f.type}-{f.path}")
def test_a_change_is_refused_or_held(row: Field) -> None:
    """With its way out where a key asks for it; where Slipway chose it, the store stays as it was made."""
    store = store_of(row)
    spec = spec_of(store)
    now = {**wanted(spec), row.path: "something else"}
    recorded = {**wanted(spec), row.path: "as it was made"}
    verdict = protect.verdict(store, recorded, now, spec)
    if row.key:
        (problem,) = verdict.refused
        assert problem.path == row.key
        assert "something else would replace it" in problem.reason
        assert row.way.partition(",")[0] in problem.hint
        assert verdict.notes == ()
    else:
        assert verdict.refused == ()
        (note,) = verdict.notes
        assert "as it was made" in note


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("before", ["economy", "balanced", "performance"])
@pytest.mark.parametrize("after", ["economy", "balanced", "performance"])
def test_no_cost_mode_replaces_a_store(store: str, before: str, after: str) -> None:
    recorded = wanted(spec_of(store, cost=before))
    held = protect.hold(spec_of(store, cost=after), recorded)
    now = wanted(held.spec)
    verdict = protect.verdict(store, recorded, now, held.spec)
    assert verdict.refused == ()
    moved = {k for k in now if now[k] != recorded.get(k)}
    assert moved <= {"capacity_bytes"}


ASKED = [
    ("memorystore", {"replicas": 0}, {"replicas": 1}, "features.replicas", "`slipway store backup`"),
    ("memorystore", {"replicas": 1}, {"replicas": 0}, "features.replicas", "`slipway store backup`"),
    ("memorystore", {"replicas": 1}, {"replicas": 3}, "features.replicas", "`slipway store backup`"),
    ("memorystore", {}, {"engine": "valkey"}, "features.engine", "move the traffic"),
    ("memorystore", {"engine": "valkey"}, {"engine": "redis"}, "features.engine", "move the traffic"),
    ("elasticache", {}, {"engine": "redis"}, "features.engine", "never goes back"),
    ("memorystore", {"keys": 20_000_000}, {"keys": 1000}, "features.keys", "a second stack loaded with"),
    ("memorystore", {"engine": "valkey"}, {"engine": "valkey", "keys": 1000}, "features.keys", "a second stack"),
    ("elasticache", {"keys": 9_000_000}, {"keys": 1000}, "features.keys", "a second stack loaded with"),
]


@pytest.mark.parametrize(("store", "before", "after", "path", "way"), ASKED)
def test_what_is_asked_for_is_refused_with_its_way_out(
    store: str, before: dict[str, Any], after: dict[str, Any], path: str, way: str
) -> None:
    recorded = wanted(spec_of(store, features=before))
    held = protect.hold(spec_of(store, features=after), recorded)
    verdict = protect.verdict(store, recorded, wanted(held.spec), held.spec)
    refused = [p for p in verdict.refused if p.path == path]
    assert refused, verdict
    assert way in str(refused[0])


def test_growth_and_a_shrink_that_still_holds_the_data_pass() -> None:
    recorded = wanted(spec_of("memorystore", features={"keys": 2_000_000}))
    for keys in (20_000_000, 1_900_000):
        spec = spec_of("memorystore", features={"keys": keys})
        assert protect.verdict("memorystore", recorded, wanted(spec), spec).refused == ()


def test_data_that_no_size_holds_is_refused_before_the_first_update() -> None:
    for store, other in (("memorystore", "bigtable"), ("elasticache", "dynamodb")):
        spec = spec_of(store, features={"keys": 10_000_000_000})
        (problem,) = protect.verdict(store, None, wanted(spec), spec).refused
        assert problem.path == "features.keys"
        assert other in problem.allowed


def test_another_kinds_fingerprint_says_nothing() -> None:
    """The store that was there before is refused by the transition; its fields must not leak into this one."""
    spec = spec_of("bigtable")
    recorded = {"kind": "memorystore", "project": "another", "data_bytes": 10**15}
    assert protect.verdict("bigtable", recorded, wanted(spec), spec) == protect.Verdict(refused=(), notes=())


def test_numbers_of_a_fingerprint_survive_pulumi() -> None:
    """Outputs have no whole numbers: what was recorded as 6379 comes back as 6379.0."""
    spec = spec_of("elasticache")
    now = wanted(spec)
    back = {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in now.items()}
    assert protect.verdict("elasticache", back, now, spec) == protect.Verdict(refused=(), notes=())


def test_bill_and_stack_agree_on_the_size() -> None:
    """The size that is built is the one whose fee is billed."""
    for engine in ("valkey", "redis"):
        spec = spec_of("elasticache", features={"engine": engine})
        size = sizes.elasticache_size(spec)
        assert size is not None
        assert size.fee.endswith(size.size.removeprefix("cache.").replace(".", "_"))
        assert size.fee.startswith(f"elasticache_{engine}")


def test_the_document_is_current() -> None:
    from infra.stores import document

    assert (ROOT / "docs/stores.md").read_text() == document.markdown()
