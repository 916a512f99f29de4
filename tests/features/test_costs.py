"""What operations cost, said before they begin: by the catalogue's rows, and where it has none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from cli.stores import costs
from infra.catalog import load
from infra.spec import Spec
from tests.stores.test_protect import spec_of

GIG = 10**9
UNPRICED = "a price that the catalogue does not have"


def said(operation: str, store: str, *, bucket: bool, size: int = 12 * GIG, entities: int = 3_000_000) -> str:
    own = {"valkey": ("memorystore", {"engine": "valkey"})}
    name, features = own.get(store, (store, {}))
    spec: Spec = spec_of(name, features=features)
    return "; ".join(costs.of(operation, store, spec, load(), size=size, entities=entities, bucket=bucket))


@pytest.mark.parametrize(
    ("operation", "store", "bucket", "words"),
    [
        ("backup", "dynamodb", False, ["about $1.20 a month"]),  # 0.10 a GB and month
        ("backup", "dynamodb", True, ["about $0.28 a month", "about $1.20 once"]),  # S3 at 0.023; the export at 0.10
        ("restore", "dynamodb", False, ["about $1.80 once", "billed beside the stack's: about $"]),  # 0.15 a GB
        ("backup", "elasticache", False, ["about $1.02 a month"]),  # 0.085
        ("backup", "memorystore", True, ["about $0.24 a month"]),  # Cloud Storage at 0.02
        ("backup", "valkey", False, [UNPRICED]),
        ("backup", "bigtable", True, ["about $0.24 a month"]),
        ("backup", "firestore", True, ["about $0.24 a month", "each document is read once: about $0.90 for 3,000,000"]),
        ("restore", "firestore", True, ["each document is written once: about $2.70"]),
    ],
)
def test_an_operation_has_its_price(operation: str, store: str, bucket: bool, words: list[str]) -> None:
    text = said(operation, store, bucket=bucket)
    for word in words:
        assert word in text


def test_small_amounts_are_not_nothing() -> None:
    assert "about $0.01 a month" in said("backup", "memorystore", bucket=True, size=1000)


@pytest.mark.parametrize(("store", "more"), [("memorystore", {}), ("dynamodb", {}), ("bigtable", {})])
def test_a_larger_store_costs_more(store: str, more: dict[str, Any]) -> None:
    small, large = (costs.month(spec_of(store, features={"keys": n, **more}), load()) for n in (10**5, 10**10))
    if store == "memorystore":
        assert large is None, "it does not fit, and so it has no price"
        large = costs.month(spec_of(store, features={"keys": 10**7}), load())
    assert small is not None
    assert large is not None
    assert large > small > Decimal(0)


def test_what_has_no_price_is_not_counted_as_nothing() -> None:
    assert costs.month(spec_of("firestore"), load()) is None, "its storage has no row with a figure"
