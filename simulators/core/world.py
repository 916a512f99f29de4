"""What exists in the simulated clouds, what was done to it, and when: one store for every cloud of a rehearsal."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from simulators.core.faults import Fault
from simulators.core.values import Properties

_PLAIN = (  # what is kept as it is
    "taken", "quotas", "expired", "failures", "emptied", "absent", "no_images", "stockouts", "answers", "load",
    "notices", "phase_start", "phase_owner", "nonce",
)  # fmt: skip


@dataclass(kw_only=True)
class Thing:
    """A resource that exists, made by a program or by a cloud itself (`owner` is set: whose trace it is)."""

    cloud: str
    token: str
    id: str
    name: str
    urn: str = ""
    scope: str = ""
    account: str = ""
    inputs: Properties = field(default_factory=dict)
    outputs: Properties = field(default_factory=dict)
    cluster: str = ""
    owner: str = ""
    leak: int = 0
    holds: list[str] = field(default_factory=list)
    after_delete: str = ""
    after_cascade: str = ""
    gone_at: float | None = None
    billable: bool = False
    why: str = ""
    not_ready: str = ""
    state: Properties = field(default_factory=dict)  # what controllers decided: nodes of a pool, nodes of its pods

    @property
    def key(self) -> str:
        return f"{self.account or self.cloud}|{self.token}|{self.id}"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation as the timeline shows it; times are simulated seconds."""

    seq: int
    cloud: str
    op: str
    urn: str
    token: str
    name: str
    start_s: float
    end_s: float
    result: str
    after: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PodEvent:
    """`ready` pods more (or fewer) of a workload, `offset_s` after the start of operation `seq`.

    Fewer: from then on no endpoint; they go on serving for `lingers_s` and are killed after `grace_s`.
    """

    seq: int
    offset_s: float
    workload: str
    cluster: str
    ready: int
    lingers_s: float = 0.0
    grace_s: float = 0.0
    exit_s: float = 0.0
    told: bool = True  # discovery, or the load balancer, is told at once; else it has to find out
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing as operation `seq` left it; None: gone. The past, so that flows can be judged at any moment."""

    seq: int
    key: str
    thing: Thing | None


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """What is still there after everything was destroyed, and why."""

    cloud: str
    type: str
    name: str
    why: str
    leak: int
    billable: bool


@dataclass(kw_only=True)
class World:
    """In memory; with `path` also in a file, so that several plugin processes share it and a kill loses nothing."""

    path: Path | None = None
    private: bool = False  # one process alone uses the file, and says when: at the end of a run, and before a kill
    things: dict[str, Thing] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    taken: dict[str, tuple[float, str]] = field(default_factory=dict)  # scope -> (free at, reason)
    faults: tuple[Fault, ...] = ()
    quotas: dict[str, int] = field(default_factory=dict)
    expired: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # key -> why its delete failed last
    pods: list[PodEvent] = field(default_factory=list)
    journal: list[Entry] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)  # buckets (globs) in which nothing is any more
    absent: list[str] = field(default_factory=list)  # buckets (globs) that do not exist
    no_images: list[str] = field(default_factory=list)  # container images (globs) that no registry has
    stockouts: list[str] = field(default_factory=list)  # "machine type glob|zone glob": the cloud has none left
    answers: dict[str, str] = field(default_factory=dict)  # id of a boot image -> the parameter that answered with it
    load: dict[str, float] = field(default_factory=dict)  # "workload glob|metric" -> total over all replicas
    notices: list[str] = field(default_factory=list)  # what went wrong without failing an operation, in words
    phase_start: float = 0.0
    phase_owner: str = ""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    _kept: tuple[int, int] = (0, 0)  # entries and bytes of the past that are in its file
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Engines run steps in parallel and each provider is a process: one at a time, on the newest state."""
        with self._lock:
            if self.path is None or self.private:
                yield
                return
            with self.path.with_suffix(".lock").open("a") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self.restore()
                try:
                    yield
                finally:
                    self.keep()

    @property
    def horizon(self) -> float:
        """The simulated moment at which everything so far is done."""
        return max((o.end_s for o in self.operations), default=self.phase_start)

    def begin_phase(self, owner: str = "") -> None:
        """What is done from here on starts after all that was done before; once for each run of an engine (`owner`)."""
        with self.transaction():
            if not owner or owner != self.phase_owner:
                self.phase_start, self.phase_owner = self.horizon, owner

    def record(
        self, *, cloud: str, op: str, urn: str, token: str, name: str, seconds: float, after: list[str], result: str
    ) -> float:
        """Starts when the last operation on what it depends on is over; returns its end."""
        ends = [o.end_s for o in self.operations if o.urn in after or (o.urn == urn and urn)]
        start = max([self.phase_start, *ends])
        self.operations.append(
            Operation(
                seq=len(self.operations), cloud=cloud, op=op, urn=urn, token=token, name=name,
                start_s=start, end_s=start + seconds, result=result, after=tuple(after),
            )
        )  # fmt: skip
        return start + seconds

    def note(self, thing: Thing, gone: bool = False, seq: int | None = None) -> None:
        """Keeps what an operation left of a thing, so that the past can be looked at."""
        at = len(self.operations) if seq is None else seq
        if thing.token.rpartition("/")[2].startswith("bucketObject"):
            return  # many, and no flow depends on one
        self.journal.append(Entry(seq=at, key=thing.key, thing=None if gone else copy.deepcopy(thing)))

    def past(self, seq: int) -> dict[str, Thing]:
        """What existed after operation `seq`, as far as it is kept."""
        there: dict[str, Thing] = {}
        for entry in self.journal:
            if entry.seq > seq:
                break
            if entry.thing is None:
                there.pop(entry.key, None)
            else:
                there[entry.key] = entry.thing
        return there

    def changes(self) -> dict[int, list[Entry]]:
        """What each operation left of the things that it touched."""
        found: dict[int, list[Entry]] = {}
        for entry in self.journal:
            found.setdefault(entry.seq, []).append(entry)
        return found

    def settle(self, now: float) -> None:
        """Lets pass what time alone removes: traces with a date, windows of names."""
        for key in [k for k, t in self.things.items() if t.gone_at is not None and t.gone_at <= now]:
            del self.things[key]

    def find(self, account: str, token: str, identity: str) -> Thing | None:
        return self.things.get(f"{account}|{token}|{identity}")

    def change_by_hand(self, cloud: str, name: str, path: str, value: object) -> None:
        """Drift: somebody, or an autoscaler, changed what exists without the program's knowledge."""
        from simulators.core.edits import put

        with self.transaction():
            found = [t for t in self.things.values() if t.cloud == cloud and name in (t.name, t.id)]
            if not found:
                raise KeyError(f"{cloud}: nothing is named {name}")
            for thing in found:
                put(thing.inputs, path, value)
                put(thing.outputs, path, value)
                self.note(thing, seq=len(self.operations) - 1)

    def remove_by_hand(self, cloud: str, name: str) -> None:
        """A spot machine taken back, a node lost, a resource deleted in the console."""
        with self.transaction():
            for key in [k for k, t in self.things.items() if t.cloud == cloud and name in (t.name, t.id)]:
                self.note(self.things.pop(key), gone=True, seq=len(self.operations) - 1)

    def leftovers(self) -> tuple[Leftover, ...]:
        """Everything that still exists, with the reason; after a clean destroy there is nothing."""
        with self.transaction():
            now = self.horizon
            return tuple(
                Leftover(
                    cloud=t.cloud, type=t.token, name=t.name, leak=t.leak, billable=t.billable,
                    why=self.failures.get(t.key) or t.why or "it is still there: no delete was asked for",
                )
                for t in self.things.values()
                if t.gone_at is None or t.gone_at > now
            )  # fmt: skip

    def keep(self) -> None:
        assert self.path is not None
        state = {
            "things": [asdict(t) for t in self.things.values()],
            "operations": [asdict(o) for o in self.operations],
            "faults": [asdict(f) for f in self.faults],
            "pods": [asdict(e) for e in self.pods],
            "past": self._keep_past(),
            **{name: getattr(self, name) for name in _PLAIN},
        }
        fresh = self.path.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(state), encoding="utf-8")
        fresh.replace(self.path)

    def _keep_past(self) -> list[int]:
        """Appends what is new to the file of the past, which only grows; its length, so that a torn end counts not."""
        assert self.path is not None
        fresh = self.journal[self._kept[0] :]
        if fresh:
            with self.path.with_suffix(".past").open("ab") as file:
                file.truncate(self._kept[1])
                file.write("".join(json.dumps(asdict(e)) + "\n" for e in fresh).encode())
                self._kept = (len(self.journal), file.tell())
        return [*self._kept]

    def _restore_past(self, count: int, size: int) -> None:
        assert self.path is not None
        if count < self._kept[0] or size < self._kept[1]:
            self.journal, self._kept = [], (0, 0)
        if size > self._kept[1]:
            with self.path.with_suffix(".past").open("rb") as file:
                file.seek(self._kept[1])
                lines = file.read(size - self._kept[1]).decode().splitlines()
            del self.journal[self._kept[0] :]
            for line in lines:
                e = json.loads(line)
                self.journal.append(Entry(**{**e, "thing": Thing(**e["thing"]) if e["thing"] else None}))
        self._kept = (count, size)

    def restore(self) -> None:
        assert self.path is not None
        if not self.path.exists():
            return
        state = json.loads(self.path.read_text(encoding="utf-8"))
        things = [Thing(**t) for t in state["things"]]
        self.things = {t.key: t for t in things}
        self.operations = [Operation(**{**o, "after": tuple(o["after"])}) for o in state["operations"]]
        self.faults = tuple(Fault(**f) for f in state["faults"])
        self.pods = [PodEvent(**e) for e in state["pods"]]
        self._restore_past(*state["past"])
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.taken = {k: (v[0], v[1]) for k, v in self.taken.items()}
