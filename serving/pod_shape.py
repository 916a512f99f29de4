"""From the plan to a pod's numbers: its part of the node, its checks, its drain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict

from infra.plan import Plan, Pool
from infra.plan.facts import fact
from serving.facts import facts, rows
from serving.pod import Check, Folder, Resources

STEP_MILLI = 10  # requests are written in these


def kept(resource: str, amount: float) -> float:
    """What the kubelet keeps of a node for itself, in the amount's own unit."""
    total, below = 0.0, 0.0
    for row in rows("node_reserved.csv"):
        if row["resource"] == resource and amount > below:
            total += (min(amount, float(row["up_to"])) - below) * float(row["part"])
            below = float(row["up_to"])
    return total


def disk_mib(folders: Mapping[str, Folder]) -> int:
    return sum(f.mib for f in folders.values() if not f.memory)


def resources(pool: Pool, disk_mib: int) -> Resources:
    """An even part of what the node has for pods: the plan counts with whole machines."""
    numbers, each = facts("pod"), max(1, pool.replicas_per_node)
    if not pool.vcpus or not pool.memory_gib:
        milli, mib = numbers["unknown_cpu_milli"], numbers["unknown_memory_mib"]
        return Resources(cpu_milli=milli, memory_mib=mib, disk_mib=disk_mib, limited=False)
    cpu = (pool.vcpus - kept("cpu", pool.vcpus)) * 1000 - numbers["node_cpu_milli"]
    memory = (pool.memory_gib - kept("memory", pool.memory_gib)) * 1024
    memory -= numbers["eviction_mib"] + numbers["node_memory_mib"]
    return Resources(
        cpu_milli=max(STEP_MILLI, int(cpu / each) // STEP_MILLI * STEP_MILLI),
        memory_mib=max(1, int(memory / each)),
        disk_mib=disk_mib,
    )


class Checks(TypedDict):
    """The three checks of a server, by the names of a pod's fields."""

    startup: Check
    readiness: Check
    liveness: Check


def checks(plan: Plan, *, ready: str, live: str, own_s: float, started: str | None = None) -> Checks:
    """Started within the plan's budget, or within what the container itself needs where that is longer.

    With `started`, a file says when: where the last model's address says it too early.
    """
    numbers = facts("pod")
    period = numbers["check_period_s"]
    budget = max(float(plan.serving.startup_budget_s), own_s)

    def check(path: str, failures: int) -> Check:
        return Check(port="http", path=path, period_s=period, failures=failures)

    startup = check(ready, math.ceil(budget / period))
    if started is not None:
        startup = replace(startup, path=None, command=("test", "-f", started))
    return Checks(
        startup=startup,
        readiness=check(ready, numbers["readiness_failures"]),
        liveness=check(live, numbers["liveness_failures"]),
    )


def seen_going_s(plan: Plan) -> int:
    """From the order to stop until the entry sends nothing more: the record's time to live and Envoy's own refresh."""
    return math.ceil(fact("discovery_lag", plan.spec) + facts("envoy")["dns_refresh_ms"] / 1000)


def ready_within_s(plan: Plan) -> int:
    """When a rollout is given up: a new node, its driver, the image and the models are in the budget."""
    return plan.serving.startup_budget_s + facts("pod")["ready_margin_s"]
