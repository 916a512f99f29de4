"""Which ports a model server gets: the lowest free slots, the same ones for the same plan and the same past."""

from __future__ import annotations

from infra.clouds.local.kind import Fault
from infra.clouds.local.machine import free, holder
from infra.clouds.local.preflight import own_ports
from infra.clouds.local.root import Inputs, Root

# The layout of a stack's ports: HTTP entry +0, gRPC entry +1, Redis +2, Envoy's admin +9, then slots of ten.
SLOTS = 9
FIRST = 10
STEP = 10
OFFSETS = {"http": 0, "grpc": 1, "metrics": 2}


def ports(base: int, slot: int) -> dict[str, int]:
    return {name: base + FIRST + STEP * slot + offset for name, offset in OFFSETS.items()}


def assign(root: Root, base: int, generation: str, index: int, records: dict[str, Inputs]) -> dict[str, int] | Fault:
    """The ports of server `index` of a generation, whichever of its servers is asked for first.

    Slots of other generations are theirs until they are gone, slots with a foreign process are passed over; of the
    rest, server i takes the i-th. So a switch there and back ends on the ports it began with.
    """
    taken = set()
    siblings = set()
    for record in records.values():
        taken.add(_http(record))
        if record.get("generation") == generation:
            siblings.add(record.get("index"))
    own = own_ports(root)
    rank = sum(1 for i in range(index) if i not in siblings)
    busy = []
    for slot in range(SLOTS):
        wanted = ports(base, slot)
        if wanted["http"] in taken:
            continue
        foreign = [p for p in wanted.values() if p not in own and not free(p)]
        if foreign:
            busy.append(f"{foreign[0]} by {holder(foreign[0])}")
        elif rank == 0:
            return wanted
        else:
            rank -= 1
    reason = f"no free slot of {SLOTS} from port {base + FIRST} on for server {index} of generation {generation}"
    held = f" ({len(taken)} are used by this stack{''.join('; ' + b for b in busy)})."
    return Fault(
        path="ports",
        reason=reason + held,
        fix="end the processes that hold them, or give the stack other ports with slipway:port.",
    )


def _http(record: Inputs) -> object:
    found = record.get("ports")
    return found.get("http") if isinstance(found, dict) else None
