"""The committed documents are what the keys and rules say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.spec import document

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "text"), [("configuration.md", document.markdown), ("configuration.schema.json", document.schema)]
)
def test_committed_document_is_current(name: str, text) -> None:
    """A key is written once: the document of it is generated, and never edited by hand."""
    kind = "markdown" if name.endswith(".md") else "schema"
    assert (DOCS / name).read_text() == text(), f"run: python -m infra.spec.document {kind} > docs/{name}"


def test_schema_names_every_key_with_its_meaning() -> None:
    schema = json.loads(document.schema())
    assert schema["additionalProperties"] is False
    assert all(p["description"] for p in schema["properties"].values())
    assert set(schema["required"]) == {"cloud", "models", "load", "slo"}
