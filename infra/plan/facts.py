"""Facts of a cloud's behaviour that the plan counts with: rows with source and date, never branches."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from infra.spec import Spec


@cache
def _rows() -> dict[tuple[str, str, str], float]:
    with Path(__file__).with_name("facts.csv").open(newline="") as file:
        return {(r["fact"], r["cloud"], r["shape"]): float(r["value"]) for r in csv.DictReader(file)}


@cache
def _unfit() -> list[tuple[str, str, str]]:
    with Path(__file__).with_name("unfit.csv").open(newline="") as file:
        return [(r["cloud"], r["prefix"], r["reason"]) for r in csv.DictReader(file)]


def unfit(cloud: str, machine_type: str) -> str | None:
    """Why a machine type is no server of a steady load, if it is not."""
    return next((why for c, prefix, why in _unfit() if c == cloud and machine_type.startswith(prefix)), None)


def fact(name: str, spec: Spec) -> float:
    """The value of a fact where the stack runs."""
    return _rows()[name, spec.cloud, spec.shape]


def limit(name: str, spec: Spec) -> float | None:
    """A fact that not every place has."""
    return _rows().get((name, spec.cloud, spec.shape))


def drain_s(spec: Spec) -> float:
    """From the order to stop to the last answer: seen by the entry, the longest request, a second to exit."""
    return fact("discovery_lag", spec) + exit_timeout_s(spec)


def exit_timeout_s(spec: Spec) -> int:
    """The server's exit time-out: the longest allowed request, rounded up, and a second."""
    return int(-(-spec.max_request_s // 1)) + 1


def spot_notice_s(spec: Spec) -> float:
    """What a server has from the notice to the end; older clusters of some clouds give it less."""
    since = limit("spot_notice_since", spec)
    if since is None or spec.kubernetes_version is None or int(spec.kubernetes_version.partition(".")[2]) >= since:
        return fact("spot_notice", spec)
    return fact("spot_notice_before", spec)


def spot_fits(spec: Spec) -> bool:
    """Whether a server drains within the notice that a spot machine gets."""
    return drain_s(spec) <= spot_notice_s(spec)


def startup_s(spec: Spec, *, accelerated: bool) -> int:
    """From the order for a machine to its first answer; the one number that probes, healing and cooldowns use."""
    copied = sum(m.size_mib for m in spec.models) / fact("copy_mib_per_s", spec)
    driver = fact("driver_install", spec) if accelerated else 0.0
    return int(fact("node_boot", spec) + driver + fact("image_pull", spec) + 2 * copied) + 60
