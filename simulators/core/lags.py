"""How long balancers take to see what happens to machines, and the words for requests that are lost meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulators.core.flows import Serving
from simulators.core.world import PodEvent


@dataclass(kw_only=True)
class Delays:
    """Balancers look at machines: how long until one is used, or a dead one is not; `since`: when a group's count."""

    seen_s: dict[str, float] = field(default_factory=dict)
    lost_s: dict[str, float] = field(default_factory=dict)
    refused_s: dict[str, float] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def learn(self, path: Serving) -> None:
        self.seen_s |= path.seen_s
        self.lost_s |= path.lost_s
        self.refused_s |= path.refused_s
        self.known = set(path.servers)

    def joined(self, path: Serving, at: float) -> list[float]:
        """Seconds until the balancer uses the groups that it has from now on."""
        fresh = {k: s for k, s in path.joins_s.items() if k not in self.known}
        self.since |= {k: at + s for k, s in fresh.items()}
        return list(fresh.values())


def why(event: PodEvent, name: str, seconds: float, discovered: bool, machine: bool) -> str:
    if machine:
        return (
            f"{name.rpartition('/')[2]}: a machine that is {event.why or 'gone'} stops answering {seconds:.0f} s "
            f"before the load balancer leaves it out: it serves on for {max(event.lingers_s, 0.0):.0f} s"
        )
    return (
        f"{name}: a pod that is {event.why or 'gone'} stops answering {seconds:.0f} s before "
        f"{'discovery lets it go' if discovered else 'health checks leave it out'}: "
        f"preStop keeps it for {max(event.lingers_s, 0.0):.0f} s, grace is {event.grace_s:.0f} s"
    )
