"""What one pod does over time: how long until it serves, how it stops, and what its specification says about both."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from simulators.core import lifecycle, paths, tables
from simulators.core.checks import number, text
from simulators.core.fitting import objects
from simulators.core.values import Json, Properties, plain_properties, strings
from simulators.core.world import Thing


@dataclass(frozen=True, kw_only=True)
class Start:
    """Seconds to pull and to start; `never` says why it will not serve at all."""

    pull_s: float
    start_s: float
    never: str = ""

    @property
    def seconds(self) -> float:
        return self.pull_s + self.start_s


@dataclass(frozen=True, kw_only=True)
class Stop:
    """`lingers_s`: goes on serving (preStop); `grace_s`: is killed; `exit_s`: what the server itself takes to leave."""

    lingers_s: float
    grace_s: float
    exit_s: float

    @property
    def gone_s(self) -> float:
        """Until its place on the node is free."""
        return min(self.grace_s, self.lingers_s + lifecycle.limit("kubernetes", "exit_s"))


def starting(thing: Thing, pod: Properties) -> Start:
    pull, start = image_times(pod)
    delays = [
        number(paths.get(c, ("readinessProbe", "initialDelaySeconds"))) or 0 for c in objects(pod.get("containers"))
    ]
    settle = number(paths.get(plain_properties(thing.inputs), ("spec", "minReadySeconds"))) or 0
    return Start(pull_s=pull, start_s=max(start, *delays, 0.0) + settle, never=_probe_too_short(pod, start))


def image_times(pod: Properties) -> tuple[float, float]:
    """(seconds to pull, seconds to start) of the slowest container, by rows of images.csv."""
    times = [(0.0, 0.0)]
    for one in objects(pod.get("containers")):
        image = text(one.get("image"))
        row = next(r for r in tables.rows("images") if fnmatchcase(image, r["image"]))
        times.append((float(row["pull_s"]), float(row["start_s"])))
    return max(times, key=sum)


def _probe_too_short(pod: Properties, start: float) -> str:
    """A start-up (else a liveness) probe that gives up before the server listens: the container restarts for ever."""
    for one in objects(pod.get("containers")):
        for name in ("startupProbe", "livenessProbe"):
            probe = one.get(name)
            if isinstance(probe, dict):
                period, failures = number(probe.get("periodSeconds")) or 10, number(probe.get("failureThreshold")) or 3
                budget = (number(probe.get("initialDelaySeconds")) or 0) + period * failures
                if budget < start:
                    what = f"{name} allows {budget:.0f} s and the server listens after {start:.0f} s"
                    return f"container {text(one.get('name'))}: {what}: it is restarted for ever (CrashLoopBackOff)"
                break
    return ""


def stopping(pod: Properties) -> Stop:
    """preStop of the container that waits longest; grace as Kubernetes has it, 30 s unless said."""
    lingers = max(
        [_prestop(paths.get(c, ("lifecycle", "preStop"))) for c in objects(pod.get("containers"))], default=0.0
    )
    given = number(pod.get("terminationGracePeriodSeconds"))
    exits = [int(n) for s in strings(pod.get("containers")) for n in re.findall(r"--exit-timeout-secs[= ](\d+)", s)]
    return Stop(lingers_s=lingers, grace_s=given if given is not None else 30.0, exit_s=float(max(exits, default=0)))


def _prestop(hook: Json) -> float:
    """`sleep: {seconds: N}`, or a command that sleeps."""
    if not isinstance(hook, dict):
        return 0.0
    seconds = number(paths.get(hook, ("sleep", "seconds")))
    if seconds is not None:
        return seconds
    found = re.search(r"\bsleep\b\D{0,3}(\d+(?:\.\d+)?)", " ".join(strings(hook)))
    return float(found[1]) if found else 0.0


def share(value: Json, of: int, up: bool, default: str) -> int:
    """A number or a percentage of the replicas, as maxSurge (up) and maxUnavailable (down) read it."""
    given = text(value) if value is not None else default
    if given.endswith("%"):
        exact = of * (number(given.removesuffix("%")) or 0) / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(number(given) or 0)
