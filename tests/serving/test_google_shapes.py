"""Google's storage interface as its discovery document has it: what our clients ask, and what their tests answer."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

googleapiclient = pytest.importorskip("googleapiclient", reason="google-api-python-client (extra `simulators`)")

from cli.models import gs  # noqa: E402
from serving.scripts import objects  # noqa: E402
from tests.serving.buckets import TOKEN, Storage, storage  # noqa: E402

Asked = tuple[str, str, dict[str, str], object]


def document() -> dict[str, Any]:
    folder = Path(googleapiclient.__file__).parent / "discovery_cache/documents"
    found: dict[str, Any] = json.loads((folder / "storage.v1.json").read_text())
    return found


def methods(found: dict[str, Any]) -> list[tuple[str, re.Pattern[str], set[str], str]]:
    """HTTP method, path, parameters of the query, and the schema of the answer, uploads included."""
    every = set(found["parameters"])
    rows = []
    for name, method in found["resources"]["objects"]["methods"].items():
        paths = ["/" + found["servicePath"] + method["path"]]
        paths += [p["path"] for p in method.get("mediaUpload", {}).get("protocols", {}).values()]
        known = {k for k, v in method["parameters"].items() if v["location"] == "query"} | every
        for path in paths:
            form = re.compile(re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(path)))
            rows.append((method["httpMethod"], form, known, method.get("response", {}).get("$ref", name)))
    return rows


def wrong(asked: list[Asked]) -> list[str]:
    """What the document does not have."""
    found, faults = document(), []
    for method, path, query, answer in asked:
        if path.startswith(("/computeMetadata/", "/session/")):
            continue
        fitting = [row for row in methods(found) if row[0] == method and row[1].fullmatch(path)]
        if not fitting:
            faults.append(f"{method} {path}: no such method")
            continue
        _, _, known, schema = fitting[0]
        faults += [f"{method} {path}: no parameter {name}" for name in query if name not in known]
        faults += mistyped(found["schemas"], schema, answer)
    return faults


def mistyped(schemas: dict[str, Any], name: str, value: object) -> list[str]:
    """Fields that a schema does not have, or has as another type of JSON."""
    faults: list[str] = []
    kinds: dict[str, type] = {"string": str, "object": dict, "array": list, "integer": int, "boolean": bool}
    for key, item in value.items() if isinstance(value, dict) else ():
        field = schemas[name]["properties"].get(key)
        if field is None or not isinstance(item, kinds[field.get("type", "object")]):
            faults.append(f"{name}.{key}: {item!r}")
        elif field.get("type") == "array":
            faults += [f for each in item for f in mistyped(schemas, field["items"]["$ref"], each)]
    return faults


def test_our_clients_ask_what_the_interface_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pods' script and the command: list, read, write, resumable upload; each answer of the test server as well."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    (tmp_path / "file").write_bytes(b"x" * 1000)
    with storage() as server:
        monkeypatch.setenv("SLIPWAY_GS_URL", server.url)
        monkeypatch.setenv("SLIPWAY_METADATA_URL", server.url)
        script = objects.bucket("gs://models/a")
        for number in range(5):
            script.put(f"a/{number}", b"content")
        assert len(list(script.list("a/"))) == 5
        script.read("a/1", io.BytesIO())
        command = gs.Gs("models", tmp_path / "uploads.json", session, server.url)
        command.upload("m/1/model.onnx", tmp_path / "file", "digest", lambda _: None)
        assert command.digest("m/1/model.onnx") == "digest"
        assert command.list("m/")[0].size == 1000
        asked = list(server.asked)
    assert {m for m, *_ in asked} >= {"GET", "POST"}
    assert wrong(asked) == []


def test_a_wrong_word_is_found() -> None:
    made: list[Asked] = [
        ("GET", "/storage/v1/b/x/o", {"prefixes": "a"}, {"items": [{"name": "a", "size": 3, "colour": "red"}]}),
        ("GET", "/storage/v2/b/x/o", {}, {}),
    ]
    found = " ".join(wrong(made))
    for word in ("no parameter prefixes", "Object.size", "Object.colour", "no such method"):
        assert word in found


def test_a_list_comes_in_pages() -> None:
    """Else the test of the pages would prove nothing."""
    server: Storage
    with storage() as server:
        for number in range(7):
            server.put("b", str(number), b"")
        session = requests.Session()
        answer = session.get(f"{server.url}/storage/v1/b/b/o", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5)
        assert "nextPageToken" in answer.json()
        session.close()
