"""One transfer between a file and a feature store, in a process of its own: `python -m cli.features.transfer`.

Google's clients and the engine's gRPC cannot be loaded into one process. It reads what to do as JSON from stdin and
tells each chunk, and what became of it, as lines of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from cli.features import lookups
from serving.features import Features, FeatureStoreError, Schema, connect

CHUNK = 1000  # entities between two marks of progress
DATATYPES = {"u1": "UINT8", "i4": "INT32", "i8": "INT64"}
Tell = Callable[[Mapping[str, Any]], None]


def main() -> None:
    asked = json.load(sys.stdin)

    def tell(line: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    try:
        done = run(asked, tell)
    except (FeatureStoreError, OSError, KeyError, ValueError) as e:
        done = {"error": str(e)}
    tell(done)
    sys.stdout.flush()
    os._exit(1 if "error" in done else 0)  # Google's clients keep threads


def run(asked: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    if asked.get("via"):
        _lead(str(urlsplit(asked["url"]).hostname), int(asked["via"]))
    if "wanted" in asked:
        schema = Schema(datatype=asked["datatype"], shape=tuple(asked["shape"]))
        do = {"get": lookups.get, "stats": lookups.stats}[asked["operation"]]
        return do(_connected(asked, schema), list(asked["wanted"]), tell)
    names, rows, schema = _file(asked)
    act = {"load": _load, "verify": _verify}[asked["operation"]]
    return act(_connected(asked, schema), names, rows, asked, tell)


def _lead(host: str, port: int) -> None:
    """Connections to the store's host go to a port of this machine. Its name stays: certificates are checked by it."""
    real = socket.getaddrinfo

    def resolved(name: Any, at: Any, *arguments: Any, **more: Any) -> Any:
        return real("127.0.0.1", port, *arguments, **more) if name == host else real(name, at, *arguments, **more)

    socket.getaddrinfo = resolved  # type: ignore[assignment]


def _file(asked: Mapping[str, Any]) -> tuple[list[str], npt.NDArray[np.generic], Schema]:
    with np.load(asked["source"], allow_pickle=False) as file:
        rows = file[asked.get("array", "features")]
        column = asked.get("ids") or ("ids" if "ids" in file else None)
        ids = file[column] if column else np.arange(len(rows))
    names = [x.decode() if isinstance(x, bytes) else str(x) for x in ids.tolist()]
    # numbers with a point are what models take: FP32, as the local stack loads them
    datatype = "FP32" if rows.dtype.kind == "f" else DATATYPES[rows.dtype.str[1:]]
    schema = Schema(datatype=datatype, shape=rows.shape[1:] or (1,))
    return names, rows.reshape(len(rows), *schema.shape).astype(schema.dtype), schema


def _connected(asked: Mapping[str, Any], schema: Schema) -> Features:
    return connect(
        asked["url"],
        asked["prefix"],
        schema,
        deadline_ms=10_000,
        pause_ms=0,
        cache_entries=int(asked.get("cache_entries", 0)),
        cache_ttl_s=float(asked.get("cache_ttl_s", 0)),
        ttl_s=asked.get("ttl_s"),
        write_deadline_s=60,
        secrets=asked.get("secrets", {}),
    )


def _load(
    client: Features, names: list[str], rows: npt.NDArray[np.generic], asked: Mapping[str, Any], tell: Tell
) -> dict[str, Any]:
    """A load that was cut off goes on where it was, if the file is still the same."""
    mark = Path(asked["mark"])
    digest = hashlib.sha256(Path(asked["source"]).read_bytes() + asked["url"].encode()).hexdigest()
    start = _marked(mark, digest)
    for at in range(start, len(names), CHUNK):
        part = slice(at, at + CHUNK)
        client.put_many(dict(zip(names[part], rows[part], strict=True)))
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.with_suffix(".new").write_text(json.dumps({"digest": digest, "done": min(at + CHUNK, len(names))}))
        mark.with_suffix(".new").replace(mark)
        tell({"done": min(at + CHUNK, len(names)), "of": len(names)})
    mark.unlink(missing_ok=True)
    return {"loaded": len(names) - start, "skipped": start, "of": len(names)}


def _marked(mark: Path, digest: str) -> int:
    if not mark.exists():
        return 0
    kept = json.loads(mark.read_text())
    return int(kept["done"]) if kept["digest"] == digest else 0


def _verify(
    client: Features, names: list[str], rows: npt.NDArray[np.generic], asked: Mapping[str, Any], tell: Tell
) -> dict[str, Any]:
    """Every entity of the file is looked up and compared."""
    missing: list[str] = []
    different: list[str] = []
    for at in range(0, len(names), CHUNK):
        part = slice(at, at + CHUNK)
        found = client.get_many(names[part])
        if found.error is not None:
            raise FeatureStoreError(found.error)
        for name, row in zip(names[part], rows[part], strict=True):
            if name in found.faults or (name in found.features and not np.array_equal(found.features[name], row)):
                different.append(name)
            elif name not in found.features:
                missing.append(name)
        tell({"done": min(at + CHUNK, len(names)), "of": len(names)})
    return {
        "verified": len(names),
        "missing": len(missing),
        "different": len(different),
        "some": (missing + different)[:5],
    }


if __name__ == "__main__":
    main()
