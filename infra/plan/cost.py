"""The bill of a month: quantities of what a stack contains, times the catalogue's rows, to the cent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal

from infra.catalog import Catalog, Price, Sale
from infra.spec import Fix, Problem
from infra.spec.problems import problem

HOURS = Decimal(730)  # a month, as the clouds' calculators count it: 365 days of 24 hours, by 12
CENT = Decimal("0.01")


def exact(number: float | int) -> Decimal:
    """A number as it is written, not as the machine keeps it."""
    return Decimal(str(number))


@dataclass(frozen=True, kw_only=True)
class Amount:
    """In the least month (no traffic, pools at their least), the expected one (mean load), the worst (always peak)."""

    min: Decimal
    expected: Decimal
    max: Decimal

    @staticmethod
    def of(amount: Decimal | int) -> Amount:
        """The same in every month."""
        return Amount(min=Decimal(amount), expected=Decimal(amount), max=Decimal(amount))

    @staticmethod
    def used(expected: Decimal, most: Decimal) -> Amount:
        """Of what follows the load: none of it without traffic."""
        return Amount(min=Decimal(0), expected=expected, max=most)

    def times(self, factor: Decimal | int) -> Amount:
        return Amount(min=self.min * factor, expected=self.expected * factor, max=self.max * factor)

    def plus(self, other: Amount) -> Amount:
        return Amount(min=self.min + other.min, expected=self.expected + other.expected, max=self.max + other.max)

    def cents(self) -> Amount:
        low, mean, high = (x.quantize(CENT, ROUND_HALF_UP) for x in (self.min, self.expected, self.max))
        return Amount(min=low, expected=mean, max=high)


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Equal machines of one capacity type."""

    role: str
    machine_type: str
    nodes: Amount
    capacity_type: str = "on-demand"
    accelerator: str | None = None
    accelerator_count: int = 0
    worst_on_demand: bool = False  # spot that falls back: the worst month pays on-demand prices


@dataclass(frozen=True, kw_only=True)
class Use:
    """So much of an item of the catalogue's fees, in the fee's unit."""

    fee: str
    quantity: Amount
    basis: str


