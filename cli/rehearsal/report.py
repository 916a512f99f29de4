"""What a rehearsal found, as data: the documented JSON, and what the page and the screen show beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulators.core.world import Leftover, Operation


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation of a cloud; seconds since the start of its phase."""

    phase: str
    op: str
    urn: str
    start_s: float
    end_s: float
    result: str

    @property
    def type(self) -> str:
        return self.urn.split("::")[2].rpartition("$")[2]

    @property
    def name(self) -> str:
        return self.urn.split("::", 3)[3]

    @property
    def ok(self) -> bool:
        return self.result == "ok"


@dataclass(frozen=True, kw_only=True)
class Link:
    """One step of the critical path, with where its duration comes from."""

    step: Step
    median_s: float
    samples: int  # published logs behind the median; 0: an order of magnitude
    source: str


@dataclass(frozen=True, kw_only=True)
class Served:
    """Capacity and demand in requests a second from this moment on, and requests that failed up to the next."""

    at_s: float
    capacity_rps: float
    demand_rps: float


@dataclass(frozen=True, kw_only=True)
class Phase:
    """None stands for what was not computed: nothing serves, or no price is known."""

    name: str
    ok: bool
    creates: int = 0
    updates: int = 0
    replaces: int = 0
    deletes: int = 0
    makespan_s: float = 0.0
    critical_path_s: float = 0.0
    failed_requests: int | None = None
    min_capacity_ratio: float | None = None
    stores_replaced: int = 0
    extra_cost_usd: float | None = None
    quota_peak: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    critical: tuple[Link, ...] = ()
    served: tuple[Served, ...] = ()
    unpriced: tuple[str, ...] = ()  # types that cost and have no price here
    seconds: float = 0.0  # that it really took

    def to_json(self) -> dict[str, object]:
        shown = (
            "name", "ok", "creates", "updates", "replaces", "deletes", "makespan_s", "critical_path_s",
            "failed_requests", "min_capacity_ratio", "stores_replaced", "extra_cost_usd",
        )  # fmt: skip
        return {key: getattr(self, key) for key in shown} | {"quota_peak": dict(self.quota_peak)}


@dataclass(frozen=True, kw_only=True)
class Report:
    stack: str
    engine: str
    phases: tuple[Phase, ...]
    problems: tuple[str, ...]
    leftovers: tuple[Leftover, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(p.ok for p in self.phases) and not self.problems

    def to_json(self) -> dict[str, object]:
        return {
            "engine": self.engine,
            "phases": [p.to_json() for p in self.phases],
            "steps": [
                {"phase": s.phase, "op": s.op, "urn": s.urn, "start_s": s.start_s, "end_s": s.end_s, "result": s.result}
                for p in self.phases
                for s in p.steps
            ],
            "problems": list(self.problems),
            "leftovers": [{"cloud": x.cloud, "type": x.type, "name": x.name, "why": x.why} for x in self.leftovers],
        }


def steps(phase: str, operations: tuple[Operation, ...], kinds: Mapping[int, str]) -> tuple[Step, ...]:
    return tuple(
        Step(phase=phase, op=kinds[o.seq], urn=o.urn, start_s=o.start_s, end_s=o.end_s, result=o.result)
        for o in operations
    )
