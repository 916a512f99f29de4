"""A plan for a person: the first screen, the comparison of the modes, and the page with the charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

if TYPE_CHECKING:
    from infra.plan import Plan, Point, Pool, Variant

LINES = 12  # of the bill on the first screen; --json has all of them
REJECTED = 5
COLUMNS = ("scaling", "cost", "shape", "servers", "p99 ms", "expected", "worst", "per 1M", "start s", "machines")
TABLE = 120  # characters of a line: a terminal of that width shows every column


def usd(value: float) -> str:
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"


def machines(pool: Pool) -> str:
    count = f"{pool.min_nodes}" if pool.min_nodes == pool.max_nodes else f"{pool.min_nodes}..{pool.max_nodes}"
    attached = "" if pool.accelerator == "none" else f" with {pool.accelerator_count} {pool.accelerator}"
    topology = f" ({pool.tpu_topology})" if pool.tpu_topology else ""
    return f"{count} x {pool.machine_type}{attached}{topology}, {pool.capacity_type}"


def screen(stack: str, plan: Plan) -> list[str]:
    """Machines, replicas, latency against the SLO, the bill, and what would change it."""
    spec, serving = plan.spec, plan.serving
    said = [
        f"stack {stack}: {spec.cloud} {spec.shape} {spec.region or ''}, {spec.scaling}, {spec.cost}".replace(" ,", ",")
    ]
    if spec.cloud != "local":
        said += [f"  {p.role:<9} {machines(p)}: {p.node_rps:,.0f} requests/s each" for p in plan.pools]
    replicas = (
        f"{plan.replicas.min}"
        if plan.replicas.min == plan.replicas.max
        else f"{plan.replicas.min}..{plan.replicas.max}"
    )
    said.append(f"  servers   {replicas}, {serving.instances} instance(s) each, batches up to {serving.max_batch}")
    said.append(
        f"  latency   p99 {plan.latency_ms.p99:.1f} ms of {spec.slo.p99_ms:g} ms, mean {plan.latency_ms.mean:.1f} ms, "
        f"at {spec.load.peak_rps:,.0f} requests/s; the plan carries {plan.max_rps_within_slo:,.0f}"
    )
    said += _versions(plan)
    said += _bill(plan)
    said.append(f"  binding   {plan.binding_constraint}: what a cheaper plan would break")
    if plan.rejected:
        said.append("  not taken")
        said += [f"    {r.machine_type}: {r.reason}" for r in plan.rejected[:REJECTED]]
    return [*said, *(f"  warning   {w}" for w in plan.warnings)]


def _versions(plan: Plan) -> list[str]:
    """Only where there was a choice."""
    names = [v.name for v in plan.model_versions]
    several = [v for v in plan.model_versions if names.count(v.name) > 1]
    said = []
    for v in several:
        failed = [gate for gate, passed in v.gates.items() if not passed]
        why = "chosen" if v.chosen else f"fails {', '.join(failed)}" if failed else "less accurate"
        said.append(f"  model     {v.name} version {v.version}, accuracy {v.accuracy}: {why}")
    return said


def _bill(plan: Plan) -> list[str]:
    month = plan.usd_per_month
    if not month.max:
        return ["  bill      nothing: it runs on this machine"]
    said = [
        f"  bill      {usd(month.expected)} a month expected, {usd(month.min)} at least, {usd(month.max)} at worst; "
        f"{usd(plan.usd_per_million_predictions)} per 1M predictions"
    ]
    lines = sorted(plan.lines, key=lambda x: -_number(x["usd"]))
    said += [f"    {usd(_number(x['usd'])):>10}  {x['item']} ({x['basis']})" for x in lines[:LINES]]
    if len(lines) > LINES:
        said.append(
            f"    {usd(sum(_number(x['usd']) for x in lines[LINES:])):>10}  {len(lines) - LINES} smaller items (--json)"
        )
    return [*said, *(f"    not priced  {x['item']}: {x['reason']}" for x in plan.unpriced)]


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def fleet(pools: Sequence[Pool]) -> str:
    """Pools in the few words of a table: what is on demand, and what is spot, of each machine."""
    counts: dict[str, list[str]] = {}
    for p in pools:
        count = f"{p.min_nodes}" if p.min_nodes == p.max_nodes else f"{p.min_nodes}..{p.max_nodes}"
        attached = p.tpu_topology or f"{p.accelerator_count} {p.accelerator}"
        kind = p.machine_type if p.accelerator == "none" else f"{p.machine_type} ({attached})"
        counts.setdefault(kind, []).append(f"{count} spot" if p.capacity_type == "spot" else count)
    return "; ".join(f"{' and '.join(of)} x {kind}" for kind, of in counts.items())


def table(variants: Sequence[Variant]) -> list[dict[str, str]]:
    """A row for each pair of modes in each shape; the second shape of a pair stands below the first, unnamed."""
    rows: list[dict[str, str]] = []
    before = None
    for v in variants:
        again, before = before == (v.scaling, v.cost), (v.scaling, v.cost)
        row = {"scaling": "" if again else v.scaling, "cost": "" if again else v.cost, "shape": v.shape}
        if v.plan is None:
            assert v.infeasible is not None
            first = v.infeasible.problems[0]
            rows.append(row | {"machines": f"no plan: {first.path}: {first.reason}"})
            continue
        p = v.plan
        replicas = (p.replicas.min, p.replicas.max)
        rows.append(
            row
            | {
                "machines": fleet(p.pools) if p.spec.cloud != "local" else "this machine",
                "servers": f"{replicas[0]}" if replicas[0] == replicas[1] else f"{replicas[0]}..{replicas[1]}",
                "p99 ms": f"{p.latency_ms.p99:.1f}",
                "expected": usd(p.usd_per_month.expected),
                "worst": usd(p.usd_per_month.max),
                "per 1M": usd(p.usd_per_million_predictions),
                "start s": f"{p.serving.startup_budget_s}",
            }
        )
    return rows


WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 720, 264, 60, 30, 40


def _chart(points: Sequence[Point], plan: Plan) -> dict[str, Any]:
    """Coordinates of the latency curve over the load, capped at three times the SLO."""
    slo = plan.spec.slo.p99_ms
    top = 3 * slo
    step = _round(max(max(p.rps for p in points), plan.spec.load.peak_rps) / 5)
    right = 5 * step

    def at(rps: float, ms: float) -> str:
        x = LEFT + rps / right * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - min(ms, top) / top * (HEIGHT - BOTTOM - 10)
        return f"{x:.1f},{y:.1f}"

    shown = [p for p in points if p.mean_ms < top]
    return {
        "p99": " ".join(at(p.rps, p.p99_ms) for p in shown),
        "mean": " ".join(at(p.rps, p.mean_ms) for p in shown),
        "slo_y": at(0, slo).split(",")[1],
        "peak_x": at(plan.spec.load.peak_rps, 0).split(",")[0],
        "mean_x": at(plan.spec.load.mean_rps, 0).split(",")[0],
        "x_ticks": [(at(step * i, 0).split(",")[0], f"{step * i:,.10g}") for i in range(6)],
        "y_ticks": [(at(0, top * i / 6).split(",")[1], f"{top * i / 6:g}") for i in range(7)],
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "floor": HEIGHT - BOTTOM,
    }


def _round(step: float) -> float:
    """The next of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10 times a power of ten: ticks that a person can read."""
    size = 10.0 ** math.floor(math.log10(step))
    return next(size * n for n in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if size * n >= step * 0.999)


def page(stack: str, plan: Plan, variants: Sequence[Variant]) -> str:
    """One self-contained HTML file."""
    from infra.plan import curve

    here = Path(__file__).resolve().parent / "templates"
    environment = Environment(loader=FileSystemLoader(here), autoescape=select_autoescape(), trim_blocks=True)
    most = max((_number(x["usd"]) for x in plan.lines), default=1.0)
    return environment.get_template("plan.html.j2").render(
        stack=stack,
        plan=plan,
        spec=plan.spec,
        pools=[machines(p) for p in plan.pools],
        chart=_chart(curve(plan, points=60), plan),
        lines=[
            {**x, "usd_text": usd(_number(x["usd"])), "share": 100 * _number(x["usd"]) / most}
            for x in sorted(plan.lines, key=lambda x: -_number(x["usd"]))
        ],
        month={k: usd(getattr(plan.usd_per_month, k)) for k in ("min", "expected", "max")},
        per_million=usd(plan.usd_per_million_predictions),
        table=table(variants),
        columns=COLUMNS,
    )
