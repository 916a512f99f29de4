"""What a sweep finds, and how a name is known for a stack's."""

from __future__ import annotations

import re
from dataclasses import dataclass

TAG = "slipway-stack"


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that exists in the account."""

    kind: str  # as its cloud calls it
    name: str
    by: str  # tag, or name
    billable: bool
    remove: str  # the command that removes it; empty: its console
    backup: str = ""  # fee of a GB and month of a backup: it is meant to stay
    bytes: int | None = None  # of a backup; None: its cloud does not say


def is_ours(name: str, stack: str, others: tuple[str, ...] = ()) -> bool:
    """Whether a name is one of the stack's: `<stack>-<role>`, after a folder or not, and of no longer-named stack."""
    last = re.split(r"[/:]", name.strip("/"))[-1]
    if not last.startswith(f"{stack}-"):
        return False
    return not any(o != stack and o.startswith(f"{stack}-") and f"{last}-".startswith(f"{o}-") for o in others)


def size(value: object) -> int | None:
    """Bytes of a number, of text such as `12 MB`, or of a list of them."""
    if isinstance(value, list):
        sizes = [n for n in map(size, value) if n is not None]
        return sum(sizes) if sizes else None
    if isinstance(value, int):
        return value
    number, _, unit = str(value).partition(" ")
    units = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
    return int(float(number) * units[unit]) if unit in units and number.replace(".", "", 1).isdigit() else None
