"""Closed-form bounds: an upper bound on latency that holds for every load, used where the table ends.

Items arrive with Gamma distributed gaps. Behind a full queue the instances together work off items at least at rate
`instances * max_batch / tau(max_batch)`, so an item waits no longer than in a GI/D/1 queue of that rate, plus one batch
already running, plus its own batch. Lundberg's inequality bounds the tail of the GI/D/1 wait, Kingman's its mean.
"""

from __future__ import annotations

import math


def decay_rate(load: float, cv: float) -> float:
    """The Lundberg exponent of a GI/D/1 queue with service time 1: the positive root of E[exp(x (S - A))] = 1."""
    square = cv * cv
    gap = 1.0 / load

    def log_moment(x: float) -> float:
        return x - math.log1p(x * square * gap) / square

    high = 2.0 * (gap - 1.0) / (square * gap * gap) + 1e-12
    while log_moment(high) < 0.0:
        high *= 2.0
    low = 0.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        if log_moment(middle) < 0.0:
            low = middle
        else:
            high = middle
    return low


def waiting_bound(load: float, cv: float) -> tuple[float, float]:
    """Upper bounds on mean and 99th percentile of the GI/D/1 wait, in units of the service time of one item."""
    exponent = decay_rate(load, cv)
    kingman = cv * cv / (2.0 * load * (1.0 - load))
    return min(kingman, 1.0 / exponent), math.log(100.0) / exponent
