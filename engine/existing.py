"""Things that exist already: adopted (`import_`), read (`get`), and the stack's own past."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import values as v
from engine.answers import Found, ProviderError, Server
from engine.api import EngineError
from engine.goals import Goal
from engine.providers import BUILTIN
from engine.rows import STACK, Row, make_urn, package, urn_name
from engine.state import now
from engine.steps import Commit, Stopped
from engine.values import UNKNOWN, Props

if TYPE_CHECKING:
    from engine.register import Registry


def adopt(registry: Registry, goal: Goal, row: Row, old: Row | None, server: Server) -> Row:
    made: Row = {**row, "inputs": {}, "created": now(), "modified": now()}

    def work() -> Commit:
        found = server.read(row, goal.import_id, {}, {})
        if found is None:
            raise ProviderError(f"resource '{goal.import_id}' does not exist")
        if found.inputs is None:
            raise ProviderError(f"provider '{package(row['type'])}' does not support importing {row['type']}")
        made.update(
            {"id": found.id, "inputs": found.inputs, "outputs": found.outputs, "initErrors": list(found.reasons)}
        )
        mark = None if old is None else (old, {"delete": True})
        return Commit(add=made, mark=mark)

    registry.steps.perform("import" if old is None else "import-replacement", row, work)
    return registry.done(made)


def read(registry: Registry, row: Row, inputs: Props, version: str) -> Row:
    """`get`: a thing that others own, known in the state and never changed."""
    with registry.lock:
        if registry.steps.stopped.is_set():
            raise Stopped
        registry.claim(row.get("parent", ""), row["type"], urn_name(row["urn"]))
        old = registry.olds.get(row["urn"])
        if old is not None:
            registry.operated.add(id(old))
    if not row.get("provider"):
        row["provider"] = registry.default(package(row["type"]), version)
    id_ = row["id"]

    def work() -> Commit:
        found = _ask(registry, row, id_, inputs)
        if found is None:
            raise ProviderError(f"resource '{id_}' does not exist")
        row.update({"id": found.id, "outputs": found.outputs, "inputs": inputs})
        if old is not None and not old.get("external"):
            return Commit(add=row, mark=(old, {"delete": True}))
        return Commit(add=row, drop=old)

    registry.steps.perform("read", row, work)
    return registry.done(row)


def _ask(registry: Registry, row: Row, id_: str, inputs: Props) -> Found | None:
    if id_ == UNKNOWN:
        return Found(id=id_, inputs=inputs, outputs={})
    if package(row["type"]) == BUILTIN:
        return _own_outputs(registry, row, id_, inputs)
    return registry.providers.get(row["provider"]).read(row, id_, inputs, inputs)


def _own_outputs(registry: Registry, row: Row, id_: str, inputs: Props) -> Found:
    """A reference to this very stack gives what its last run put out; there are no other stacks here."""
    wanted = str(v.plain(inputs.get("name", id_)))
    if (
        row["type"] != "pulumi:pulumi:StackReference"
        or wanted.split("/")[-1] != registry.stack
        or wanted.split("/")[-2:-1] not in ([], [registry.project])
    ):
        raise EngineError(
            f"stack reference '{wanted}': the embedded engine knows only this stack "
            f"('{registry.project}/{registry.stack}'). To fix: use Pulumi for references to others"
        )
    top = registry.olds.get(
        make_urn(registry.stack, registry.project, None, STACK, f"{registry.project}-{registry.stack}")
    )
    outputs = dict(top.get("outputs", {})) if top is not None else {}
    secret_names: list[object] = [k for k, x in sorted(outputs.items()) if v.has_secret(x)]
    return Found(id=id_, inputs=inputs, outputs={"name": wanted, "outputs": outputs, "secretOutputNames": secret_names})
