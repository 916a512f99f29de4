"""Copies models from a bucket into a folder before the server starts: whole or not at all, and again without harm.

Stands alone beside objects.py, in a stock Python image. SLIPWAY_SYNC says: target, and models, each with its name, the
variable that holds its address, the folder below it, and its versions.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import objects  # beside this file

PART = ".part"


def main() -> int:
    settings = json.loads(os.environ["SLIPWAY_SYNC"])
    target = Path(settings["target"])
    copied = skipped = 0
    began = time.monotonic()
    for model in settings["models"]:
        base = "/".join(x for x in (os.environ[model["source"]].rstrip("/"), model["folder"]) if x)
        bucket = objects.bucket(base)
        for version in model["versions"]:
            prefix = f"{bucket.prefix}{version}/"
            found = [o for o in bucket.list(prefix) if not o.key.endswith("/")]
            if not found:
                print(f"cannot start: nothing at {base}/{version}/", file=sys.stderr, flush=True)
                return 1
            for item in found:
                path = target / model["name"] / str(version) / item.key.removeprefix(prefix)
                if path.exists() and path.stat().st_size == item.size:
                    skipped += 1
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(path.name + PART)
                with part.open("wb") as file:
                    size = bucket.read(item.key, file)
                if size != item.size:
                    print(f"cannot start: {item.key} has {item.size} bytes, {size} came", file=sys.stderr, flush=True)
                    return 1
                part.rename(path)
                copied += 1
    print(f"copied {copied} files in {time.monotonic() - began:.1f} s, {skipped} were there", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
