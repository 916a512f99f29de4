"""Finds out what became of the operations that an interrupted run left open, and writes it into the deployment.

Works on a deployment of either engine, in plain text (`pulumi stack export --show-secrets`). A cut-off create is looked
up by an id that is composed from the resource's inputs (a row of IDS for each package or type), or by the plugin's own
function `<package>:index:locate`; what is found is imported, what is not there was never made. Types with neither
stay open and are reported. What was made and not waited for to its end is waited for again by the next update.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from engine.answers import Found, ProviderError
from engine.api import EngineError
from engine.client import Client
from engine.rows import Row, compact, is_provider, needs, package, split_ref, urn_name
from engine.secrets import opened, sealed
from engine.state import Op, State, now
from engine.values import Props, plain_props

IDS = {  # package or type -> the input that is its id
    "slipway": "name",
}
# Types whose provider waits for them when it makes them, and later only where a field changes: after a create that
# failed or was cut off the next update would take them as ready. With this value on record the field changes.
AWAITED: Mapping[str, tuple[str, int]] = {
    "aws:autoscaling/group:Group": ("minSize", 0),  # terraform-provider-aws, internal/service/autoscaling/group.go
}


class Asked(Protocol):
    """The two calls that settling needs of a provider."""

    def read(self, row: Row, id_: str, inputs: Props, state: Props) -> Found | None: ...
    def invoke(self, token: str, args: Props) -> tuple[Props | None, list[tuple[str, str]]]: ...


ClientFor = Callable[[str], Asked]


@dataclass(frozen=True, kw_only=True)
class Settled:
    """outcome: imported, never made, updated, gone, still there, dropped, not known; or not ready."""

    operation: str
    urn: str
    outcome: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.operation} {urn_name(self.urn)}: {self.outcome}" + (f" ({self.detail})" if self.detail else "")


class _NoCrypter:
    def decrypt(self, text: str) -> str:
        raise EngineError("settle: the deployment holds encrypted secrets. To fix: export it with --show-secrets")


def settle_deployment(
    deployment: Mapping[str, Any], client_for: ClientFor
) -> tuple[dict[str, Any], tuple[Settled, ...]]:
    """The deployment with every operation resolved that can be, and what was found for each."""
    body = cast(dict[str, Any], opened(deployment["deployment"], _NoCrypter()))
    rows: list[Row] = list(body.get("resources") or [])
    left: list[Op] = []
    report: list[Settled] = []
    for operation in body.get("pending_operations") or []:
        settled = _settle(operation, rows, client_for)
        report.append(settled)
        if settled.outcome == "not known":
            left.append(operation)
    imported = {s.urn for s in report if s.outcome == "imported"}
    report += [_wait_again(r) for r in _unfinished(rows, imported)]
    body["resources"] = [compact(r) for r in rows]
    body.pop("pending_operations", None)
    if left:
        body["pending_operations"] = left
    return {**deployment, "deployment": sealed(body, None)}, tuple(report)


def unready(resources: Sequence[Mapping[str, Any]]) -> bool:
    """Whether something was made that did not become ready and that the next update would not wait for."""
    return bool(list(_unfinished([cast(Row, r) for r in resources], ())))


def _unfinished(rows: Sequence[Row], imported: Collection[str]) -> Iterator[Row]:
    """What others were made after stood once: an autoscaler may have moved it since, and nobody waits for a number."""
    needed = {urn for row in rows for urn in needs(row)}
    for row in rows:
        field, value = AWAITED.get(row["type"], ("", 0))
        late = field and (row.get("initErrors") or row["urn"] in imported) and not row.get("delete")
        if late and row["urn"] not in needed and (row.get("inputs") or {}).get(field) != value:
            yield row


def _wait_again(row: Row) -> Settled:
    field, value = AWAITED[row["type"]]
    row["inputs"] = {**row.get("inputs", {}), field: value}
    row["outputs"] = {**row.get("outputs", {}), field: value}
    return Settled(operation="creating", urn=row["urn"], outcome="not ready", detail="the next update waits for it")


def _settle(operation: Op, rows: list[Row], client_for: ClientFor) -> Settled:
    kind, row = operation["type"], cast(Row, operation["resource"])
    try:
        if is_provider(row["type"]) or not row.get("custom") or kind in ("reading", "importing"):
            outcome, detail = "dropped", "a provider or a read changes nothing outside"
        elif kind == "creating":
            outcome, detail = _created(row, rows, client_for(row["provider"]))
        else:
            outcome, detail = _changed(kind, row, rows, client_for(row["provider"]))
    except ProviderError as e:
        outcome, detail = "not known", str(e)
    return Settled(operation=kind, urn=row["urn"], outcome=outcome, detail=detail)


def _created(row: Row, rows: list[Row], client: Asked) -> tuple[str, str]:
    id_, why = _id(row, client)
    if id_ is None:
        return "not known", why
    found = client.read(row, id_, {}, {}) if id_ else None
    if found is None:
        return "never made", ""
    made = cast(Row, {**row, "id": found.id, "outputs": found.outputs, "initErrors": list(found.reasons)})
    if found.inputs is not None:
        made["inputs"] = found.inputs
    made["created"] = made["modified"] = now()
    old = next((p for p, r in enumerate(rows) if r["urn"] == row["urn"] and not r.get("delete")), None)
    if old is None:
        rows.append(made)
    elif rows[old].get("pendingReplacement") or rows[old].get("id") == found.id:
        rows[old] = made
    else:
        rows[old : old + 1] = [made, cast(Row, {**rows[old], "delete": True})]
    return "imported", f"id {found.id}"


def _id(row: Row, client: Asked) -> tuple[str | None, str]:
    """An empty id: the provider looked and there is nothing."""
    inputs = plain_props(row.get("inputs", {}))
    key = IDS.get(row["type"]) or IDS.get(package(row["type"]))
    if key is not None:
        value = inputs.get(key)
        return (str(value), "") if value else (None, f"its input '{key}' is not known")
    token = f"{package(row['type'])}:index:locate"
    question: Props = {"type": row["type"], "name": urn_name(row["urn"]), "inputs": inputs}
    if isinstance(tags := inputs.get("tags") or inputs.get("labels"), dict):
        question["tags"] = tags
    try:
        answer, failures = client.invoke(token, question)
    except ProviderError as e:
        return None, f"no id can be composed for {row['type']}, and {token} says: {e}"
    if answer is None or failures or answer.get("unknown"):
        return None, f"{token} does not know {row['type']}"
    return str(answer.get("id") or ""), ""


def _changed(kind: str, row: Row, rows: list[Row], client: Asked) -> tuple[str, str]:
    place = next((p for p, r in enumerate(rows) if r["urn"] == row["urn"] and r.get("id") == row.get("id")), None)
    if place is None:
        return "dropped", "the state does not have it any more"
    known = rows[place]
    found = client.read(known, known["id"], known.get("inputs", {}), known.get("outputs", {}))
    if found is None:
        if any(known["urn"] in needs(r) for r in rows[place + 1 :]):
            known["pendingReplacement"] = True  # others still refer to it: the next run makes it anew
        else:
            del rows[place]
        return "gone", ""
    if kind == "deleting":
        return "still there", ""
    known["outputs"], known["modified"] = found.outputs, now()
    known["inputs"] = known.get("inputs", {}) if found.inputs is None else found.inputs
    return "updated", "inputs and outputs are as read"


def settle_state(state: State, client_for: ClientFor) -> tuple[str, ...]:
    """The same for a stack of the embedded engine, written down at once."""
    if not state.operations() and not unready(state.rows()):
        return ()
    settled, report = settle_deployment(state.deployment(show_secrets=True), client_for)
    state.replace(settled["deployment"])
    return tuple(str(s) for s in report)


@contextmanager
def clients(
    project: Path, stack: str, deployment: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> Iterator[ClientFor]:
    """For a deployment from anywhere: the project's plugins, configured as the deployment's provider rows say."""
    import os

    from engine.plugins import Plugins
    from engine.program import environment
    from engine.project import load

    loaded = load(project)
    rows = {
        f"{r['urn']}::{r['id']}": cast(Row, opened(r, _NoCrypter()))
        for r in deployment["deployment"]["resources"]
        if is_provider(r["type"])
    }
    plugins = Plugins(
        loaded, given or {}, "127.0.0.1:0", environment(os.environ, loaded, stack, {}, ()), lambda name, line: None
    )
    started: dict[str, Client] = {}

    def client_for(ref: str) -> Asked:
        if ref not in started:
            if ref not in rows:
                raise EngineError(f"settle: the deployment has no provider {ref}")
            urn, id_ = split_ref(ref)
            client = Client(plugins.start(package(rows[ref]["type"])), preview=False)
            client.configure(urn, id_, rows[ref].get("inputs", {}))
            started[ref] = client
        return started[ref]

    try:
        yield client_for
    finally:
        plugins.close()
