"""FeatureSet: rows of an .npz file in Redis, by id; loaded again when the file changed or Redis lost some."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import redis

from infra.clouds.local.kind import Checked, Fault, LocalError, UnreadyError, check_fields
from infra.clouds.local.root import Inputs, Root, sha256, write_json

BATCH = 500  # keys a round trip
SCAN = 1000


class FeatureSet:
    """slipway:local:FeatureSet. Key <prefix><id>, value the row as little-endian float32."""

    token = "slipway:local:FeatureSet"
    required: Mapping[str, type] = {"name": str, "port": int, "prefix": str, "source": str}
    optional: Mapping[str, object] = {"array": "features", "ids": "ids", "sha256": ""}
    replaces = frozenset({"name", "prefix"})

    def check(self, root: Root, inputs: Inputs, olds: Inputs) -> Checked:
        checked = check_fields(self, inputs)
        faults = list(checked.faults)
        if not faults:
            source = Path(str(checked.inputs["source"]))
            problem = _source_problem(source, checked.inputs)
            if problem:
                fix = "point features.source to a .npz file that has it."
                faults.append(Fault(path="source", reason=problem, fix=fix))
            else:
                checked.inputs["sha256"] = sha256(source)
        return Checked(inputs=checked.inputs, faults=faults)

    def outputs(self, root: Root, inputs: Inputs) -> Inputs:
        return dict(inputs)

    def drift(self, root: Root, inputs: Inputs) -> list[str]:
        with _client(inputs) as client:
            try:
                mark = _mark(client, inputs)
                count = sum(1 for _ in _keys(client, inputs))
            except redis.RedisError as e:
                return [f"Redis does not answer: {e}"]
        if mark.get("sha256") != inputs["sha256"]:
            return ["the features in Redis are not these"]
        if mark.get("count") != str(count):
            return [f"Redis holds {count} of {mark.get('count')} features"]
        return []

    def apply(self, root: Root, inputs: Inputs, olds: Inputs | None) -> Inputs:
        write_json(root.record("FeatureSet", str(inputs["name"])), inputs)
        with _client(inputs) as client:
            try:
                count = _load(client, inputs)
            except redis.ConnectionError as e:
                raise LocalError(f"Redis on port {inputs['port']} does not answer: {e}") from e
            except redis.RedisError as e:
                raise UnreadyError(self.outputs(root, inputs), [f"not all features are loaded: {e}"]) from e
        return {**self.outputs(root, inputs), "count": count}

    def read(self, root: Root, name: str) -> tuple[Inputs, Inputs] | None:
        asked = root.records("FeatureSet").get(name)
        if asked is None:
            return None
        with _client(asked) as client:
            try:
                mark = _mark(client, asked)
            except redis.RedisError:
                mark = {}
        if not mark:
            return None
        inputs = {**asked, "sha256": mark["sha256"]}
        return inputs, {**self.outputs(root, inputs), "count": int(mark["count"])}

    def delete(self, root: Root, name: str, inputs: Inputs) -> None:
        asked = root.records("FeatureSet").get(name) or inputs
        with _client(asked) as client:
            try:
                keys = [*_keys(client, asked), _mark_key(asked)]
                for start in range(0, len(keys), SCAN):
                    client.unlink(*keys[start : start + SCAN])
            except redis.ConnectionError:
                keys = []  # Redis is gone, and its data with it
        root.record("FeatureSet", name).unlink(missing_ok=True)


def _client(inputs: Inputs) -> redis.Redis:
    port = inputs["port"]
    assert isinstance(port, int)
    return redis.Redis(host="127.0.0.1", port=port, socket_timeout=10, socket_connect_timeout=2)


def _mark_key(inputs: Inputs) -> str:
    return f"slipway:loaded:{inputs['prefix']}"


def _mark(client: redis.Redis, inputs: Inputs) -> dict[str, str]:
    """What was loaded: written last, so that a load that was cut off has none."""
    found = client.hgetall(_mark_key(inputs))
    assert isinstance(found, dict)
    return {_text(key): _text(value) for key, value in found.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _keys(client: redis.Redis, inputs: Inputs) -> Iterator[bytes]:
    escaped = "".join(f"\\{c}" if c in "*?[]\\" else c for c in str(inputs["prefix"]))
    yield from client.scan_iter(match=f"{escaped}*", count=SCAN)


def _load(client: redis.Redis, inputs: Inputs) -> int:
    """Writes every row, then removes keys of rows that are no more; old rows are readable throughout."""
    prefix = str(inputs["prefix"])
    with np.load(str(inputs["source"]), allow_pickle=False) as file:
        rows = np.ascontiguousarray(file[str(inputs["array"])], dtype="<f4")
        ids = [str(x) for x in file[str(inputs["ids"])]] if inputs["ids"] else [str(i) for i in range(len(rows))]
    client.delete(_mark_key(inputs))
    for start in range(0, len(ids), BATCH):
        batch = {f"{prefix}{i}": row.tobytes() for i, row in zip(ids[start:][:BATCH], rows[start:], strict=False)}
        client.mset(batch)
    wanted = {f"{prefix}{i}".encode() for i in ids}
    gone = [key for key in _keys(client, inputs) if key not in wanted]
    if gone:
        client.unlink(*gone)
    client.hset(_mark_key(inputs), mapping={"sha256": str(inputs["sha256"]), "count": str(len(wanted))})
    return len(wanted)


def _source_problem(source: Path, inputs: Inputs) -> str:
    if not source.is_file():
        return f"the file {source} is missing."
    if not zipfile.is_zipfile(source):
        return f"{source} is not an .npz file."
    with np.load(source, allow_pickle=False) as file:
        missing = [a for a in (str(inputs["array"]), str(inputs["ids"])) if a and a not in file]
        if missing:
            return f"{source} has no array {missing[0]!r}; it has {', '.join(sorted(file.files))}."
    return ""
