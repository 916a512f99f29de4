"""From a stack's pools and load to the quantities of a month, and to its bill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from infra.catalog import Catalog
from infra.plan.bill import Bill
from infra.plan.cost import HOURS, Amount, Machines, Quantities, Unpriced, Use, cost, exact
from infra.plan.cost_facts import amount, items, text
from infra.plan.cost_store import store_uses
from infra.plan.facts import fact
from infra.plan.groups import prepares
from infra.plan.modes import numbers
from infra.plan.predictions import passes_unread
from infra.plan.types import Pool
from infra.spec import Spec

SECONDS = HOURS * 3600
GB = Decimal(10**9)
FIRST_TB = Decimal(1024)  # GB: where Google's first price of internet traffic ends


def bill(spec: Spec, pools: Sequence[Pool], catalog: Catalog) -> Bill:
    """What a plan needs of a month: the totals and every line."""
    found = cost(quantities(spec, pools, catalog), catalog)
    return Bill(
        min=float(found.total.min),
        expected=float(found.total.expected),
        max=float(found.total.max),
        lines=tuple(line.to_json() for line in found.lines),
        unpriced=tuple(u.to_json() for u in found.unpriced),
    )


def quantities(spec: Spec, pools: Sequence[Pool], catalog: Catalog) -> Quantities:
    """Everything that the blueprint of this cloud and shape makes for these pools."""
    worst = numbers(spec)
    machines = [*_system(spec), *(_machines(p, p.capacity_type == "spot" and worst.spot_fallback) for p in pools)]
    drivers = _drivers(spec, pools, machines)
    uses: list[Use] = []
    unpriced: list[Unpriced] = []
    for item in items():
        if not item.applies(spec):
            continue
        if item.driver == "as_used":
            fee = catalog.fee(spec.cloud, item.fee)
            price = "of unknown price" if fee.usd is None else f"{fee.usd} USD"
            unpriced.append(Unpriced(item=fee.item, reason=f"priced by use, {price} for a {fee.unit}: {item.basis}"))
        else:
            quantity = drivers[item.driver].times(item.factor)
            if quantity.max:
                uses.append(Use(fee=item.fee, quantity=quantity, basis=item.basis))
    for billed in store_uses(spec):
        if isinstance(billed, Use):
            uses.append(billed)
        else:
            unpriced.append(billed)
    if spec.batch is not None:
        reason = "priced by use: its machines run as long as its input is large"
        unpriced.append(Unpriced(item="batch predictions", reason=reason))
    return Quantities(
        cloud=spec.cloud,
        region=spec.region,
        machines=tuple(machines),
        uses=tuple(uses),
        unpriced=tuple(unpriced),
        predictions=exact(spec.load.mean_rps) * SECONDS,
    )


def _system(spec: Spec) -> list[Machines]:
    """The pool that carries the entry and the autoscalers, which no mode replaces."""
    if spec.shape != "kubernetes":
        return []
    nodes = Amount.of(amount("system_nodes", spec))
    return [Machines(role="system", machine_type=text("system_machine", spec), nodes=nodes)]


def _machines(pool: Pool, worst_on_demand: bool) -> Machines:
    return Machines(
        role=pool.role,
        machine_type=pool.machine_type,
        nodes=Amount(
            min=Decimal(pool.min_nodes),
            expected=Decimal(max(pool.min_nodes, pool.expected_nodes)),
            max=Decimal(pool.max_nodes),
        ),
        capacity_type=pool.capacity_type,
        accelerator=None if pool.accelerator == "none" else pool.accelerator,
        accelerator_count=pool.accelerator_count,
        worst_on_demand=worst_on_demand,
    )


def _drivers(spec: Spec, pools: Sequence[Pool], machines: Sequence[Machines]) -> Mapping[str, Amount]:
    nodes = Amount.of(0)
    for m in machines:
        nodes = nodes.plus(m.nodes)
    zones = max([len(p.zones) for p in pools], default=1) or 1
    per_request = {name: amount(name, spec) for name in ("request_bytes", "response_bytes")}
    load = Amount.used(exact(spec.load.mean_rps), exact(spec.load.peak_rps))
    gb_in, gb_out = (load.times(SECONDS * size / GB) for size in per_request.values())
    gb_out_first = _each(gb_out, lambda x: min(x, FIRST_TB))
    hourly_gb = gb_in.plus(gb_out).times(1 / HOURS)
    connections = load.times(1 / amount("requests_per_connection", spec))
    always = Amount.of(HOURS)
    passed_on = Decimal(spec.tls is None and passes_unread(spec.server))  # gRPC, by connection
    drivers = {
        "hours": always,
        "one": Amount.of(1),
        "disk_gb": nodes.plus(_prepared(spec, pools)).times(exact(fact("boot_disk", spec))),
        "model_gb": Amount.of(sum((exact(m.size_mib) for m in spec.models), Decimal(0)) * 2**20 / GB),
        "gb_in": gb_in,
        "gb_out": gb_out,
        "egress_first_tb": gb_out_first,
        "egress_beyond_tb": gb_out.plus(gb_out_first.times(-1)),
        "gb_cross_zone": gb_in.plus(gb_out).times(Decimal(zones - 1) / zones),
        "entry_address_hours": always.times(zones),
        "nlcu_hours": hourly_gb.times(HOURS),
        "passed_on_hours": always.times(passed_on),
        "lcu_hours": _larger(hourly_gb, connections.times(1 / Decimal(25))).times(HOURS),
        "nat_gb": _starts(spec, machines).times(amount("image_gb", spec)),
    }
    if spec.cloud == "gcp":
        most = amount("nat_billed_machines", spec)
        drivers["nat_vm_hours"] = _each(nodes, lambda x: min(x, most)).times(HOURS)
    else:
        drivers["nat_gateway_hours"] = always.times(amount("nat_gateways", spec))
    return drivers


def _prepared(spec: Spec, pools: Sequence[Pool]) -> Amount:
    """Machines that stand by, stopped: of them the disks are billed."""
    found = Amount.of(0)
    for pool in pools:
        if prepares(spec, pool):
            runs = (pool.min_nodes, max(pool.min_nodes, pool.expected_nodes), pool.max_nodes)
            least, expected, most = (Decimal(pool.max_nodes - n) for n in runs)
            found = found.plus(Amount(min=least, expected=expected, max=most))
    return found


def _starts(spec: Spec, machines: Sequence[Machines]) -> Amount:
    """Starts of machines in a month: one of each that always runs, more of those that come and go."""
    often = amount("starts_a_month", spec)
    starts = Amount.of(0)
    for m in machines:
        fixed = m.nodes.min
        at_mean, at_most = ((n - fixed) * often for n in (m.nodes.expected, m.nodes.max))
        starts = starts.plus(Amount(min=fixed, expected=fixed + at_mean, max=fixed + at_most))
    return starts


def _each(amounts: Amount, of: Callable[[Decimal], Decimal]) -> Amount:
    return Amount(min=of(amounts.min), expected=of(amounts.expected), max=of(amounts.max))


def _larger(a: Amount, b: Amount) -> Amount:
    return Amount(min=max(a.min, b.min), expected=max(a.expected, b.expected), max=max(a.max, b.max))
