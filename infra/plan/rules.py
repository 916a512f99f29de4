"""Rules between the configuration and the catalogue, each a small function with its reason and source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.catalog import Catalog
from infra.plan.facts import drain_s, limit, startup_s
from infra.spec import Fix, Problem, Spec
from infra.spec.problems import nearest, problem

Found = Iterator[Problem]
Check = Callable[[Spec, Catalog], Found]


@dataclass(frozen=True, kw_only=True)
class Rule:
    name: str
    reason: str
    source: str
    check: Check


RULES: list[Rule] = []


def rule(reason: str, source: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        RULES.append(Rule(name=check.__name__, reason=reason, source=source, check=check))
        return check

    return register


def check(spec: Spec, catalog: Catalog) -> list[Problem]:
    """Every problem of the configuration with what the catalogue knows."""
    return [p for r in RULES for p in r.check(spec, catalog)]


@rule("A plan needs machines with prices; those of a cluster of one's own have none.", "infra/catalog")
def cloud_has_machines(spec: Spec, catalog: Catalog) -> Found:
    if not catalog.regions(spec.cloud):
        reason = f"the catalogue has no machines of cloud {spec.cloud}: they are yours, and have no price"
        yield problem(("cloud",), reason, allowed=("gcp", "aws", "local"), fix=Fix(steps=("cloud",), value="local"))


@rule("Machines and prices are those of a region.", "infra/catalog/prices.csv")
def region_is_known(spec: Spec, catalog: Catalog) -> Found:
    regions = catalog.regions(spec.cloud)
    if regions and spec.region not in regions:
        near = nearest(spec.region, regions) or regions[0]
        fix = Fix(steps=("region",), value=near)
        reason = f"{spec.region} is not a region of cloud {spec.cloud} in the catalogue"
        yield problem(("region",), reason, allowed=regions, nearest=near, fix=fix)


@rule("A zone that does not exist sells nothing.", "infra/catalog/zones.csv")
def zones_are_known(spec: Spec, catalog: Catalog) -> Found:
    known = sorted(
        {z for row in catalog.zones if (row.cloud, row.region) == (spec.cloud, spec.region) for z in row.zones}
    )
    for i, zone in enumerate(spec.zones):
        if known and zone not in known:
            free = [z for z in known if z not in spec.zones]
            fix = Fix(steps=("zones", i), value=free[0]) if free else Fix(steps=("zones",), op="remove")
            reason = f"{zone} is not a zone of region {spec.region} in the catalogue"
            yield problem(("zones", i), reason, allowed=known, nearest=nearest(zone, known), fix=fix)


@rule("A machine type is a name of its cloud.", "infra/catalog/machines.csv")
def machine_type_is_known(spec: Spec, catalog: Catalog) -> Found:
    types = sorted({m.machine_type for m in catalog.machines if m.cloud == spec.cloud} | _slices(spec, catalog))
    if spec.machine_type is not None and types and spec.machine_type not in types:
        near = nearest(spec.machine_type, types)
        fix = Fix(steps=("machine_type",), value=near) if near else Fix(steps=("machine_type",), op="remove")
        reason = f"{spec.machine_type} is not a machine type of cloud {spec.cloud} in the catalogue"
        yield problem(("machine_type",), reason, allowed=_like(spec.machine_type, types), nearest=near, fix=fix)


def _slices(spec: Spec, catalog: Catalog) -> set[str]:
    return {s.machine_type for s in catalog.slices} if spec.cloud == "gcp" else set()


def _like(word: str, types: list[str]) -> list[str]:
    """The types of the same family, or all: a reader's screen has no room for every one."""
    family = word.split("-")[0].split(".")[0]
    return [t for t in types if t.startswith(family)] or types


@rule("A machine is replaced when it is not healthy within the group's longest initial delay.", "infra/plan/facts.csv")
def start_is_within_the_longest_delay(spec: Spec, catalog: Catalog) -> Found:
    longest = limit("longest_initial_delay", spec)
    takes = (
        startup_s(spec, accelerated=spec.accelerator.name != "none")
        if spec.region in catalog.regions(spec.cloud)
        else 0
    )
    if longest is not None and takes > longest:
        i = max(range(len(spec.models)), key=lambda i: spec.models[i].size_mib)
        yield problem(
            ("models", i, "size_mib"),
            f"with {spec.models[i].size_mib:g} MiB a start takes {takes} s, and shape {spec.shape} on {spec.cloud} "
            f"waits {longest:g} s before it replaces a machine",
            to_fix="serve it with shape kubernetes, whose start-up probe has no such limit, or a smaller model",
        )


@rule("A machine that is told to go is ended after a while, answered or not.", "infra/plan/facts.csv")
def drain_is_within_the_shutdown(spec: Spec, catalog: Catalog) -> Found:
    longest = limit("shutdown_limit", spec)
    takes = drain_s(spec) if longest is not None else 0.0
    if longest is not None and takes > longest:
        most = spec.max_request_s - (takes - longest)
        yield problem(
            ("max_request_s",),
            f"{spec.max_request_s:g} s make a drain of {takes:g} s, and shape {spec.shape} on {spec.cloud} ends a "
            f"machine {longest:g} s after it was told to go",
            allowed=(f"at most {most:g}", "longer with shape kubernetes"),
            fix=Fix(steps=("max_request_s",), value=most),
        )
