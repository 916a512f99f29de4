"""The two scaling modes and the three cost modes, turned into numbers once: the only module that looks at them.

A row is what DESIGN calls a mode; below it nobody asks for a mode's name. What the rows mean on each shape:

| | horizontal | vertical |
|---|---|---|
| Kubernetes, CPU | base pool fixed, burst pool scaled on the queue signal | fixed replicas, VPA within the node |
| Kubernetes, GPU | one replica a GPU, or a share of one | one replica a machine with all its GPUs |
| Kubernetes, TPU | single-host slices, one replica each | fixed replicas, larger single-host topology |
| VM | group from min to max, target tracking | group of a fixed size, larger machine |
| local | N processes of one instance | one process of N instances |
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What the two modes of a stack ask of a plan."""

    elastic: bool  # replicas follow the load between base and peak; else all of them always run
    least_replicas: int  # at any time, on-demand and spot together
    most_replicas: tuple[int | None, ...]  # tried in this order; None: as many as the peak needs
    least_on_demand: int  # replicas
    base_of_mean: float  # part of the mean load that the fixed on-demand base carries alone
    spot: bool  # what is beyond it may be spot
    spot_fallback: bool  # burst falls back to on-demand when there is no spot: the worst month pays that
    headroom: float  # capacity over the load
    zones: int  # a machine has to be sold in this many
    sharing: bool  # a GPU may be shared
    whole_machine: bool  # one replica takes all accelerators of a machine
    store_replicas: int  # copies of the features beside the primary, where a store sells them
    in_place_resize: bool  # VPA may resize CPU pods within the node


@dataclass(frozen=True, kw_only=True)
class _Cost:
    least: int
    least_on_demand: int
    base_of_mean: float
    spot: bool
    fallback: bool
    headroom: float
    zones: int
    sharing: bool
    store_replicas: int


_COST = {
    # the cheapest that keeps the SLO; one on-demand replica outlives any wave of spot reclaims
    "economy": _Cost(
        least=1,
        least_on_demand=1,
        base_of_mean=0.0,
        spot=True,
        fallback=False,
        headroom=1.0,
        zones=1,
        sharing=True,
        store_replicas=0,
    ),
    # on-demand for the mean load, spot for the burst; two replicas outlive the death of one
    "balanced": _Cost(
        least=2,
        least_on_demand=1,
        base_of_mean=1.0,
        spot=True,
        fallback=True,
        headroom=1.0,
        zones=1,
        sharing=True,
        store_replicas=0,
    ),
    # on-demand only, a quarter over the peak, two replicas in two zones
    "performance": _Cost(
        least=2,
        least_on_demand=2,
        base_of_mean=1.0,
        spot=False,
        fallback=False,
        headroom=1.25,
        zones=2,
        sharing=False,
        store_replicas=1,  # the features outlive a zone
    ),
}


@dataclass(frozen=True, kw_only=True)
class _Scaling:
    elastic: bool
    few: tuple[int, ...]  # at most so many replicas, one try after the other; empty: as many as the peak needs
    whole_machine: bool
    local_processes: int | None  # None: one for each instance


_SCALING = {
    "horizontal": _Scaling(elastic=True, few=(), whole_machine=False, local_processes=None),
    # the machine grows before the number does: more than two only where the largest machine does not carry the peak
    "vertical": _Scaling(elastic=False, few=(2, 4), whole_machine=True, local_processes=1),
}


def numbers(spec: Spec) -> Numbers:
    cost, scaling = _COST[spec.cost], _SCALING[spec.scaling]
    return Numbers(
        elastic=scaling.elastic,
        least_replicas=cost.least,
        most_replicas=scaling.few or (None,),
        least_on_demand=cost.least_on_demand,
        base_of_mean=cost.base_of_mean,
        spot=cost.spot,
        spot_fallback=cost.fallback,
        headroom=cost.headroom,
        zones=cost.zones,
        sharing=cost.sharing,
        store_replicas=cost.store_replicas,
        whole_machine=scaling.whole_machine or spec.shape == "vm",
        in_place_resize=not scaling.elastic and spec.shape == "kubernetes" and spec.accelerator.name == "none",
    )


@dataclass(frozen=True, kw_only=True)
class LocalNumbers:
    """What the modes mean on this machine."""

    processes: int | None  # server processes; None: one for each instance
    least_instances: int  # two keep serving while one is restarted
    headroom: float  # capacity over the peak


def local_numbers(spec: Spec) -> LocalNumbers:
    cost, scaling = _COST[spec.cost], _SCALING[spec.scaling]
    return LocalNumbers(processes=scaling.local_processes, least_instances=cost.least, headroom=cost.headroom)


def variants(spec: Spec) -> list[tuple[str, str]]:
    """Every pair of modes, for a comparison: the stack's own first."""
    own = (spec.scaling, spec.cost)
    return [own, *((s, c) for s in _SCALING for c in _COST if (s, c) != own)]
