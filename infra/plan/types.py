"""The plan as data: machines, replicas, server settings, latency; everything below it reads numbers, not modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar

from infra.spec import Model, Spec, parse, to_values

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModelServing:
    """Settings of one model in each server."""

    name: str
    version: int
    instances: int
    max_batch: int
    queue_delay_us: int
    preferred_batch: tuple[int, ...] = ()
    part: float = 1.0  # of the requests
    slowdown: float = 1.0  # of the profile, by what shares the processor


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A group of equal machines of one capacity type."""

    role: str  # base, burst or serving
    machine_type: str
    capacity_type: str  # on-demand or spot
    min_nodes: int
    max_nodes: int
    accelerator: str = "none"
    accelerator_count: int = 0
    tpu_topology: str | None = None
    vcpus: float = 0
    memory_gib: float = 0
    replicas_per_node: int = 1
    zones: tuple[str, ...] = ()
    disk_gib: int = 0
    start_nodes: int = 0  # at creation: what carries the peak
    expected_nodes: int = 0  # at the mean load
    arch: str = "amd64"
    usd_per_hour: float = 0.0  # one node of this capacity type, disk included
    node_rps: float = 0.0  # of one node, within the SLO
    models: tuple[ModelServing, ...] = ()  # settings of each server here; in a mix they differ by pool


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """Server processes over all pools; `start` at creation, afterwards an autoscaler's between min and max."""

    min: int
    max: int
    start: int


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Settings of each server; the numbers of the model that limits it stand for all, each model has its own below."""

    instances: int
    max_batch: int
    queue_delay_us: int
    preferred_batch: tuple[int, ...]
    models: tuple[ModelServing, ...]
    exit_timeout_s: int
    startup_budget_s: int = 120  # from the order for a machine to its first answer
    gpu_sharing: str = "none"
    gpu_clients: int = 1

    def of(self, model: Model) -> ModelServing:
        return next(m for m in self.models if (m.name, m.version) == (model.name, model.version))


@dataclass(frozen=True, kw_only=True)
class LatencyMs:
    mean: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class UsdPerMonth:
    min: float
    expected: float
    max: float


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A machine that the plan did not take, and why."""

    machine_type: str
    reason: str
    usd_per_month: float | None = None
    least_p99_ms: float | None = None  # the SLO with which it would carry something


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One configured version of a model: the gates it passes or not, and whether it is served."""

    name: str
    version: int
    accuracy: float | None
    gates: Mapping[str, bool]
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    spec: Spec
    pools: tuple[Pool, ...]
    replicas: Replicas
    serving: Serving
    latency_ms: LatencyMs
    max_rps_within_slo: float
    generation: str
    usd_per_month: UsdPerMonth
    usd_per_million_predictions: float
    lines: tuple[Mapping[str, object], ...] = ()
    unpriced: tuple[Mapping[str, object], ...] = ()
    rejected: tuple[Rejected, ...] = ()
    model_versions: tuple[ModelVersion, ...] = ()
    binding_constraint: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that are served, the chosen version of each."""
        chosen = {(m.name, m.version) for m in self.model_versions if m.chosen}
        return tuple(m for m in self.spec.models if (m.name, m.version) in chosen)

    def to_json(self) -> dict[str, object]:
        """The stable form that docs/plan.md describes; `from_json` reads it back."""
        plain = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "spec"}
        return {"feasible": True, **plain, "problems": [], "spec": to_values(self.spec)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """A plan from what `to_json` gave, such as the one recorded in a stack's outputs."""
        return cls(
            spec=parse(data["spec"]),
            pools=tuple(_with_models(Pool, p) for p in data["pools"]),
            replicas=_built(Replicas, data["replicas"]),
            serving=_with_models(Serving, data["serving"]),
            latency_ms=_built(LatencyMs, data["latency_ms"]),
            max_rps_within_slo=data["max_rps_within_slo"],
            generation=data["generation"],
            usd_per_month=_built(UsdPerMonth, data["usd_per_month"]),
            usd_per_million_predictions=data["usd_per_million_predictions"],
            lines=tuple(data["lines"]),
            unpriced=tuple(data["unpriced"]),
            rejected=tuple(_built(Rejected, r) for r in data["rejected"]),
            model_versions=tuple(_built(ModelVersion, v) for v in data["model_versions"]),
            binding_constraint=data["binding_constraint"],
            warnings=tuple(data["warnings"]),
        )


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return {str(k): _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _built(cls: type[T], data: Mapping[str, Any]) -> T:
    """Pulumi drops None from a stack's outputs: a field that is not there was None; and it has no whole numbers."""
    given: dict[str, Any] = {}
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name in data:
            value = data[f.name]
            given[f.name] = tuple(value) if isinstance(value, list) else int(value) if f.type == "int" else value
        elif f.default is MISSING:
            given[f.name] = None
    return cls(**given)


def _with_models(cls: type[T], data: Mapping[str, Any]) -> T:
    return _built(cls, {**data, "models": [_built(ModelServing, m) for m in data["models"]]})
