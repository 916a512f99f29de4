"""One resource of the program against its old state: which steps it needs, in Pulumi's order of questions."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import cast

from engine import existing, replacing
from engine import values as v
from engine.answers import Diff, ProviderError, Server
from engine.api import EngineError
from engine.goals import Goal, Names
from engine.providers import Lifecycle, Providers
from engine.rows import Row, is_provider, make_urn, package, split_ref, urn_name
from engine.state import State, now
from engine.steps import Commit, Steps, Stopped


class Registry:
    """All of a run's registrations; `seen` are the rows as they now are, `olds` as they were."""

    def __init__(self, steps: Steps, state: State, providers: Providers, *, stack: str, project: str) -> None:
        self.steps, self.state, self.providers, self.stack, self.project = steps, state, providers, stack, project
        self.seen: dict[str, Row] = {}
        self.exported: tuple[str, dict[str, object]] | None = None  # the stack, and what its program exported
        self.olds: dict[str, Row] = {}
        self.names = Names(stack, project)
        self.replaced: set[str] = set()
        self.condemned: set[str] = set()  # deleted before a replacement; registered again, or gone
        self.operated: set[int] = set()  # the old rows that were looked at, by identity
        self.lock = threading.RLock()
        self._turns = threading.Semaphore(max(steps.request.parallel, 1))
        self._defaults: dict[str, str] = {}

    def start(self) -> None:
        """Once the state is what this run begins with."""
        self.olds = {r["urn"]: r for r in self.state.base if not r.get("delete")}

    def register(self, goal: Goal) -> Row:
        """In turns, so that with one step at a time resources are handled in the order in which they came."""
        with self.lock:
            self.names.asked[make_urn(self.stack, self.project, goal.parent, goal.type, goal.name)] += 1
        if goal.custom and not is_provider(goal.type) and not goal.provider:
            goal = replace(goal, provider=self.default(package(goal.type), goal.version))
        row, old = self._claim(goal)
        with self._turns:
            return self._answer(goal, row, old)

    def _answer(self, goal: Goal, row: Row, old: Row | None) -> Row:
        try:
            return self._resolve(goal, row, old)
        except (ProviderError, EngineError) as e:
            self.steps.bail(row["urn"], str(e))

    def default(self, name: str, version: str) -> str:
        """Reference to a package's default provider, which is registered when it is first needed."""
        with self.lock:
            urn, label, inputs = self.providers.default_goal(self.stack, self.project, name, version)
            if urn not in self._defaults:
                goal = Goal(type=f"pulumi:providers:{name}", name=label, custom=True, inputs=inputs)
                made = self._answer(goal, *self._claim(goal))
                self._defaults[urn] = f"{urn}::{made['id']}"
            return self._defaults[urn]

    # Names.

    def _claim(self, goal: Goal) -> tuple[Row, Row | None]:
        with self.lock:
            if self.steps.stopped.is_set():
                raise Stopped
            if goal.parent and goal.parent not in self.seen:
                self.steps.bail(goal.parent, f"the parent {goal.parent} of {goal.name} was not registered")
            urn = self.claim(goal.parent, goal.type, goal.name)
            row: Row = {
                "urn": urn,
                "custom": goal.custom,
                "type": goal.type,
                "inputs": goal.inputs,
                "parent": goal.parent,
            }
            row.update(goal.options)
            if goal.provider:
                row["provider"] = goal.provider
            if goal.import_id:
                row["importID"] = goal.import_id
            old = self._old(urn, goal)
            if old is not None:
                self.operated.add(id(old))
                row["created"], row["modified"] = old.get("created", ""), old.get("modified", "")
            return row, old

    def claim(self, parent: str, type_: str, name: str) -> str:
        urn = make_urn(self.stack, self.project, parent, type_, name)
        if urn in self.names.claimed or self.names.asked[urn] > 1:
            self.steps.bail(urn, f"Duplicate resource URN '{urn}'; try giving it a unique name")
        self.names.claimed.add(urn)
        return urn

    def _old(self, urn: str, goal: Goal) -> Row | None:
        """By name first, then by the names that it says it had, then by those that its parent had."""
        if urn in self.olds:
            return self.olds[urn]
        alias = next((a for a in self.names.aliases(goal) if a in self.olds), None)
        if alias is None:
            return None
        if not self.names.rename(alias, urn):
            self.steps.bail(urn, f"Duplicate resource alias '{alias}': another resource is or was that already")
        return self.olds[alias]

    # Questions.

    def server(self, row: Row) -> Server | None:
        if not row["custom"]:
            return None
        if is_provider(row["type"]):
            return Lifecycle(self.providers, row)
        return self.providers.get(row["provider"])

    def _resolve(self, goal: Goal, row: Row, old: Row | None) -> Row:
        server = self.server(row)
        recreating = row["urn"] in self.condemned or (old is not None and old["urn"] in self.condemned)
        adopted = False
        if (
            server is not None
            and goal.import_id
            and (old is None or old.get("external") or (old.get("importID") or old.get("id")) != goal.import_id)
        ):
            old, adopted = existing.adopt(self, goal, row, old if not recreating else None, server), True
            row = {**row, "created": old["created"], "modified": old["modified"]}
        external = old is not None and bool(old.get("external"))
        fresh = old is None or recreating or external
        if server is not None:
            self.check(goal, row, None if fresh else old, server)
        if old is None:
            return self._create(row, server)
        if recreating:
            return self.create_replacement(row, old, server, ())
        if external:
            return self.create_replacement(row, old, server, (), keep=True)
        return self._compare(goal, row, old, server, adopted=adopted)

    def check(self, goal: Goal, row: Row, old: Row | None, server: Server) -> None:
        news, olds = goal.inputs, None
        if old is not None:
            olds = old.get("inputs", {})
            news = v.ignore_changes(news, olds, row.get("ignoreChanges", ()))
        checked, failures = server.check(row["urn"], olds, news)
        if failures:
            self.steps.bail(
                row["urn"], "\n".join(f"{row['type']} resource '{urn_name(row['urn'])}': {f}" for f in failures)
            )
        row["inputs"] = checked

    def _compare(self, goal: Goal, row: Row, old: Row, server: Server | None, *, adopted: bool) -> Row:
        diff = self._diff(row, old, server)
        init_errors = bool(old.get("initErrors"))
        patterns = row.get("replaceOnChanges", [])
        touched = (*diff.keys, *diff.detailed) if diff.changes else ()
        forced = tuple(k for k in touched if any(v.covers(p, k) for p in patterns))
        if init_errors and "*" in patterns:
            forced = (*forced, "#initerror")
        replaces = tuple(dict.fromkeys((*diff.replaces, *forced))) if diff.changes or forced else ()
        if replaces or old.get("pendingReplacement"):
            return replacing.replace(self, goal, row, old, server, diff.delete_first, replaces)
        if diff.changes or init_errors:
            return self._update(row, old, server, diff.keys)
        if adopted:
            return old
        return self._same(row, old, server)

    def _diff(self, row: Row, old: Row, server: Server | None) -> Diff:
        if row.get("deletedWith") in self.replaced:
            return Diff(changes=True, replaces=("deletedWith",))
        if server is None or not old["custom"]:
            if row["custom"] != old["custom"]:
                return Diff(changes=True, replaces=("provider",))
            return Diff(changes=v.plain(old.get("inputs", {})) != v.plain(row.get("inputs", {})))
        if self._provider_changed(row, old):
            return Diff(changes=True, replaces=("provider",))
        renamed = cast(Row, {**old, "urn": row["urn"]})
        return server.diff(renamed, row.get("inputs", {}), row.get("ignoreChanges", []))

    def _provider_changed(self, row: Row, old: Row) -> bool:
        """Another provider may serve the old thing as well: its DiffConfig says so."""
        now_, was = row.get("provider", ""), old.get("provider", "")
        if now_ == was or not now_ or not was:
            return False
        (new_urn, _), (old_urn, _) = split_ref(now_), split_ref(was)
        if self.names.now.get(old_urn) == new_urn:
            return False
        before, after = self.olds.get(old_urn), self.seen.get(new_urn)
        if before is None or after is None:
            raise EngineError(f"provider {was}: the state does not have it")
        client = self.providers.get(now_)
        return bool(
            client.diff_config(
                new_urn, before.get("inputs", {}), before.get("outputs", {}), after.get("inputs", {})
            ).replaces
        )

    def delete(self, row: Row, op: str, together: set[str], *, keep: bool = False) -> None:
        """What is deleted with one of `together` goes without a call. `keep`: the row waits for its replacement."""

        def work() -> Commit:
            skip = (
                self.steps.preview
                or row.get("external")
                or row.get("retainOnDelete")
                or row.get("deletedWith") in together
            )
            if row["custom"] and not skip and (server := self.server(row)) is not None:
                server.delete(row)
            return Commit(mark=(row, {"pendingReplacement": True})) if keep else Commit(drop=row)

        self.steps.perform(op, row, work)

    # Steps.

    def done(self, row: Row) -> Row:
        with self.lock:
            self.seen[row["urn"]] = row
        return row

    def _alias(self, row: Row, old: Row) -> tuple[str, str] | None:
        return (old["urn"], row["urn"]) if old["urn"] != row["urn"] else None

    def _create(self, row: Row, server: Server | None) -> Row:
        self.steps.perform("create", row, lambda: Commit(add=row, error=self._make(row, server)))
        return self.done(row)

    def _make(self, row: Row, server: Server | None) -> ProviderError | None:
        """Calls Create; a thing that was made but is not ready is kept, with what is wrong."""
        row["created"] = row["modified"] = now()
        row["outputs"] = {}
        if server is None:
            return None
        try:
            row["id"], row["outputs"] = server.create(row)
        except ProviderError as e:
            if e.partial is None:
                raise
            row["id"], row["outputs"], row["initErrors"] = e.partial.id, e.partial.outputs, e.partial.reasons
            if e.partial.inputs is not None:
                row["inputs"] = e.partial.inputs
            return e
        return None

    def create_replacement(
        self, row: Row, old: Row, server: Server | None, keys: tuple[str, ...], *, keep: bool = False
    ) -> Row:
        """`keep`: the old one stays until the deletes at the end."""

        def work() -> Commit:
            error = self._make(row, server)
            if keep:
                return Commit(add=row, mark=(old, {"delete": True}), alias=self._alias(row, old), error=error)
            return Commit(add=row, drop=old, alias=self._alias(row, old), error=error)

        self.replaced.add(row["urn"])
        self.steps.perform("replace", row, work, keys=keys)
        return self.done(row)

    def _update(self, row: Row, old: Row, server: Server | None, keys: tuple[str, ...]) -> Row:
        def work() -> Commit:
            error = None
            row["id"], row["modified"] = old.get("id", ""), now()
            row["outputs"] = old.get("outputs", {})
            if server is not None:
                try:
                    row["outputs"] = server.update(row, old, row.get("ignoreChanges", []))
                except ProviderError as e:
                    if e.partial is None:
                        raise
                    error = e
                    row["outputs"], row["initErrors"] = e.partial.outputs, e.partial.reasons
                    row["inputs"] = old.get("inputs", {})  # so that the next run updates again
            drop = old if self.state.knows(old) else None  # what was imported a moment ago is none of the old rows
            return Commit(add=row, drop=drop, alias=self._alias(row, old), error=error)

        self.steps.perform("update", row, work, keys=keys)
        return self.done(row)

    def _same(self, row: Row, old: Row, server: Server | None) -> Row:
        def work() -> Commit:
            row["id"], row["outputs"] = old.get("id", ""), old.get("outputs", {})
            if isinstance(server, Lifecycle):
                server.same(row)
            return Commit(add=row, drop=old, alias=self._alias(row, old))

        self.steps.perform("same", row, work)
        return self.done(row)
