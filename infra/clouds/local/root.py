"""The folder of one stack on this machine: where each thing lies, and how files in it are written."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Inputs = dict[str, object]

MARKER = "slipway.json"  # in the root: says that this folder is ours, so that destroy may remove it
_LOCKS: dict[str, threading.RLock] = {}
_GUARD = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Root:
    """Paths under the stack's folder; every name in it is the name of a resource."""

    path: Path
    stack: str

    @property
    def socket(self) -> Path:
        return self.path / "s.sock"

    @property
    def shm_prefix(self) -> str:
        """What the names of the stack's shared memory begin with: unlike any other stack's on this machine."""
        return f"slipway-{hashlib.sha256(str(self.path).encode()).hexdigest()[:8]}-"

    def program(self, name: str) -> Path:
        return self.path / "programs" / f"{name}.json"

    def conf(self, name: str) -> Path:
        return self.path / "conf.d" / f"{name}.conf"

    def run(self, name: str) -> Path:
        return self.path / "run" / f"{name}.json"

    def log(self, name: str) -> Path:
        return self.path / "log" / f"{name}.log"

    def record(self, kind: str, name: str) -> Path:
        """The inputs of a resource as last asked: what makes a read without state possible."""
        return self.path / "resources" / kind / f"{name}.json"

    def records(self, kind: str) -> dict[str, Inputs]:
        folder = self.path / "resources" / kind
        found = ((p.stem, read_json(p)) for p in sorted(folder.glob("*.json")))
        return {name: inputs for name, inputs in found if inputs is not None}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One change of supervisord's programs at a time, across threads and processes."""
        with _GUARD:
            lock = _LOCKS.setdefault(str(self.path), threading.RLock())
        with lock, open(self.path / "run" / "lock", "w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    def claim(self) -> None:
        """Makes the folder and marks it as ours, the mark first: a claim that was cut off can be made again."""
        write_json(self.path / MARKER, {"stack": self.stack})
        for folder in ("conf.d", "programs", "run", "log", "resources"):
            (self.path / folder).mkdir(exist_ok=True)

    @property
    def ours(self) -> bool:
        return (self.path / MARKER).is_file()

    def remove(self) -> None:
        """Removes the folder, and the one above it when nothing else is in it; never a folder that we did not mark."""
        if self.ours:
            for child in self.path.iterdir():
                if child.is_dir():
                    shutil.rmtree(child)
                elif child.name != MARKER:
                    child.unlink()
            shutil.rmtree(self.path)  # the mark last
        if self.path.parent.name == ".slipway":
            with contextlib.suppress(OSError):  # not empty: another stack's folder or the engine's state
                self.path.parent.rmdir()


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: written beside, then renamed (Envoy and readers see only complete files)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    beside.write_text(text)
    os.replace(beside, path)


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, sort_keys=True, indent=1))


def read_json(path: Path) -> Inputs | None:
    """The object in a file, or None when the file is missing or was damaged by hand (both are drift)."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
