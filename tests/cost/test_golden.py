"""Twelve stacks, priced by hand: golden.csv has each line's price from its row, its quantity as arithmetic, its USD."""

from __future__ import annotations

import ast
import csv
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from cost_stacks import STACKS

from infra.catalog import load
from infra.plan.cost import cost
from infra.plan.cost_stack import bill, quantities

MONTHS = ("min", "expected", "max")
with Path(__file__).with_name("golden.csv").open(newline="") as file:
    GOLDEN = list(csv.DictReader(file))
CENT = Decimal("0.01")


def value(node: ast.expr) -> Decimal:
    """The arithmetic of a cell, in decimals: numbers, + - * / and brackets."""
    if isinstance(node, ast.Constant):
        return Decimal(str(node.value))
    assert isinstance(node, ast.BinOp), ast.dump(node)
    left, right = value(node.left), value(node.right)
    if isinstance(node.op, ast.Mult):
        return left * right
    if isinstance(node.op, ast.Div):
        return left / right
    return left + right if isinstance(node.op, ast.Add) else left - right


@pytest.mark.parametrize("row", GOLDEN, ids=lambda r: f"{r['stack']}: {r['item']}")
def test_the_golden_cases_are_calculated_right(row: dict[str, str]) -> None:
    """The typed USD are the typed arithmetic, by another evaluator than the planner's."""
    for month in MONTHS:
        price = Decimal((row["worst_unit_price"] if month == "max" else "") or row["unit_price"])
        quantity = value(ast.parse(row[month], mode="eval").body)
        assert (quantity * price).quantize(CENT, ROUND_HALF_UP) == Decimal(row[f"usd_{month}"]), month


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_costs_what_was_calculated_by_hand(stack: str) -> None:
    """Every line of it, in the same order, to the cent; and nothing else."""
    spec, pools = STACKS[stack]
    found = cost(quantities(spec, pools, load()), load())
    lines = [(x.item, str(x.unit_price), *(getattr(x.usd, m) for m in MONTHS)) for x in found.lines]
    rows = [r for r in GOLDEN if r["stack"] == stack]
    assert lines == [(r["item"], r["unit_price"], *(Decimal(r[f"usd_{m}"]) for m in MONTHS)) for r in rows]


@pytest.mark.parametrize(
    ("stack", "month", "usd"),
    [
        # 195.67 + 283.59 + 46.36 + 73.00 + 50.00 + 18.25 + 12.92 + 3.23 + 13.46 + 5.11 + 15.30 + 3.65 + 0.00 + 0.06
        ("gke-cpu", "expected", "720.60"),
        # 384.05 spot g4dn never at the mean: 383.98 + 8.00 + 2 * 16.43 + 16.15 + 32.85 + 0.45 + 3.65 + 0.00 + 1.00
        ("ec2-gpu", "expected", "478.94"),
    ],
)
def test_a_total_is_the_sum_of_its_lines(stack: str, month: str, usd: str) -> None:
    """Added up by hand from the golden lines."""
    spec, pools = STACKS[stack]
    assert Decimal(str(getattr(bill(spec, pools, load()), month))) == Decimal(usd)
