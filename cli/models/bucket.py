"""What the commands ask of a bucket, whichever cloud it is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from cli.errors import USAGE, CliError

DIGEST = "slipway-sha256"  # metadata of every object that is uploaded here
Progress = Callable[[int], None]  # bytes that are there, of one file


@dataclass(frozen=True, kw_only=True)
class Stored:
    key: str
    size: int
    updated: str  # ISO 8601


class Bucket(Protocol):
    """Uploads go on where they were cut off: the cloud keeps the parts that it has."""

    def list(self, prefix: str) -> list[Stored]: ...

    def digest(self, key: str) -> str | None:
        """Of an object that was uploaded here; None: it is not there, or came another way."""
        ...

    def upload(self, key: str, path: Path, digest: str, progress: Progress) -> None: ...

    def read(self, key: str, into: IO[bytes]) -> None: ...


def open_bucket(address: str, state: Path) -> tuple[Bucket, str]:
    """The bucket of an address, and its path with a slash at the end; `state` keeps sessions of unfinished uploads."""
    scheme, _, rest = address.partition("://")
    name, _, path = rest.partition("/")
    prefix = path.strip("/") + "/" if path.strip("/") else ""
    if scheme == "gs":
        from cli.models.gs import opened

        return opened(name, state), prefix
    if scheme == "s3":
        from cli.models.s3 import connected

        return connected(name, state), prefix
    raise CliError(
        f"{address}: is no bucket. To fix: nothing, the first `slipway up` uploads a local path by itself", USAGE
    )


def versions(found: list[Stored], prefix: str) -> Mapping[int, list[Stored]]:
    """The objects of each version's folder below a model's address."""
    by_version: dict[int, list[Stored]] = {}
    for item in found:
        folder = item.key.removeprefix(prefix).split("/")[0]
        if folder.isdecimal() and not folder.startswith("0") and not item.key.endswith("/"):
            by_version.setdefault(int(folder), []).append(item)
    return dict(sorted(by_version.items()))
