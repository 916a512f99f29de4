"""After the program: deletes in reverse order of dependencies; and refresh, which asks what is really there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.answers import ProviderError
from engine.register import Registry
from engine.rows import Row, is_provider, layers, needs
from engine.steps import Commit, StepFailed, Steps, Stopped


def delete_unseen(registry: Registry) -> None:
    """Every old row that the program did not ask for again, and those that a replacement left behind."""
    base, steps = registry.state.base, registry.steps
    condemned = {
        p
        for p, r in enumerate(base)
        if not registry.state.is_gone(r) and (r.get("delete") or id(r) not in registry.operated)
    }
    together = {base[p]["urn"] for p in condemned}
    spared: set[int] = set()
    for layer in layers(base, condemned):
        rows = [base[p] for p in layer if id(base[p]) not in spared]
        failed = _parallel(steps, rows, lambda row: _delete(registry, row, together))
        for row in failed:
            spared |= _below(base, row)


def _delete(registry: Registry, row: Row, together: set[str]) -> None:
    if row.get("protect") and not row.get("delete"):
        message = (
            f'resource "{row["urn"]}" cannot be deleted\nbecause it is protected. '
            "To fix: remove the `protect` flag in the program and run `up`"
        )
        registry.steps.fail("delete", row, message, go_on=True)
        raise StepFailed(message)
    if row.get("pendingReplacement"):
        registry.steps.perform("remove-pending-replace", row, lambda: Commit(drop=row))
    else:
        op = "delete-replaced" if row.get("delete") else "discard" if row.get("external") else "delete"
        registry.delete(row, op, together)


def _below(base: Sequence[Row], row: Row) -> set[int]:
    """What a row that could not be deleted still needs, directly or not."""
    wanted, found = set(needs(row)), set()
    place = next(p for p, r in enumerate(base) if r is row)
    for other in reversed(base[:place]):
        if other["urn"] in wanted:
            found.add(id(other))
            wanted |= set(needs(other))
    return found


def _parallel(steps: Steps, rows: Sequence[Row], work: Callable[[Row], None]) -> list[Row]:
    """The rows for which it failed."""

    def one(row: Row) -> bool:
        try:
            work(row)
        except (StepFailed, Stopped):
            return False
        return True

    if len(rows) == 1:
        return [] if one(rows[0]) else list(rows)
    with ThreadPoolExecutor(max(steps.request.parallel, 1)) as pool:
        return [row for row, ok in zip(rows, pool.map(one, rows), strict=True) if not ok]


def refresh(registry: Registry) -> None:
    base, steps = registry.state.base, registry.steps
    for layer in reversed(layers(base, set(range(len(base))))):
        _parallel(steps, [base[p] for p in layer], lambda row: _refresh(registry, row))
    if not steps.stopped.is_set():
        _mend(registry)


def _refresh(registry: Registry, row: Row) -> None:
    steps = registry.steps
    if (
        not row["custom"]
        or is_provider(row["type"])
        or row.get("pendingReplacement")
        or row["type"].startswith("pulumi:pulumi:")
    ):
        steps.succeed("same", row)
        return
    ops: list[str] = []

    def work() -> Commit:
        client = registry.providers.get(row["provider"])
        found = client.read(row, row["id"], row.get("inputs", {}), row.get("outputs", {}))
        if found is None:
            ops.append("delete")
            return Commit(drop=row)
        inputs = row.get("inputs", {}) if found.inputs is None else found.inputs
        patch: Row = {"id": found.id, "inputs": inputs, "outputs": found.outputs, "initErrors": list(found.reasons)}
        if found.reasons:
            steps.say("warning", "the resource is in an unhealthy state: " + "; ".join(found.reasons), row["urn"])
        changed = found.outputs != row.get("outputs", {}) or inputs != row.get("inputs", {})
        if not row.get("external"):
            there: Row = {**row, **patch}
            changed = client.diff(there, row.get("inputs", {}), row.get("ignoreChanges", [])).changes or changed
        ops.append("update" if changed else "same")
        return Commit(mark=(row, dict(patch)))

    if steps.stopped.is_set():
        raise Stopped
    steps.emit("start", "refresh", row)
    try:
        commit = work()
    except ProviderError as e:
        steps.fail("refresh", row, str(e))
        raise StepFailed(str(e)) from e
    registry.state.end(None, drop=commit.drop, mark=commit.mark)
    steps.succeed(ops[0], row)
    steps.emit("done", "refresh", row, ops[0])


def _mend(registry: Registry) -> None:
    """Nothing may refer to what is gone; a property without dependencies is not listed."""
    state = registry.state
    left = [r for r in state.base if not state.is_gone(r)]
    there = {r["urn"] for r in left}
    for row in left:
        patch: dict[str, object] = {}
        if row.get("dependencies"):
            patch["dependencies"] = [u for u in row["dependencies"] if u in there]
        if row.get("propertyDependencies"):
            kept = {k: [u for u in urns if u in there] for k, urns in row["propertyDependencies"].items()}
            patch["propertyDependencies"] = {k: urns for k, urns in kept.items() if urns}
        if row.get("deletedWith") and row["deletedWith"] not in there:
            patch["deletedWith"] = ""
        if any(row.get(k) != x for k, x in patch.items()):
            state.end(None, mark=(row, patch), sync=False)
