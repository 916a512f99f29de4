"""What one operation on a store is given, and the folder of a backup below `backup_uri`."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from cli.errors import USAGE, CliError
from cli.models.bucket import Bucket, Stored
from cli.models.sessions import Sessions

PAUSE_S = 5.0
WAIT_S = 6 * 3600.0  # of one operation; the same command goes on with it afterwards
MANIFEST = "slipway.json"  # written last: a folder without it holds no whole backup


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A backup's own folder in a bucket that the stack does not own."""

    uri: str  # without a slash at the end
    bucket: Bucket
    prefix: str  # of its objects, with a slash at the end

    def list(self) -> list[Stored]:
        return self.bucket.list(self.prefix)

    def put(self, name: str, content: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            digest = hashlib.sha256(content).hexdigest()
            self.bucket.upload(self.prefix + name, Path(file.name), digest, lambda _: None)

    def get(self, name: str) -> bytes | None:
        """None where there is no such object."""
        if not any(o.key == self.prefix + name for o in self.bucket.list(self.prefix + name)):
            return None
        into = BytesIO()
        self.bucket.read(self.prefix + name, into)
        return into.getvalue()

    def json(self, name: str) -> dict[str, Any] | None:
        found = self.get(name)
        return None if found is None else dict(json.loads(found))

    def put_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.put(name, json.dumps(value, indent=1).encode())

    @contextmanager
    def opened(self, key: str) -> Iterator[IO[bytes]]:
        """An object's content as it comes: a backup may be larger than this machine's memory and disk."""
        reading, writing = os.pipe()
        faults: list[Exception] = []

        def pour() -> None:
            try:
                with os.fdopen(writing, "wb") as into:
                    self.bucket.read(key, into)
            except BrokenPipeError:
                pass  # the reader has seen enough
            except Exception as e:  # told by the reader's side, below
                faults.append(e)

        thread = threading.Thread(target=pour, daemon=True)
        thread.start()
        try:
            with os.fdopen(reading, "rb", buffering=1 << 20) as file:
                yield file
        except CliError:
            thread.join()
            if faults:  # what came was cut off because of this
                raise faults[0] from None
            raise
        thread.join()
        if faults:
            raise faults[0]


@dataclass(frozen=True, kw_only=True)
class Job:
    """`resource`: the id of what holds the data, as the stack's state has it."""

    stack: str
    resource: str
    url: str
    notes: Sessions  # operations that are under way: what a later run needs to go on with them
    tell: Callable[[str], None]
    project: str = ""
    region: str = ""
    name: str = ""  # of a backup
    folder: Folder | None = None
    target: str = ""  # what a restore goes into; empty: the stack's own
    sizes: Mapping[str, Any] = field(default_factory=dict)
    endpoint: str = ""  # in place of the cloud's own; without credentials
    pause_s: float = PAUSE_S

    def need_folder(self) -> Folder:
        if self.folder is None:
            raise CliError(
                "backup_uri: not set, and this store's backups are files of a bucket. To fix: set backup_uri to a "
                "gs:// or s3:// address that the stack does not own",
                USAGE,
            )
        return self.folder

    def key(self, operation: str) -> str:
        return f"{operation} {self.resource} {self.name} {self.target}"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a backup was found to hold when it was read again, and how many entities its maker says it wrote."""

    entities: int
    bytes: int
    written: int | None = None  # None: the store does not say

    def check(self, where: str) -> None:
        if self.written is not None and self.written != self.entities:
            raise CliError(
                f"{where}: {self.entities} entities were read back, and {self.written} were written. Nothing was "
                "destroyed. To fix: make another backup, under another name"
            )
