"""A discrete-event simulation of a server with dynamic batching: what the capacity model's table is made from."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.stats import gamma

Floats = NDArray[np.float64]

BINS_PER_OCTAVE = 128
LOWEST = -6  # histogram of latency from 2**LOWEST to 2**HIGHEST, in units of tau(1)
HIGHEST = 18
BINS = (HIGHEST - LOWEST) * BINS_PER_OCTAVE
BELOW_BIN = 45  # a float64's lowest bits; those above are exponent and bin in the octave: 52 - log2(BINS_PER_OCTAVE)
FIRST = (1023 + LOWEST) * BINS_PER_OCTAVE  # what those above say at 2**LOWEST
RING = 32  # a power of two above the most instances
LAST = RING - 1
SIZES = 65  # batches have 0 to 64 items


def arrivals(rng: np.random.Generator, cv: float, count: int) -> Floats:
    """Arrival instants at rate 1: the gaps are Gamma distributed with mean 1 and this coefficient of variation."""
    return np.cumsum(rng.standard_gamma(1.0 / cv**2, count) * cv**2)


@njit(cache=False, fastmath=True)
def serve(
    unit: Floats,
    scale: float,
    base: float,
    item: float,
    max_batch: int,
    servers: int,
    warm: int,
    counts: Floats,
    sizes: Floats,
) -> float:
    """Serve the arrivals at `unit * scale`; count each item's latency after the first `warm`; the sum of latencies.

    Instances take from the head of one queue. The instance that is free first starts at the later of its freedom and
    the head's arrival, with all that has arrived by then, up to `max_batch`. Where several are free, it takes it all.
    `sizes` counts the items that went in a batch of each size.
    """
    ring = np.zeros(RING)  # when instances become free, ascending from head to tail
    head, tail = 0, servers
    total = 0.0
    first, number = 0, unit.size
    while first < number:
        start = max(ring[head & LAST], unit[first] * scale)
        head += 1
        last = first + 1
        limit = min(number, first + max_batch)
        while last < limit and unit[last] * scale <= start:
            last += 1
        end = start + base + item * (last - first)
        place = tail
        while place > head and ring[(place - 1) & LAST] > end:
            ring[place & LAST] = ring[(place - 1) & LAST]
            place -= 1
        ring[place & LAST] = end
        tail += 1
        sizes[last - first] += last - first
        for index in range(max(first, warm), last):
            latency = end - unit[index] * scale
            total += latency
            place = (np.float64(latency).view(np.int64) >> BELOW_BIN) - FIRST
            counts[min(place, BINS - 1)] += 1.0
        first = last
    return total


def edge(position: Floats | float) -> Floats:
    """The latency at a (fractional) bin position."""
    octave = np.floor(np.asarray(position) / BINS_PER_OCTAVE)
    inside = np.asarray(position) / BINS_PER_OCTAVE - octave
    result: Floats = np.exp2(octave + LOWEST) * (1.0 + inside)
    return result


def quantile(counts: Floats, q: float) -> float:
    """The quantile of a histogram, linear inside the bin; a bin that holds an atom gives its upper edge at most."""
    below = np.cumsum(counts)
    aim = q * below[-1]
    index = int(np.searchsorted(below, aim))
    before = below[index - 1] if index else 0.0
    return float(edge(index + (aim - before) / counts[index]))


@njit(cache=False, fastmath=True)
def followers(unit: Floats, behind: int, within: float) -> float:
    """The share of items that came within this time of the one that is `behind` places before them."""
    close = 0
    for index in range(behind, unit.size):
        close += unit[index] - unit[index - behind] < within
    return close / (unit.size - behind)


@njit(cache=False, fastmath=True)
def fluid_waits(unit: Floats, scale: float, waits: Floats) -> None:
    """The wait of each item in a GI/D/1 queue with service time 1: what a full server amounts to."""
    waits[0] = 0.0
    for index in range(1, unit.size):
        waits[index] = max(0.0, waits[index - 1] + 1.0 - (unit[index] - unit[index - 1]) * scale)


@njit(cache=False, fastmath=True)
def fluid_tail(unit: Floats, scale: float, warm: int, long: float) -> tuple[float, float]:
    """The share of waits above `long`, and the mean wait, of the items after the first `warm` in that queue."""
    wait, total, above = 0.0, 0.0, 0
    for index in range(1, unit.size):
        wait = max(0.0, wait + 1.0 - (unit[index] - unit[index - 1]) * scale)
        if index >= warm:
            total += wait
            above += wait > long
    return above / (unit.size - warm), total / (unit.size - warm)


def fluid_reference(load: float, cv: float, steps: int = 64) -> tuple[float, float]:
    """Mean and 99th percentile of the GI/D/1 wait, in service times, by Spitzer's identity on a grid.

    The distribution of the wait has the transform exp(sum of c_j (z^j - 1)), where c_j, j > 0, are the coefficients of
    -log(1 - phi(z)) and phi is that of service minus gap. Its singularity at z = 1 is divided out as 1 - 1/z, which has
    coefficients at negative powers only.
    """
    longest = cv**2 * max(7.0 / (1.0 - load), 25.0 / load)  # hardly a wait and hardly a gap is longer
    size = 2 ** min(max(math.ceil(math.log2(2.0 * steps * longest)), 14), 19)
    shape = 1.0 / cv**2
    scale = cv**2 / load * steps
    edges = np.arange(size // 2 + 1, dtype=np.float64)
    mass = gamma.cdf(edges, shape, scale=scale)
    moment = shape * scale * gamma.cdf(edges, shape + 1.0, scale=scale)
    inside, weighted = np.diff(mass), np.diff(moment)
    gaps = np.zeros(size)
    upper = weighted - edges[:-1] * inside  # keeps the mean: a gap is shared between the two grid points around it
    gaps[: size // 2] += inside - upper
    gaps[1 : size // 2 + 1] += upper
    jumps = np.roll(gaps[(-np.arange(size)) % size], steps)
    transform = np.fft.fft(jumps / jumps.sum())
    turn = 1.0 - np.exp(2j * np.pi * np.arange(size) / size)
    ratio = np.empty(size, dtype=np.complex128)
    ratio[1:] = (1.0 - transform[1:]) / turn[1:]
    ratio[0] = steps / load - steps
    logs = -np.log(np.abs(ratio)) - 1j * np.unwrap(np.angle(ratio))
    coefficients = np.fft.ifft(logs).real
    coefficients[0] = 0.0
    coefficients[size // 2 :] = 0.0
    density = np.fft.ifft(np.exp(np.fft.fft(coefficients) - coefficients.sum())).real
    below = np.cumsum(density)
    mean = float(density @ np.arange(size)) / steps
    place = int(np.searchsorted(below, 0.99))
    inside_bin = (0.99 - below[place - 1]) / density[place] if place else 0.0
    return mean, max(0.0, (place - 1 + inside_bin) / steps)
