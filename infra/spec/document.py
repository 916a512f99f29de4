"""docs/configuration.md and its JSON schema, written from the keys and the rules."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping

from infra.spec.accelerator import Accelerator
from infra.spec.containers import ListOf, MapOf
from infra.spec.model import Spec
from infra.spec.plain import plain
from infra.spec.rules import RULES
from infra.spec.structure import ByCloud, Key, Required, Structure, keys

HEAD = """# Configuration

Written by `python -m infra.spec.document markdown > docs/configuration.md` from `infra/spec`; a test keeps it so.

A stack is one file, `stacks/config/Pulumi.<stack>.yaml`, with keys under `slipway:`. `pulumi config set` of a flat key
changes one; a structured value may be JSON text too. Unknown keys are refused with the nearest name, and all
problems are reported together. `docs/configuration.schema.json` is the same as a JSON schema, for editors.
"""


def markdown() -> str:
    sections = [HEAD, *(_section(title, cls) for title, cls in _structures()), _rules()]
    return "\n".join(sections)


def schema() -> str:
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Slipway configuration (keys without their slipway:)",
        **Structure(Spec).schema(),
    }
    return json.dumps(whole, indent=2, sort_keys=True) + "\n"


def _structures() -> Iterator[tuple[str, type]]:
    """The specification, then each structure in it, once, in the order in which they appear."""
    todo: list[tuple[str, type]] = [("Keys", Spec)]
    seen: set[type] = set()
    while todo:
        title, cls = todo.pop(0)
        if cls in seen:
            continue
        seen.add(cls)
        yield title, cls
        for k in keys(cls):
            path = k.name if cls is Spec else f"{title}.{k.name}"
            kind = k.kind
            while isinstance(kind, ListOf | MapOf):
                path += "[]" if isinstance(kind, ListOf) else ".*"
                kind = kind.item
            if isinstance(kind, Structure):
                todo.append((path, kind.cls))


def _section(title: str, cls: type) -> str:
    heading = "## Keys" if cls is Spec else f"### `{title}`"
    lines = [heading, "", "| key | values | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{k.name}` | {_cell(k.kind.describe())} | {_cell(_default(k))} | {_cell(k.doc)} |" for k in keys(cls)]
    return "\n".join(lines) + "\n"


def _default(k: Key) -> str:
    if isinstance(k.default, ByCloud):
        otherwise = "required" if isinstance(k.default.otherwise, Required) else f"`{k.default.otherwise}`"
        return f"`{k.default.value}` where cloud is {k.default.cloud}, else {otherwise}"
    return "required" if isinstance(k.default, Required) else _value(k.default)


def _value(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, str | Accelerator):
        return f"`{value}`"
    if isinstance(value, bool | int | float):
        return f"`{json.dumps(value)}`"
    return "empty" if not value or isinstance(value, Mapping) else f"`{plain(value) or 'none'}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _rules() -> str:
    lines = ["## Rules between keys", "", "| rule | why | source |", "|---|---|---|"]
    lines += [f"| {r.name.replace('_', ' ')} | {_cell(r.reason)} | {_cell(r.source)} |" for r in RULES]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write({"markdown": markdown, "schema": schema}[sys.argv[1]]())
