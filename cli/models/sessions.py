"""Uploads that are under way, by address and content: what a later run needs to go on with one."""

from __future__ import annotations

import json
import os
from pathlib import Path


class Sessions:
    """A file of this user alone: a session's address is a right to write its object."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> str | None:
        return self._all().get(key)

    def put(self, key: str, session: str) -> None:
        self._write(self._all() | {key: session})

    def drop(self, key: str) -> None:
        self._write({k: v for k, v in self._all().items() if k != key})

    def _all(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return {str(k): str(v) for k, v in found.items()}

    def _write(self, known: dict[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(self._path.name + ".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(known, file)
        part.rename(self._path)
