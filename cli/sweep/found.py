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


def is_ours(name: str, stack: str, others: tuple[str, ...] = ()) -> bool:
    """Whether a name is one of the stack's: `<stack>-<role>`, after a folder or not, and of no longer-named stack."""
    last = re.split(r"[/:]", name.strip("/"))[-1]
    if not last.startswith(f"{stack}-"):
        return False
    return not any(o != stack and o.startswith(f"{stack}-") and f"{last}-".startswith(f"{o}-") for o in others)
