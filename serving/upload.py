"""Model files of local paths as objects of a bucket: keys, contents, and one digest over all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from serving.container import FileContent


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Objects below one folder, which is named by the digest: a changed file is a new folder, never an overwrite."""

    files: Mapping[str, FileContent]  # key below the folder -> content

    @property
    def digest(self) -> str:
        lines = "".join(f"{key} {content.sha256}\n" for key, content in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:12]

    @property
    def size_mib(self) -> float:
        return sum(c.size for c in self.files.values()) / 2**20
