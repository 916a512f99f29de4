"""What a bill counts with beside prices: the blueprint's own numbers and stated assumptions, as rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

from infra.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item of the catalogue's fees that a kind of stack is billed for, and the quantity that drives it."""

    cloud: str
    shape: str
    exposure: str
    fee: str
    driver: str  # a quantity of infra/plan/cost_stack.py; as_used: no quantity is known beforehand
    factor: Decimal
    basis: str

    def applies(self, spec: Spec) -> bool:
        asked = ((self.cloud, spec.cloud), (self.shape, spec.shape), (self.exposure, spec.exposure))
        return all(mine in ("*", theirs) for mine, theirs in asked)


@dataclass(frozen=True, kw_only=True)
class StoreSize:
    """A size of a store with its fee: the smallest that holds the data is taken."""

    store: str
    variant: str
    up_to_gib: Decimal
    fee: str
    size: str  # node type, where a store has them


def _rows(name: str) -> Iterator[dict[str, str]]:
    with Path(__file__).with_name(name).open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


@cache
def items() -> tuple[Item, ...]:
    return tuple(
        Item(
            cloud=r["cloud"],
            shape=r["shape"],
            exposure=r["exposure"],
            fee=r["fee"],
            driver=r["driver"],
            factor=Decimal(r["factor"] or 0),
            basis=r["basis"],
        )
        for r in _rows("cost_items.csv")
    )


@cache
def store_sizes() -> tuple[StoreSize, ...]:
    return tuple(
        StoreSize(
            store=r["store"], variant=r["variant"], up_to_gib=Decimal(r["up_to_gib"]), fee=r["fee"], size=r["size"]
        )
        for r in _rows("cost_stores.csv")
    )


@cache
def _facts() -> dict[tuple[str, str, str], str]:
    return {(r["fact"], r["cloud"], r["shape"]): r["value"] for r in _rows("cost_facts.csv")}


def text(name: str, spec: Spec) -> str:
    """The value of a fact where the stack runs: the row of its cloud and shape, or the one of all."""
    facts = _facts()
    for cloud in (spec.cloud, "*"):
        for shape in (spec.shape, "*"):
            if (name, cloud, shape) in facts:
                return facts[name, cloud, shape]
    raise KeyError(f"{name} of {spec.cloud} {spec.shape}")


def amount(name: str, spec: Spec) -> Decimal:
    return Decimal(text(name, spec))
