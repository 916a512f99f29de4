"""What a model's folder in a bucket has to hold, whichever cloud it is in."""

from __future__ import annotations

import re
from collections.abc import Sequence

_VERSION = re.compile(r"[0-9]+/.")


def lacking(uri: str, names: Sequence[str]) -> str | None:
    """What of a model's folder is not there: a server reads version folders, such as 1/model.onnx."""
    files = [n for n in names if n and not n.endswith("/")]
    if not files:
        return f"{uri} is empty"
    if not any(_VERSION.match(n) for n in files):
        seen = ", ".join(sorted(files)[:3])
        return f"{uri} has no version folder, such as 1/; it has {seen}"
    return None
