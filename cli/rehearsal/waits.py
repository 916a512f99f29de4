"""What a switch of this project takes: how many updates, and what has to be healthy between two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from simulators.core import health
from simulators.core.world import World

if TYPE_CHECKING:
    from infra.plan import Plan


def updates(
    planned: Callable[[Mapping[str, str]], Plan | None], first: Mapping[str, str], then: Mapping[str, str]
) -> int:
    """By the transition from one configuration to the other; one where there is no plan, which the phase tells."""
    from infra.plan import transition

    old, new = planned(first), planned(then)
    return 1 if old is None or new is None else transition(old, new).updates


def lacking(world: World, outputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Groups of the new generation that the simulated balancer will never report healthy; the others only take time,
    which costs a rehearsal nothing."""
    generation = str(outputs["generation"])
    found = [h for h in health.backends(world) if generation in h.group]
    never = [
        f"{h.service}: {h.healthy} of {h.total} machines of {h.group} are healthy ({h.why})"
        for h in found
        if h.in_s is None
    ]
    return tuple(never) if found else (f"no machine of generation {generation} is behind the load balancer",)
