"""Which version of each model is served: of those that pass every gate, the most accurate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from infra.plan.errors import Infeasible
from infra.plan.types import ModelVersion, Plan
from infra.spec import Fix, Model, Spec
from infra.spec.problems import problem

GATES = ("model_mib", "p99_ms", "accelerator_memory", "accelerator_utilization", "budget_usd_per_month")


def best_versions(spec: Spec, plan_of: Callable[[Sequence[Model]], Plan]) -> Plan:
    """The plan with the most accurate versions; `plan_of` plans given models, or raises Infeasible.

    Names are settled one after the other, in the order in which they stand: while one is tried, the names after it
    stand with their smallest versions. A name with labels serves every labelled version.
    """
    plan_of = _remembered(plan_of)
    names = list(dict.fromkeys(m.name for m in spec.models))
    chosen: dict[str, tuple[Model, ...]] = {n: _fallback(_of(spec, n)) for n in names}
    report: list[ModelVersion] = []
    plan: Plan | None = None
    for name in names:
        plan, served, tried = _settle(spec, name, chosen, plan_of)
        chosen[name] = served
        report += tried
    assert plan is not None
    return replace(plan, model_versions=tuple(report))


def _remembered(plan_of: Callable[[Sequence[Model]], Plan]) -> Callable[[Sequence[Model]], Plan]:
    """Most names have one version: the same models are asked for again and again."""
    known: dict[tuple[tuple[str, int], ...], Plan | Infeasible] = {}

    def plan(models: Sequence[Model]) -> Plan:
        key = tuple((m.name, m.version) for m in models)
        if key not in known:
            try:
                known[key] = plan_of(models)
            except Infeasible as error:
                known[key] = error
        found = known[key]
        if isinstance(found, Infeasible):
            raise found
        return found

    return plan


def _of(spec: Spec, name: str) -> list[Model]:
    return [m for m in spec.models if m.name == name]


def _labelled(versions: Sequence[Model]) -> set[int]:
    return {v for m in versions for v in m.labels.values()}


def _fallback(versions: Sequence[Model]) -> tuple[Model, ...]:
    """What stands for a name that is not settled: its labelled versions, or the one that asks for least."""
    labelled = _labelled(versions)
    if labelled:
        return tuple(m for m in versions if m.version in labelled)
    return (min(versions, key=lambda m: (sum(p.base_ms + p.per_item_ms for p in m.profile.values()), m.size_mib)),)


def _settle(
    spec: Spec, name: str, chosen: dict[str, tuple[Model, ...]], plan_of: Callable[[Sequence[Model]], Plan]
) -> tuple[Plan, tuple[Model, ...], list[ModelVersion]]:
    """Tries the versions of one name from the most accurate down; those below the first that passes are tried too, for
    the report says of each version which gate it does not pass."""
    versions = _of(spec, name)
    labelled = _labelled(versions)
    ranked = sorted(versions, key=lambda m: (-(m.accuracy or 0.0), -m.version))
    groups = [tuple(m for m in versions if m.version in labelled)] if labelled else [(m,) for m in ranked]
    best: Plan | None = None
    served: tuple[Model, ...] = ()
    report: list[ModelVersion] = []
    failures: list[Infeasible] = []
    for group in groups:
        models = [m for n, ms in chosen.items() for m in (group if n == name else ms)]
        gates, plan = _gates(spec, group, models, plan_of, failures)
        take = plan is not None and best is None
        if take:
            best, served = plan, group
        report += [
            ModelVersion(name=name, version=m.version, accuracy=m.accuracy, gates=gates, chosen=take) for m in group
        ]
    if best is None:
        raise failures[-1]
    return best, served, report


def _gates(
    spec: Spec,
    group: Sequence[Model],
    models: Sequence[Model],
    plan_of: Callable[[Sequence[Model]], Plan],
    failures: list[Infeasible],
) -> tuple[dict[str, bool], Plan | None]:
    """Each gate of some versions of one model, and the plan if they pass all."""
    gates = dict.fromkeys(GATES, True)
    large = [m for m in group if m.size_mib > spec.slo.model_mib]
    if large:
        gates["model_mib"] = False
        failures.append(_too_large(spec, large[0]))
        return gates, None
    try:
        return gates, plan_of(models)
    except Infeasible as error:
        failures.append(error)
        gate = error.binding_constraint.removeprefix("slo.")
        gates[gate if gate in gates else "p99_ms"] = False
        return gates, None


def _too_large(spec: Spec, model: Model) -> Infeasible:
    i = spec.models.index(model)
    reason = (
        f"{model.name} version {model.version} is {model.size_mib:g} MiB, and slo.model_mib is {spec.slo.model_mib:g}"
    )
    fix = Fix(steps=("slo", "model_mib"), value=model.size_mib)
    return Infeasible([problem(("models", i, "size_mib"), reason, fix=fix)], "slo.model_mib")
