"""How a measurement is printed: its value, the baseline of the same run, and the ratio of the two."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil


@dataclass(frozen=True, kw_only=True)
class Row:
    """`values` and `baseline` are repeats of the same measurement; medians are compared."""

    name: str
    unit: str
    values: Sequence[float]
    baseline_name: str
    baseline: Sequence[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.values) / statistics.median(self.baseline)


def _spread(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:.4g} ({min(values):.4g} to {max(values):.4g}, n={len(values)})"


def rendered(title: str, rows: Sequence[Row], notes: str = "") -> str:
    """Plain Markdown, so that a run is a report."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    where = f"{psutil.cpu_count()} CPUs shared by client and servers, Python {platform.python_version()}"
    load = " ".join(f"{x:.1f}" for x in psutil.getloadavg())
    lines = [f"{title}", "", f"{when}, {where}, load averages {load} at the end.", *([notes] if notes else []), ""]
    lines += ["| measured | unit | median (least to most) | baseline | median (least to most) | ratio |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {r.name} | {r.unit} | {_spread(r.values)} | {r.baseline_name} | {_spread(r.baseline)} | {r.ratio:.3g} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def show(title: str, rows: Sequence[Row]) -> None:
    print("\n" + rendered(f"## {title}", rows), end="")
