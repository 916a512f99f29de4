"""A stack's state on disk: a deployment file in Pulumi's format, and a journal of the steps since.

Before and after each step one line is appended to the journal and synced, so the cost of a step does not grow with
the stack; at the end it is folded into the deployment file, which is only ever replaced by rename. The journal names
the deployment that it continues; one that continues another is old and ignored. Every change goes through `_apply`,
so that reading a journal back is the same code as having run.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from engine.api import EngineError
from engine.disk import Crash, sync_folder, write_whole
from engine.rows import Row, compact, rename
from engine.secrets import Crypter, opened, sealed

Op = dict[str, Any]  # {"type": "creating", "resource": Row}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class State:
    """`base` are the rows found at the start (a place is an index into it), `news` those registered in this run."""

    def __init__(self, file: Path, env: Mapping[str, str], crash_at: str | None = None, *, dry: bool = False) -> None:
        self.file, self.journal, self.dry = file, file.with_suffix(".journal"), dry
        self.crash, self.lock = Crash(crash_at), threading.RLock()
        document = self._read()
        deployment = (document or {}).get("deployment") or {}
        salt = ((deployment.get("secrets_providers") or {}).get("state") or {}).get("salt")
        self.crypter = Crypter(file.with_suffix(".key"), env, salt)
        self.exists = document is not None
        self._start(deployment)
        self._handle: int | None = None
        self.replayed = self._replay()

    def _start(self, deployment: Mapping[str, Any]) -> None:
        self.base = [cast(Row, opened(r, self.crypter)) for r in deployment.get("resources") or []]
        self.news: list[Row] = []
        self._new_places: dict[str, int] = {}
        self.gone: set[int] = set()
        self.renamed: dict[str, str] = {}
        self.old_ops: list[Op] = [cast(Op, opened(o, self.crypter)) for o in deployment.get("pending_operations") or []]
        self.open_ops: dict[int, Op] = {}
        self._places = {id(row): place for place, row in enumerate(self.base)}
        self._last = 0

    def _read(self) -> dict[str, Any] | None:
        try:
            raw = self.file.read_bytes()
        except FileNotFoundError:
            self.digest = "none"
            return None
        except OSError as e:
            raise EngineError(
                f"{self.file}: cannot be read ({e.strerror}). To fix: give this user permission there"
            ) from e
        self.digest = hashlib.sha256(raw).hexdigest()[:16]
        return parse(raw, self.file)

    # What a run tells about its steps.

    def begin(self, type_: str, row: Row) -> int:
        with self.lock:
            self._last += 1
            self._write({"begin": self._last, "op": {"type": type_, "resource": compact(row)}})
            return self._last

    def end(
        self,
        op: int | None,
        *,
        add: Row | None = None,
        drop: Row | None = None,
        mark: tuple[Row, Mapping[str, object]] | None = None,
        alias: tuple[str, str] | None = None,
        sync: bool = True,
    ) -> None:
        """A step is over: a row that is new, an old one that is gone or changed, an old name that is now another."""
        entry: dict[str, Any] = {}
        if op is not None:
            entry["end"] = op
        if add is not None:
            entry["add"] = add
        if drop is not None:
            entry["drop"] = self._places[id(drop)]
        if mark is not None:
            entry["mark"] = [self._places[id(mark[0])], dict(mark[1])]
        if alias is not None:
            entry["alias"] = list(alias)
        if entry:
            self._write(entry, sync=sync)

    def set_outputs(self, urn: str, outputs: Mapping[str, object], *, sync: bool) -> None:
        self._write({"outputs": urn, "value": dict(outputs)}, sync=sync)

    def forget_operations(self, kept: list[Op]) -> None:
        """Of the operations that an earlier run left open only these stay."""
        if len(kept) != len(self.old_ops):
            self._write({"operations": kept})

    def knows(self, row: Row) -> bool:
        """Whether it is one of the rows found at the start."""
        return id(row) in self._places

    def is_gone(self, row: Row) -> bool:
        return self._places[id(row)] in self.gone

    # The journal.

    def _write(self, entry: dict[str, Any], *, sync: bool = True) -> None:
        with self.lock:
            if self.dry:
                self._apply(entry)
                return
            if sync:
                self.crash.point("before")
            try:
                if self._handle is None:
                    self._open()
                self._append(entry, sync)
            except OSError as e:
                raise EngineError(
                    f"{self.journal}: cannot be written ({e.strerror}); what was written before is intact"
                ) from e
            self._apply(entry)
            if sync:
                self.crash.point("after")

    def _open(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.write(self._handle, (json.dumps({"continues": self.digest}) + "\n").encode())
        sync_folder(self.file.parent)

    def _append(self, entry: dict[str, Any], sync: bool) -> None:
        assert self._handle is not None
        stored = cast(dict[str, Any], sealed(entry, self.crypter))
        if self.crypter.salt is not None:
            stored["salt"] = self.crypter.salt
        line = (json.dumps(stored, separators=(",", ":")) + "\n").encode()
        size = os.fstat(self._handle).st_size
        if os.write(self._handle, line) != len(line):  # a full disk may take a part of it
            os.ftruncate(self._handle, size)
            raise OSError(28, "No space left on device")
        if sync:
            os.fsync(self._handle)

    def _replay(self) -> int:
        try:
            lines = self.journal.read_bytes().split(b"\n")
        except FileNotFoundError:
            return 0
        head, *rest = lines[:-1] or [b"{}"]  # the last one has no newline yet: it was cut off, its step never began
        if json.loads(head).get("continues") != self.digest:
            return 0
        for line in rest:
            entry = json.loads(line)
            if "salt" in entry and self.crypter.salt is None:
                self.crypter.salt = entry["salt"]
            self._apply(cast(dict[str, Any], opened(entry, self.crypter)))
        self.exists = self.exists or bool(rest)
        return len(rest)

    def _apply(self, entry: dict[str, Any]) -> None:
        if "operations" in entry:
            self.old_ops = entry["operations"]
        if "begin" in entry:
            self.open_ops[entry["begin"]] = entry["op"]
            self._last = max(self._last, entry["begin"])
        if "end" in entry:
            del self.open_ops[entry["end"]]
        if "mark" in entry:
            place, patch = entry["mark"]
            cast(dict[str, object], self.base[place]).update(patch)
        if "drop" in entry:
            self.gone.add(entry["drop"])
        if "add" in entry:
            row = entry["add"]
            place = self._new_places.setdefault(row["urn"], len(self.news))
            self.news[place : place + 1] = [row]  # an import may be followed by an update of the same resource
        if "alias" in entry:
            self.renamed[entry["alias"][0]] = entry["alias"][1]
        if "outputs" in entry:
            self.news[self._new_places[entry["outputs"]]]["outputs"] = entry["value"]

    # The deployment.

    def rows(self) -> list[Row]:
        left = [r for place, r in enumerate(self.base) if place not in self.gone]
        return rename([*self.news, *left], self.renamed) if self.renamed else [*self.news, *left]

    def operations(self) -> list[Op]:
        return [*self.old_ops, *self.open_ops.values()]

    def deployment(self, *, show_secrets: bool = False) -> dict[str, Any]:
        crypter = None if show_secrets else self.crypter
        rows = [sealed(compact(r), crypter) for r in self.rows()]
        ops = sealed(self.operations(), crypter)
        manifest = {"time": now(), "magic": "", "version": ""}  # the magic is of the CLI's version, and there is none
        body: dict[str, Any] = {"manifest": manifest, "resources": rows, "metadata": {}}
        provider = self.crypter.provider()
        if provider is not None:
            body["secrets_providers"] = provider
        if ops:
            body["pending_operations"] = ops
        return {"version": 3, "deployment": body}

    def fold(self) -> None:
        """Replaces the deployment file by what is true now, and ends the journal."""
        if self.dry:
            return
        self.crash.point("before")
        raw = write_whole(self.file, json.dumps(self.deployment(), indent=1))
        self.digest = hashlib.sha256(raw).hexdigest()[:16]
        self.crash.point("after")
        self.close()
        self.journal.unlink(missing_ok=True)
        rows, ops = self.rows(), self.operations()
        self._start({})
        self.base, self.old_ops, self.exists = rows, ops, True
        self._places = {id(row): place for place, row in enumerate(self.base)}

    def replace(self, deployment: Mapping[str, Any]) -> None:
        """Another deployment in the place of this one, on disk at once."""
        self._start(deployment)
        self.fold()

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def parse(raw: bytes, file: Path) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError as e:
        raise EngineError(f"{file}: is not JSON ({e}). To fix: restore it, or import an exported deployment") from e
    if not isinstance(document, dict) or document.get("version") != 3:
        raise EngineError(f"{file}: is not a deployment of version 3, the only one allowed")
    return document
