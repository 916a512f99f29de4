"""Faults by rule: which operation fails, how, and how often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase

KINDS = {
    "fail": "the operation fails and nothing was made",
    "hang": "the operation never ends: it fails when its time-out is over",
    "partial": "the resource is made and does not become ready",
    "throttle": "the cloud refuses for now (rate exceeded); the provider's retries take simulated time",
    "quota": "the cloud refuses: a quota is used up",
    "expired": "the credentials have expired: every later operation of this cloud fails too",
    "killed": "the process of the engine is killed when the operation is done and before it is told",
    "spot-reclaimed": "a node of a spot pool is taken back, with the cloud's notice",
    "node-lost": "a node dies without notice",
    "autoscaler-moved": "an autoscaler has another number of replicas, and its nodes (message: the number)",
    "drift": "somebody changed a property by hand (message: path=value)",
    "bucket-empty": "the buckets of this name hold nothing",
    "bucket-absent": "the buckets of this name do not exist",
    "image-missing": "no registry has the container images of this name: machines that need one never serve",
    "stockout": "no machine of this type (name; spot:TYPE: as spot) is left in the zones of the message (none: any)",
    "quota-short": "the quota of this name (as the cloud calls it) is the number of the message",
}
EVENTS = frozenset(list(KINDS)[7:])  # what no operation does: `type` and `name` say to whom, before operation `skip`
THROTTLE_RETRY_S = 30.0  # what the providers' exponential back-off adds up to before it gives up or gets through


class FaultError(ValueError):
    """A rule that names no kind or no place."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Matches type, name and operation by glob; `skip` matches pass before it acts, `times` times (0: always).

    An event acts once: at the start where `skip` is 0, else after so many operations of any kind.
    """

    kind: str
    type: str = "*"
    name: str = "*"
    operation: str = "create"
    skip: int = 0
    times: int = 1
    message: str = ""
    seen: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaultError(f"fault: no kind '{self.kind}'; allowed: {', '.join(KINDS)}")

    def matches(self, token: str, name: str, operation: str) -> bool:
        return fnmatchcase(token, self.type) and fnmatchcase(name, self.name) and self.operation in ("*", operation)

    @property
    def acts(self) -> bool:
        return self.seen > self.skip and (self.times == 0 or self.seen <= self.skip + self.times)


def strike(faults: Sequence[Fault], token: str, name: str, operation: str) -> tuple[Fault | None, tuple[Fault, ...]]:
    """(the fault that acts on this operation, all of them with this operation counted)."""
    hit: Fault | None = None
    counted: list[Fault] = []
    for fault in faults:
        if fault.kind not in EVENTS and fault.matches(token, name, operation):
            fault = replace(fault, seen=fault.seen + 1)
            hit = hit or (fault if fault.acts else None)
        counted.append(fault)
    return hit, tuple(counted)


def parse(text: str) -> tuple[Fault, ...]:
    """A JSON list of rules, as the plugin gets them from its environment."""
    try:
        return tuple(Fault(**rule) for rule in json.loads(text))
    except (TypeError, ValueError) as error:
        raise FaultError(
            f"faults: {error}; expected a JSON list like {json.dumps([asdict(Fault(kind='fail'))])}"
        ) from None
