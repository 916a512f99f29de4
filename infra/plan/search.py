"""The cheapest machines that carry a load: exact, by enumeration for one machine type, by integer program for a mix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

Vector = NDArray[np.float64]
MOST_TYPES = 2  # machine types in one fleet: each is a pool more to watch and to switch
ROUNDING = 1e-9  # rates are measured numbers: a load that exceeds capacity by less is carried


@dataclass(frozen=True, kw_only=True)
class Option:
    """One machine type, seen by the search: what a node carries and costs."""

    name: str
    rps: float  # within the SLO
    replicas: int  # servers a node
    base: float  # USD an hour of a node that always runs, on demand
    burst: float  # of one that runs at the mean load and comes and goes: spot where that is cheaper
    worst: float  # of a burst node in the worst month


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What has to be carried, and by how many at least."""

    mean_rps: float  # headroom included, as in peak
    peak_rps: float
    base_rps: float  # carried by the fixed on-demand base alone
    least_replicas: int
    most_replicas: int | None
    least_on_demand: int
    elastic: bool
    most_usd: float | None = None  # an hour, at worst


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Nodes of one machine type: the fixed base, the most that are added, how many of those run at the mean load."""

    option: Option
    base: int
    burst: int
    burst_at_mean: int

    @property
    def nodes(self) -> int:
        return self.base + self.burst

    @property
    def expected_usd(self) -> float:
        return self.base * self.option.base + self.burst_at_mean * self.option.burst


@dataclass(frozen=True, kw_only=True)
class Choice:
    slices: tuple[Slice, ...]
    expected_usd: float  # an hour, at the mean load
    worst_usd: float  # an hour, at the peak

    @property
    def rps(self) -> float:
        return sum(s.nodes * s.option.rps for s in self.slices)

    @property
    def rank(self) -> tuple[float, float, int, str]:
        """Cheapest at the mean load, then at the peak, then the fewest nodes."""
        nodes = sum(s.nodes for s in self.slices)
        return (
            round(self.expected_usd, 9),
            round(self.worst_usd, 9),
            nodes,
            "+".join(s.option.name for s in self.slices),
        )


def _ceil(amount: float, unit: float) -> int:
    return max(0, math.ceil(amount / unit - ROUNDING * max(1.0, amount / unit)))


def _choice(slices: Sequence[Slice]) -> Choice:
    used = tuple(s for s in slices if s.nodes)
    return Choice(
        slices=used,
        expected_usd=sum(s.expected_usd for s in used),
        worst_usd=sum(s.base * s.option.base + s.burst * s.option.worst for s in used),
    )


def single(option: Option, demand: Demand) -> Choice | None:
    """The least nodes of one machine type; None if it cannot carry the demand with as many as allowed."""
    if option.rps <= 0:
        return None
    nodes = max(
        _ceil(demand.peak_rps, option.rps),
        _ceil(demand.least_replicas, option.replicas),
        _ceil(demand.least_on_demand, option.replicas),
    )
    if demand.most_replicas is not None and nodes * option.replicas > demand.most_replicas:
        return None
    base = min(nodes, max(_ceil(demand.base_rps, option.rps), _ceil(demand.least_on_demand, option.replicas)))
    at_mean = max(_ceil(demand.mean_rps, option.rps), _ceil(demand.least_replicas, option.replicas))
    running = max(base, min(nodes, at_mean) if demand.elastic else nodes)
    # the cost at the mean load is linear in the size of the base: one end of its range is the cheapest
    ends = [_choice([_slice(option, nodes, b, running)]) for b in {base, running, nodes}]
    affordable = [c for c in ends if within(c, demand)]
    return min(affordable, key=lambda c: c.rank, default=None)


def _slice(option: Option, nodes: int, base: int, running: int) -> Slice:
    return Slice(option=option, base=base, burst=nodes - base, burst_at_mean=max(0, running - base))


def within(choice: Choice | None, demand: Demand) -> Choice | None:
    """The choice, unless it costs more at worst than may be spent."""
    if choice is None or (demand.most_usd is not None and choice.worst_usd > demand.most_usd + ROUNDING):
        return None
    return choice


def cheapest_single(options: Sequence[Option], demand: Demand) -> Choice | None:
    choices = [c for c in (single(o, demand) for o in options) if c is not None]
    return min(choices, key=lambda c: c.rank, default=None)


def cheapest_mix(options: Sequence[Option], demand: Demand) -> Choice | None:
    """The cheapest mix of machine types of an elastic fleet: least at the mean load, of those least at the peak."""
    usable = [o for o in options if o.rps > 0]
    if not usable:
        return None
    program = _Program(_undominated(usable), demand)
    first = program.solve(program.expected, cap=None)
    if first is None:
        return None
    second = program.solve(program.worst, cap=first.expected_usd)
    better = second is not None and second.expected_usd <= first.expected_usd + ROUNDING
    best = min((c for c in (first, second if better else None) if c), key=lambda c: c.rank)
    alone = cheapest_single(usable, demand)
    return min((c for c in (best, alone) if c), key=lambda c: c.rank)


def _undominated(options: Sequence[Option]) -> list[Option]:
    """Without those that another one replaces in any fleet: it carries no less and costs no more."""
    kept: list[Option] = []
    for o in sorted(options, key=lambda o: (o.base, o.burst, o.worst, -o.rps, -o.replicas, o.name)):
        if not any(
            k.rps >= o.rps
            and k.replicas >= o.replicas
            and k.base <= o.base
            and k.burst <= o.burst
            and k.worst <= o.worst
            for k in kept
        ):
            kept.append(o)
    return kept


def _most(demand: Demand) -> float:
    return max(demand.peak_rps, demand.base_rps, demand.mean_rps)


class _Program:
    """Variables, for each option: base nodes, burst nodes at the mean load, all burst nodes, whether it is used."""

    def __init__(self, options: Sequence[Option], demand: Demand) -> None:
        self.options, self.demand = options, demand
        none = [0.0] * len(options)
        rps, replicas = [o.rps for o in options], [float(o.replicas) for o in options]
        n = len(options)
        base, burst, worst = ([getattr(o, x) for o in options] for x in ("base", "burst", "worst"))
        self.expected, self.worst = np.array(base + burst + none + none), np.array(base + none + worst + none)
        self.rows: list[tuple[Vector, float]] = []  # each row: coefficients @ x >= bound, scaled to a bound of 1
        self._at_least(rps + none + none + none, demand.base_rps)
        self._at_least(replicas + none + none + none, demand.least_on_demand)
        self._at_least(rps + rps + none + none, demand.mean_rps)
        self._at_least(replicas + replicas + none + none, demand.least_replicas)
        self._at_least(rps + none + rps + none, demand.peak_rps)
        self._at_least(none + none + none + [-1.0] * n, -MOST_TYPES)
        for i, o in enumerate(options):
            enough = 2 * (demand.least_replicas + demand.least_on_demand + _ceil(_most(demand), o.rps)) + 1
            self._row({n + i: -1.0, 2 * n + i: 1.0}, 0.0)
            self._row({i: -1.0, 2 * n + i: -1.0, 3 * n + i: float(enough)}, 0.0)
        if demand.most_usd is not None:
            self.rows.append((-self.worst, -demand.most_usd))

    def _at_least(self, coefficients: Sequence[float], bound: float) -> None:
        if bound:
            self.rows.append((np.array(coefficients) / abs(bound), math.copysign(1.0, bound)))

    def _row(self, coefficients: Mapping[int, float], bound: float) -> None:
        row = np.zeros(4 * len(self.options))
        for i, x in coefficients.items():
            row[i] = x
        self.rows.append((row, bound))

    def solve(self, costs: Vector, cap: float | None, margin: float = 0.0) -> Choice | None:
        rows = [r for r, _ in self.rows] + ([-self.expected] if cap is not None else [])
        bounds = [b + margin * (b > 0) for _, b in self.rows] + ([-cap - ROUNDING] if cap is not None else [])
        result = milp(
            costs,
            integrality=np.ones(len(costs), dtype=int),
            bounds=Bounds(0, np.inf),
            constraints=LinearConstraint(np.array(rows), np.array(bounds), np.inf),
            options={"mip_rel_gap": 0.0},
        )
        if result.x is None:
            return None
        x = np.rint(result.x).astype(int)
        if margin == 0.0 and any(r @ x < b - ROUNDING * 10 for r, b in self.rows):
            return self.solve(costs, cap, margin=2e-6)  # HiGHS allows 1e-6 of violation; a load is carried in full
        n = len(self.options)
        return _choice(
            [
                Slice(option=o, base=int(x[i]), burst=int(x[2 * n + i]), burst_at_mean=int(x[n + i]))
                for i, o in enumerate(self.options)
            ]
        )