@dataclass(frozen=True, kw_only=True)
class Unpriced:
    """What the stack contains or does and the bill cannot say a figure for."""

    item: str
    reason: str

    def to_json(self) -> dict[str, object]:
        return {"item": self.item, "reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class Quantities:
    """Everything that a stack is billed for in a month."""

    cloud: str
    region: str
    machines: tuple[Machines, ...]
    uses: tuple[Use, ...] = ()
    unpriced: tuple[Unpriced, ...] = ()
    predictions: Decimal = Decimal(0)  # in the expected month


@dataclass(frozen=True, kw_only=True)
class Line:
    item: str
    quantity: Amount
    unit: str
    unit_price: Decimal
    usd: Amount  # each rounded to the cent, so that the lines add up to the bill
    source: str
    as_of: str
    basis: str

    def to_json(self) -> dict[str, object]:
        return {
            "item": self.item,
            "quantity": round(float(self.quantity.expected), 6),
            "unit": self.unit,
            "unit_price": float(self.unit_price),
            "usd": float(self.usd.expected),
            "usd_min": float(self.usd.min),
            "usd_max": float(self.usd.max),
            "source": self.source,
            "as_of": self.as_of,
            "basis": self.basis,
        }


@dataclass(frozen=True, kw_only=True)
class Cost:
    lines: tuple[Line, ...]
    unpriced: tuple[Unpriced, ...]
    total: Amount
    usd_per_million_predictions: Decimal | None  # in the expected month; None without predictions


def cost(quantities: Quantities, catalog: Catalog) -> Cost:
    """The bill, with each line's row, and what has none."""
    lines: list[Line] = []
    unpriced = list(quantities.unpriced)
    for found in (*_machines(quantities, catalog), *_uses(quantities, catalog)):
        if isinstance(found, Line):
            lines.append(found)
        else:
            unpriced.append(found)
    total = Amount.of(0)
    for line in lines:
        total = total.plus(line.usd)
    return Cost(
        lines=tuple(lines),
        unpriced=tuple(unpriced),
        total=total,
        usd_per_million_predictions=total.expected / (quantities.predictions / 1_000_000)
        if quantities.predictions
        else None,
    )


def _machines(quantities: Quantities, catalog: Catalog) -> Iterator[Line | Unpriced]:
    sales = {
        (s.machine_type, s.accelerator, s.accelerator_count): s
        for s in catalog.sales(quantities.cloud, quantities.region)
    }
    for m in quantities.machines:
        if not m.nodes.max:
            continue
        sale = sales.get((m.machine_type, m.accelerator, m.accelerator_count))
        if sale is None:
            yield Unpriced(item=_named(m), reason=f"the catalogue has no price row for it in {quantities.region}")
            continue
        yield from (_machine(m, sale, row) for row in sale.prices)


def _machine(m: Machines, sale: Sale, row: Price) -> Line | Unpriced:
    price = row.spot if m.capacity_type == "spot" else row.on_demand
    worst = row.on_demand if m.worst_on_demand else price
    part = _part(m, sale, row)
    if price is None or worst is None:
        missing = m.capacity_type if price is None else "on-demand"
        return Unpriced(item=part, reason=f"no trusted {missing} figure: {row.source}")
    hours = m.nodes.times(HOURS)
    usd = Amount(min=hours.min * price, expected=hours.expected * price, max=hours.max * worst)
    basis = f"{_count(m.nodes)} x 730 h"
    if worst != price:
        basis += f"; the worst month at the on-demand price {worst}"
    return Line(
        item=part,
        quantity=hours,
        unit="machine-hour",
        unit_price=price,
        usd=usd.cents(),
        source=row.source,
        as_of=row.as_of,
        basis=basis,
    )


def _named(m: Machines) -> str:
    with_what = f" with {m.accelerator_count} {m.accelerator}" if m.accelerator else ""
    return f"{m.role}: {m.machine_type}{with_what}, {m.capacity_type}"


def _part(m: Machines, sale: Sale, row: Price) -> str:
    """On Google Cloud host and accelerators are two rows, and so two lines."""
    if len(sale.prices) == 1:
        return _named(m)
    what = (
        f"{m.machine_type} host" if row.machine_type else f"{m.accelerator_count} {m.accelerator} of {m.machine_type}"
    )
    return f"{m.role}: {what}, {m.capacity_type}"


def _count(nodes: Amount) -> str:
    low, mean, high = (format(x.normalize(), "f") for x in (nodes.min, nodes.expected, nodes.max))
    return low if low == high else f"{low} to {high} machines, {mean} expected,"


def _uses(quantities: Quantities, catalog: Catalog) -> Iterator[Line | Unpriced]:
    for use in quantities.uses:
        if not use.quantity.max:
            continue
        fee = catalog.fee(quantities.cloud, use.fee)
        if fee.usd is None:
            yield Unpriced(item=fee.item, reason=f"{fee.note}; {use.basis}")
            continue
        yield Line(
            item=fee.item,
            quantity=use.quantity,
            unit=fee.unit,
            unit_price=fee.usd,
            usd=use.quantity.times(fee.usd).cents(),
            source=fee.source,
            as_of=fee.as_of,
            basis=use.basis + _elsewhere(fee.region, quantities.region),
        )


def _elsewhere(priced: str, region: str) -> str:
    """Few fees have a figure for each region: where the stack's is another one, the line says so."""
    name = priced.split(" (")[0]
    return "" if not name or name in ("all", region) else f"; the figure is for {name}"


def over_budget(worst_usd: Decimal, budget: float | None, lines: Sequence[Line] = ()) -> Problem | None:
    """The budget gate, on the worst month: a month that may happen is one that has to be paid."""
    if budget is None or worst_usd <= exact(budget):
        return None
    largest = max(lines, key=lambda x: x.usd.max, default=None)
    most = f"; the largest line is {largest.item} with {largest.usd.max}" if largest else ""
    enough = int(worst_usd.to_integral_value(ROUND_CEILING))
    return problem(
        ("budget_usd_per_month",),
        f"the worst month costs {worst_usd.quantize(CENT, ROUND_HALF_UP)} USD, over the budget of {budget:g}{most}",
        fix=Fix(steps=("budget_usd_per_month",), value=enough),
    )
