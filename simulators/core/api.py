"""Enumerations out of botocore's service models: what an AWS API accepts, by service and shape."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path

from simulators.core.values import Json


@functools.cache
def enum(service: str, shape: str) -> tuple[str, ...]:
    """The values of a shape in the newest API version that botocore ships for a service."""
    found = shapes(service)[shape]
    values = found.get("enum") if isinstance(found, dict) else None
    assert isinstance(values, list), f"{service}:{shape} is no enumeration"
    return tuple(str(v) for v in values)


@functools.cache
def shapes(service: str) -> dict[str, Json]:
    """Every shape of the newest API version that botocore ships for a service."""
    import botocore  # large and needed by few types

    folder = Path(botocore.__file__).parent / "data" / service
    newest = max(p for p in folder.iterdir() if p.is_dir())
    packed = newest / "service-2.json.gz"
    text = gzip.decompress(packed.read_bytes()) if packed.exists() else (newest / "service-2.json").read_bytes()
    found: dict[str, Json] = json.loads(text)["shapes"]
    return found
