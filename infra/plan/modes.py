"""The two scaling modes and the three cost modes, turned into numbers once: the only module that looks at them."""

from __future__ import annotations

from dataclasses import dataclass

from infra.spec import Spec


@dataclass(frozen=True, kw_only=True)
class LocalNumbers:
    """What the modes mean on this machine."""

    processes: int | None  # server processes; None: one for each instance
    least_instances: int  # two keep serving while one is restarted
    headroom: float  # capacity over the peak


# (cost) -> least instances, headroom. One instance is the cheapest that works; two survive the death of one.
_LOCAL = {"economy": (1, 1.0), "balanced": (2, 1.0), "performance": (2, 1.25)}
_LOCAL_PROCESSES = {"horizontal": None, "vertical": 1}


def local_numbers(spec: Spec) -> LocalNumbers:
    least, headroom = _LOCAL[spec.cost]
    return LocalNumbers(processes=_LOCAL_PROCESSES[spec.scaling], least_instances=least, headroom=headroom)
