"""A rehearsal as one self-contained page: each phase's timeline and serving as charts, then tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from cli.rehearsal.report import Phase, Report, Served, Step
from cli.rehearsal.screen import clock

WIDTH, LEFT, RIGHT, ROW, TOP = 960, 290, 60, 16, 6
SERVING = 150  # height of the chart of capacity and demand
LONG = 44  # characters of a name before it is cut
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
COLOURS = {"create": "#2f6fb5", "update": "#b58a2f", "delete": "#7a8794"}


def page(report: Report) -> str:
    here = Path(__file__).resolve().parent.parent / "templates"
    environment = Environment(loader=FileSystemLoader(here), autoescape=select_autoescape(), trim_blocks=True)
    environment.filters["clock"] = clock
    return environment.get_template("rehearsal.html.j2").render(
        report=report,
        charts=[_chart(p) for p in report.phases],
        total_steps=sum(len(p.steps) for p in report.phases),
        total_s=sum(p.makespan_s for p in report.phases),
        width=WIDTH,
        left=LEFT,
        serving_height=SERVING,
    )


def _chart(phase: Phase) -> dict[str, Any]:
    """Coordinates of a phase: a bar a step, ticks, and the curve of capacity over the same axis."""
    last = max([phase.makespan_s, *(s.at_s for s in phase.served)])
    whole = max(last, 1.0)
    longest = {(link.step.urn, link.step.op) for link in phase.critical}

    def x(seconds: float) -> float:
        return round(LEFT + seconds / whole * (WIDTH - LEFT - RIGHT), 1)

    bars = [
        {
            "x": x(s.start_s),
            "y": TOP + i * ROW,
            "width": max(x(s.end_s) - x(s.start_s), 1.5),
            "colour": COLOURS.get(s.op.partition("-")[0], "#2f6fb5"),
            "failed": not s.ok,
            "critical": (s.urn, s.op) in longest,
            "label": _label(s),
            "time": clock(s.end_s - s.start_s),
            "title": f"{s.op} {s.type} {s.name}: {clock(s.start_s)} to {clock(s.end_s)}, {s.result}",
        }
        for i, s in enumerate(phase.steps)
    ]
    height = TOP + len(bars) * ROW
    step = next((n for n in STEPS_S if whole / n <= 10), STEPS_S[-1])
    ticks = [(x(step * i), clock(step * i)) for i in range(int(whole / step) + 1)]
    return {
        "phase": phase,
        "bars": bars,
        "height": height,
        "ticks": ticks,
        "right": x(whole),
        "serving": _serving(phase.served, x, whole),
    }


def _label(step: Step) -> str:
    text = f"{step.type.rpartition(':')[2]} {step.name.rpartition('/')[2]}"  # objects of a cluster are named by path
    return text if len(text) <= LONG else text[: LONG - 1] + "…"


def _serving(served: tuple[Served, ...], x: Any, whole: float) -> dict[str, Any] | None:
    """Capacity as a filled staircase, demand as a line over it."""
    if not served:
        return None
    most = max(max(s.capacity_rps, s.demand_rps) for s in served) or 1.0
    top = _round(most)
    floor = SERVING - 22

    def y(rps: float) -> float:
        return round(floor - rps / top * (floor - 8), 1)

    def stairs(values: list[tuple[float, float]]) -> str:
        points = []
        for i, (at, rps) in enumerate(values):
            until = values[i + 1][0] if i + 1 < len(values) else whole
            points += [f"{x(at)},{y(rps)}", f"{x(until)},{y(rps)}"]
        return " ".join(points)

    capacity = stairs([(s.at_s, s.capacity_rps) for s in served])
    return {
        "area": f"{x(served[0].at_s)},{y(0)} {capacity} {x(whole)},{y(0)}",
        "capacity": capacity,
        "demand": stairs([(s.at_s, s.demand_rps) for s in served]),
        "ticks": [(y(top * i / 2), f"{top * i / 2:,.6g}") for i in range(3)],
        "floor": floor,
    }


def _round(most: float) -> float:
    size = 10.0 ** math.floor(math.log10(most))
    return next(size * n for n in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if size * n >= most * 1.05 or n == 10)
