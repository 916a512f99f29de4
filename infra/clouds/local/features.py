"""FeatureSet: rows of an .npz file in Redis, by id; loaded again when the file changed or Redis lost some."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import redis

from infra.clouds.local.kind import Checked, Fault, LocalError, UnreadyError, check_fields
from infra.clouds.local.root import Inputs, Root, sha256, write_json

BATCH = 500  # keys a round trip
MARKS = 1  # database of what was loaded, apart from the features, so that these can be counted


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
        try:
            with _client(inputs, MARKS) as marks, _client(inputs) as client:
                loaded = _loaded(marks, inputs)
                lost = len(_lost(client, inputs, loaded.ids))
        except redis.RedisError as e:
            return [f"Redis does not answer: {e}"]
        if loaded.sha256 != inputs["sha256"]:
            return ["the features in Redis are not these"]
        return [f"Redis lost {lost} of {len(loaded.ids)} features"] if lost else []

    def apply(self, root: Root, inputs: Inputs, olds: Inputs | None) -> Inputs:
        write_json(root.record("FeatureSet", str(inputs["name"])), inputs)
        try:
            with _client(inputs, MARKS) as marks, _client(inputs) as client:
                count = _load(client, marks, inputs)
        except redis.ConnectionError as e:
            raise LocalError(f"Redis on port {inputs['port']} does not answer: {e}") from e
        except redis.RedisError as e:
            raise UnreadyError(self.outputs(root, inputs), [f"not all features are loaded: {e}"]) from e
        return {**self.outputs(root, inputs), "count": count}

    def read(self, root: Root, name: str) -> tuple[Inputs, Inputs] | None:
        asked = root.records("FeatureSet").get(name)
        if asked is None:
            return None
        try:
            with _client(asked, MARKS) as marks:
                loaded = _loaded(marks, asked)
        except redis.RedisError:  # Redis is a resource of its own; what it holds cannot be said now
            return asked, self.outputs(root, asked)
        return {**asked, "sha256": loaded.sha256}, {**self.outputs(root, asked), "count": len(loaded.ids)}

    def delete(self, root: Root, name: str, inputs: Inputs) -> None:
        asked = root.records("FeatureSet").get(name) or inputs
        try:
            with _client(asked, MARKS) as marks, _client(asked) as client:
                _unlink(client, asked, _loaded(marks, asked).ids)
                marks.delete(*_mark_keys(asked))
        except redis.ConnectionError:
            pass  # Redis is gone, and its data with it
        root.record("FeatureSet", name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """What was loaded, from its mark: content and ids. Keys that others wrote under the prefix are theirs."""

    sha256: str
    ids: list[str]


def _client(inputs: Inputs, database: int = 0) -> redis.Redis:
    port = inputs["port"]
    assert isinstance(port, int)
    return redis.Redis(host="127.0.0.1", port=port, db=database, socket_timeout=10, socket_connect_timeout=2)


def _mark_keys(inputs: Inputs) -> tuple[str, str]:
    return f"slipway:sha256:{inputs['prefix']}", f"slipway:ids:{inputs['prefix']}"


def _loaded(marks: redis.Redis, inputs: Inputs) -> _Loaded:
    sha_key, ids_key = _mark_keys(inputs)
    sha, ids = marks.get(sha_key), marks.smembers(ids_key)
    assert isinstance(ids, set)
    return _Loaded(sha256=_text(sha) if isinstance(sha, bytes | str) else "", ids=sorted(_text(i) for i in ids))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _lost(client: redis.Redis, inputs: Inputs, ids: list[str]) -> set[str]:
    """Ids whose key is not there."""
    lost: set[str] = set()
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        with client.pipeline(transaction=False) as pipeline:
            for i in batch:
                pipeline.exists(f"{inputs['prefix']}{i}")
            lost |= {i for i, found in zip(batch, pipeline.execute(), strict=True) if not found}
    return lost


def _unlink(client: redis.Redis, inputs: Inputs, ids: list[str]) -> None:
    for start in range(0, len(ids), BATCH):
        client.unlink(*(f"{inputs['prefix']}{i}" for i in ids[start : start + BATCH]))


def _load(client: redis.Redis, marks: redis.Redis, inputs: Inputs) -> int:
    """Writes a new file's rows, or the lost ones of the same file: a value that somebody updated since is kept.

    Rows that the file no longer has go last; rows are readable throughout. The digest is marked last, so that a load
    that was cut off is none.
    """
    with np.load(str(inputs["source"]), allow_pickle=False) as file:
        rows = np.ascontiguousarray(file[str(inputs["array"])], dtype="<f4")
        ids = [str(x) for x in file[str(inputs["ids"])]] if inputs["ids"] else [str(i) for i in range(len(rows))]
    sha_key, ids_key = _mark_keys(inputs)
    before = _loaded(marks, inputs)
    wanted = _lost(client, inputs, ids) if before.sha256 == inputs["sha256"] else set(ids)
    marks.delete(sha_key)
    for start in range(0, len(ids), BATCH):
        batch = {i: row.tobytes() for i, row in zip(ids[start:][:BATCH], rows[start:], strict=False) if i in wanted}
        if batch:
            marks.sadd(ids_key, *batch)
            client.mset({f"{inputs['prefix']}{i}": value for i, value in batch.items()})
    gone = sorted(set(before.ids) - set(ids))
    if gone:
        _unlink(client, inputs, gone)
        marks.srem(ids_key, *gone)
    marks.set(sha_key, str(inputs["sha256"]))
    return len(set(ids))


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
