"""Latency curves over load from the committed table, interpolated so that they err upwards.

The table holds log(latency / tau(1)) by burst_cv, instances, max_batch, growth and load, from the simulation in bench/.
Between two nodes the curve lies on the chord where it is convex; where the table bends downwards it may lie above the
chord, by as much as the bend says, so that much is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PATH = Path(__file__).with_name("capacity_table.npz")
BEND = 0.5  # how much of a downward bend is added, and SAFETY on top: chosen on points other than those of the report
SAFETY = (1.015, 1.025)  # on mean and 99th percentile: the noise of table and interpolation
BURSTY = 0.01  # more on the 99th percentile for each unit of burst_cv above 2.5, up to 3.5: there the noise is larger
PARTS = 6  # pieces of a curve between two loads of the table


@dataclass(frozen=True, kw_only=True)
class Table:
    """Values [mean or p99, burst_cv, instances, max_batch, growth, load]; `axes` in the scale of interpolation."""

    values: Floats
    axes: tuple[Floats, ...]
    loads: Floats


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Latency in units of tau(1) over load, never falling; `last` is the largest load of the table."""

    loads: Floats
    means: Floats
    p99s: Floats

    def with_steps(self, loads: Floats, p99s: Floats, trust: float = 1.0) -> Curve:
        """This curve, its 99th percentile replaced over the range of `loads` by what is known of the steps there; with
        a `trust` below 1 the geometric mean of both, of which the steps have that weight."""
        if loads.size == 0 or loads[-1] < self.loads[0]:
            return self
        every = np.union1d(self.loads, loads[loads > self.loads[0]])
        own, new = np.interp(every, self.loads, self.p99s), np.interp(every, loads, p99s)
        old = np.where(every < loads[0], np.minimum(own, p99s[0]), np.maximum(own, p99s[-1]))
        merged = np.where((every < loads[0]) | (every > loads[-1]), old, new) ** trust * own ** (1.0 - trust)
        return Curve(loads=every, means=np.interp(every, self.loads, self.means), p99s=np.maximum.accumulate(merged))

    @property
    def last(self) -> float:
        return float(self.loads[-1])

    def at(self, load: float) -> tuple[float, float]:
        """Mean and 99th percentile; below the first load of the table those at the first."""
        return float(np.interp(load, self.loads, self.means)), float(np.interp(load, self.loads, self.p99s))

    def load_within(self, p99: float) -> float:
        """The largest load whose 99th percentile is within `p99`; 0 if it is above at the first load of the table."""
        after = int(np.searchsorted(self.p99s, p99, side="right"))
        if after == 0:
            return 0.0
        if after == self.p99s.size:
            return self.last
        low, high = float(self.p99s[after - 1]), float(self.p99s[after])
        part = (p99 - low) / (high - low)
        return float(self.loads[after - 1]) + part * float(self.loads[after] - self.loads[after - 1])


@cache
def table() -> Table:
    """The committed table; read once."""
    with np.load(PATH, allow_pickle=False) as stored:
        loads = stored["loads"]
        axes = (np.log(stored["cvs"]), np.log(stored["instances"]), np.log(stored["batches"]), stored["growths"])
        values = stored["steps"] / stored["steps_per_unit"]
        return Table(values=values, axes=(*axes, -np.log1p(-loads)), loads=loads)


def _bends(values: Floats, axis: Floats) -> Floats:
    """How much the slope falls at each node of the last axis; 0 at both ends and where it rises."""
    slopes = np.diff(values, axis=-1) / np.diff(axis)
    falls = np.zeros_like(values)
    falls[..., 1:-1] = np.maximum(0.0, slopes[..., :-1] - slopes[..., 1:])
    return falls


def _between(values: Floats, axis: Floats, place: float) -> Floats:
    """The last axis of `values` reduced to `place`: the chord, and what the bends of both ends allow above it."""
    left = min(max(int(np.searchsorted(axis, place, side="right")) - 1, 0), axis.size - 2)
    width = float(axis[left + 1] - axis[left])
    part = min(max((place - float(axis[left])) / width, 0.0), 1.0)
    if part < 1e-9:
        return values[..., left]
    if part > 1.0 - 1e-9:
        return values[..., left + 1]
    bends = _bends(values, axis)
    extra = BEND * part * (1.0 - part) * width * np.maximum(bends[..., left], bends[..., left + 1])
    chord: Floats = (1.0 - part) * values[..., left] + part * values[..., left + 1]
    return chord + extra


def _growing(values: Floats, axis: Floats, place: float) -> Floats:
    """The last axis, growth, reduced to `place`. Without growth all batches last equally long and instances fall into
    step, which the least growth ends: the value at 0 is no limit of the others, so below the first they are continued.
    """
    if not axis[0] < place < axis[1] or axis[0] > 0.0:
        return _between(values, axis, place)
    part = (place - float(axis[1])) / float(axis[2] - axis[1])
    continued: Floats = values[..., 1] + part * (values[..., 2] - values[..., 1])
    return continued


def _near(axis: Floats, place: float) -> slice:
    """The part of an axis that decides the value at `place`: two nodes on each side."""
    left = int(np.searchsorted(axis, place, side="right")) - 1
    return slice(max(left - 1, 0), left + 3)


@lru_cache(maxsize=8192)
def curve(burst_cv: float, instances: int, max_batch: int, growth: float) -> Curve:
    """The curve at this point; outside the table's range of an axis, the value at its end."""
    known = table()
    places = (math.log(burst_cv), math.log(instances), math.log(max_batch), growth)
    near = [_near(axis, place) for axis, place in zip(known.axes, places, strict=False)]
    values = np.moveaxis(known.values[:, near[0], near[1], near[2], near[3]], 5, 1)  # the point's axes last
    values = _growing(values, known.axes[3][near[3]], growth)
    for axis, part, place in zip(known.axes[2::-1], near[2::-1], places[2::-1], strict=True):
        values = _between(values, axis[part], place)
    mean, p99 = (_fine(row, known.axes[4]) for row in values)
    loads = -np.expm1(-_fill(known.axes[4]))
    return Curve(
        loads=loads, means=mean * SAFETY[0], p99s=p99 * (SAFETY[1] + BURSTY * min(max(burst_cv - 2.5, 0.0), 1.0))
    )


def _fill(axis: Floats) -> Floats:
    parts = np.arange(PARTS) / PARTS
    inner: Floats = (axis[:-1, None] + np.diff(axis)[:, None] * parts).ravel()
    return np.append(inner, axis[-1])


def _fine(row: Floats, axis: Floats) -> Floats:
    """One row over the finer loads, as latency, never falling."""
    bends = _bends(row, axis)
    widths = np.diff(axis)
    parts = np.arange(PARTS) / PARTS
    chord = row[:-1, None] + np.diff(row)[:, None] * parts
    extra = BEND * (widths * np.maximum(bends[:-1], bends[1:]))[:, None] * (parts * (1.0 - parts))
    filled = np.append((chord + extra).ravel(), row[-1])
    result: Floats = np.maximum.accumulate(np.exp(filled))
    return result
