"""What a plan needs of a bill; infra/plan/cost.py writes it from the catalogue's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bill:
    """USD a month: at the least, at the mean load, and in the worst month; with each line and what has no price."""

    min: float
    expected: float
    max: float
    lines: tuple[Mapping[str, object], ...] = ()
    unpriced: tuple[Mapping[str, object], ...] = ()
