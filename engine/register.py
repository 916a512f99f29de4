"""One resource of the program against its old state: which steps it needs, in Pulumi's order of questions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from engine import values as v
from engine.api import EngineError
from engine.client import Diff, Found, ProviderError
from engine.providers import BUILTIN, Lifecycle, Providers
from engine.rows import STACK, Row, dependants, is_provider, make_urn, package, split_ref, urn_name, urn_type
from engine.state import State, now
from engine.steps import Commit, Steps, Stopped
from engine.values import UNKNOWN, Props


class Server(Protocol):
    """What answers for a resource: a plugin, or the engine itself for provider resources."""

    def check(self, urn: str, olds: Props | None, news: Props) -> tuple[Props, list[str]]: ...
    def diff(self, row: Row, news: Props, ignored: list[str]) -> Diff: ...
    def create(self, row: Row) -> tuple[str, Props]: ...
    def update(self, row: Row, old: Row, ignored: list[str]) -> Props: ...
    def delete(self, row: Row) -> None: ...
    def read(self, row: Row, id_: str, inputs: Props, state: Props) -> Found | None: ...


@dataclass(frozen=True, kw_only=True)
class Alias:
    urn: str = ""
    name: str = ""
    type: str = ""
    parent: str = ""
    no_parent: bool = False
    project: str = ""
    stack: str = ""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the program asks for."""

    type: str
    name: str
    custom: bool
    inputs: Props
    parent: str = ""
    provider: str = ""
    version: str = ""
    import_id: str = ""
    delete_before_replace: bool | None = None
    aliases: Sequence[Alias] = ()
    options: Row = field(default_factory=Row)  # the fields that go into the state as they are


class Registry:
    """All of a run's registrations; `seen` are the rows as they now are, `olds` as they were."""

    def __init__(self, steps: Steps, state: State, providers: Providers, *, stack: str, project: str) -> None:
        self.steps, self.state, self.providers, self.stack, self.project = steps, state, providers, stack, project
        self.seen: dict[str, Row] = {}
        self.claimed: set[str] = set()
        self.olds: dict[str, Row] = {}
        self.aliased: dict[str, str] = {}  # old name -> new name
        self.replaced: set[str] = set()
        self.condemned: set[str] = set()  # deleted before a replacement; registered again, or gone
        self.operated: set[int] = set()  # the old rows that were looked at, by identity
        self.lock = threading.RLock()
        self._defaults: dict[str, str] = {}

    def start(self) -> None:
        """Once the state is what this run begins with."""
        self.olds = {r["urn"]: r for r in self.state.base if not r.get("delete")}

    def register(self, goal: Goal) -> Row:
        with self.lock:
            if self.steps.stopped.is_set():
                raise Stopped
            row, old = self._claim(goal)
        try:
            if goal.custom and not is_provider(goal.type) and not goal.provider:
                row["provider"] = self.default(package(goal.type), goal.version)
            return self._resolve(goal, row, old)
        except ProviderError as e:
            self.steps.bail(row["urn"], str(e))
        except EngineError as e:
            self.steps.bail(row["urn"], str(e))

    def default(self, name: str, version: str) -> str:
        """Reference to a package's default provider, which is registered when it is first needed."""
        with self.lock:
            urn, label, inputs = self.providers.default_goal(self.stack, self.project, name, version)
            if urn not in self._defaults:
                made = self.register(Goal(type=f"pulumi:providers:{name}", name=label, custom=True, inputs=inputs))
                self._defaults[urn] = f"{urn}::{made['id']}"
            return self._defaults[urn]

    # Names.

    def _claim(self, goal: Goal) -> tuple[Row, Row | None]:
        if goal.parent and goal.parent not in self.seen:
            self.steps.bail(goal.parent, f"the parent {goal.parent} of {goal.name} was not registered")
        urn = make_urn(self.stack, self.project, goal.parent, goal.type, goal.name)
        if urn in self.claimed:
            self.steps.bail(urn, f"Duplicate resource URN '{urn}'; try giving it a unique name")
        self.claimed.add(urn)
        row: Row = {"urn": urn, "custom": goal.custom, "type": goal.type, "inputs": goal.inputs, "parent": goal.parent}
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

    def _old(self, urn: str, goal: Goal) -> Row | None:
        """By name first, then by the names that it says it had, then by those that its parent had."""
        if urn in self.olds:
            return self.olds[urn]
        for alias in self._aliases(goal):
            if alias in self.olds:
                if alias in self.claimed or alias in self.aliased:
                    self.steps.bail(urn, f"Duplicate resource alias '{alias}': another resource is or was that already")
                self.aliased[alias] = urn
                return self.olds[alias]
        return None

    def _aliases(self, goal: Goal) -> list[str]:
        found = [self._alias_urn(goal, a) for a in goal.aliases]
        was = {new: old for old, new in self.aliased.items()}
        if parent := was.get(goal.parent):
            for type_, name in [(goal.type, goal.name), *((urn_type(u), urn_name(u)) for u in found)]:
                prefix = urn_name(goal.parent)
                inherited = urn_name(parent) + name[len(prefix) :] if name.startswith(prefix) else name
                found.append(make_urn(self.stack, self.project, parent, type_, inherited))
        return list(dict.fromkeys(found))

    def _alias_urn(self, goal: Goal, alias: Alias) -> str:
        if alias.urn:
            return alias.urn
        was = {new: old for old, new in self.aliased.items()}
        parent = "" if alias.no_parent else was.get(alias.parent, alias.parent) or goal.parent
        return make_urn(
            alias.stack or self.stack,
            alias.project or self.project,
            parent,
            alias.type or goal.type,
            alias.name or goal.name,
        )

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
            old, adopted = self._import(goal, row, old if not recreating else None, server), True
            row = {**row, "created": old["created"], "modified": old["modified"]}
        external = old is not None and bool(old.get("external"))
        fresh = old is None or recreating or external
        if server is not None:
            self._check(goal, row, None if fresh else old, server)
        if old is None:
            return self._create(row, server)
        if recreating:
            return self._create_replacement(row, old, server, ())
        if external:
            return self._create_replacement(row, old, server, (), keep=True)
        return self._compare(goal, row, old, server, adopted=adopted)

    def _check(self, goal: Goal, row: Row, old: Row | None, server: Server) -> None:
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
            return self._replace(goal, row, old, server, diff.delete_first, replaces)
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
        if self.aliased.get(old_urn) == new_urn:
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

    # Replacements.

    def _replace(
        self, goal: Goal, row: Row, old: Row, server: Server | None, delete_first: bool, keys: tuple[str, ...]
    ) -> Row:
        if row.get("protect") and old.get("protect"):
            self.steps.bail(
                row["urn"],
                f'unable to replace resource "{row["urn"]}"\nas it is currently marked for protection. '
                "To unprotect the resource, remove the "
                "`protect` flag from the resource in your Pulumi program and run `up`",
            )
        if goal.import_id:
            self.steps.bail(
                row["urn"],
                "previously-imported resources that still specify an ID may not be replaced; remove `import_`",
            )
        self.replaced.add(row["urn"])
        if server is not None:
            self._check(goal, row, None, server)  # defaults are no longer carried over from the old one
        if goal.delete_before_replace is not None:
            delete_first = goal.delete_before_replace
        if not delete_first and not old.get("pendingReplacement"):
            return self._create_replacement(row, old, server, keys, keep=True)
        if not old.get("pendingReplacement"):
            self._delete_first(row["urn"], old)
        return self._create_replacement(row, old, server, keys)

    def _delete_first(self, urn: str, old: Row) -> None:
        """The old thing, before it all that must be replaced with it; those come again, or are gone."""
        with self.lock:
            chain = [*self._replaced_with(old), old]
            for row in chain[:-1]:
                if row.get("protect"):
                    self.steps.bail(
                        urn,
                        f'unable to replace resource "{row["urn"]}" as part of replacing "{urn}" '
                        "as it is currently marked for protection",
                    )
            self.condemned.update(r["urn"] for r in chain[:-1])
        for row in reversed(chain):
            if not row.get("pendingReplacement"):
                self.delete(row, "delete-replaced", {r["urn"] for r in chain}, keep=True)

    def _replaced_with(self, root: Row) -> list[Row]:
        """Dependants that a change of the root would replace too: asks their providers with unknowns in its place."""
        base = self.state.base
        going, found = {root["urn"]}, []
        for place in dependants(base, next(p for p, r in enumerate(base) if r is root)):
            row = base[place]
            if id(row) in self.operated or row.get("delete") or row["urn"] in self.condemned:
                continue
            if row["custom"] and not row.get("external") and self._goes_with(row, going):
                going.add(row["urn"])
                found.append(row)
        return found

    def _goes_with(self, row: Row, going: set[str]) -> bool:
        if row.get("deletedWith") in going or split_ref(row.get("provider", ""))[0] in going:
            return True
        inputs = dict(row.get("inputs", {}))
        changing = [k for k, urns in row.get("propertyDependencies", {}).items() if going & set(urns) and k in inputs]
        if not changing:
            return False
        inputs.update(dict.fromkeys(changing, UNKNOWN))
        server = self.server(row)
        assert server is not None
        diff = server.diff(row, inputs, row.get("ignoreChanges", []))
        patterns = row.get("replaceOnChanges", [])
        return bool(diff.replaces) or (
            diff.changes and any(v.covers(p, k) for p in patterns for k in (*diff.keys, *diff.detailed))
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

    # Things that exist already.

    def _import(self, goal: Goal, row: Row, old: Row | None, server: Server) -> Row:
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

        self.steps.perform("import", row, work)
        return self._done(made)

    def read(self, row: Row, inputs: Props, version: str) -> Row:
        """`get`: a thing that others own, known in the state and never changed."""
        with self.lock:
            if self.steps.stopped.is_set():
                raise Stopped
            if row["urn"] in self.claimed:
                self.steps.bail(row["urn"], f"Duplicate resource URN '{row['urn']}'; try giving it a unique name")
            self.claimed.add(row["urn"])
            old = self.olds.get(row["urn"])
            if old is not None:
                self.operated.add(id(old))
        if not row.get("provider"):
            row["provider"] = self.default(package(row["type"]), version)
        id_ = row["id"]

        def work() -> Commit:
            found = self._ask(row, id_, inputs)
            if found is None:
                raise ProviderError(f"resource '{id_}' does not exist")
            row.update({"id": found.id, "outputs": found.outputs, "inputs": inputs})
            if old is not None and not old.get("external"):
                return Commit(add=row, mark=(old, {"delete": True}))
            return Commit(add=row, drop=old)

        self.steps.perform("read", row, work)
        return self._done(row)

    def _ask(self, row: Row, id_: str, inputs: Props) -> Found | None:
        if id_ == UNKNOWN:
            return Found(id=id_, inputs=inputs, outputs={})
        if package(row["type"]) == BUILTIN:
            return self._own_outputs(row, id_, inputs)
        return self.providers.get(row["provider"]).read(row, id_, inputs, inputs)

    def _own_outputs(self, row: Row, id_: str, inputs: Props) -> Found:
        """A reference to this very stack gives what its last run put out; there are no other stacks here."""
        wanted = str(v.plain(inputs.get("name", id_)))
        if (
            row["type"] != "pulumi:pulumi:StackReference"
            or wanted.split("/")[-1] != self.stack
            or wanted.split("/")[-2:-1] not in ([], [self.project])
        ):
            raise EngineError(
                f"stack reference '{wanted}': the embedded engine knows only this stack "
                f"('{self.project}/{self.stack}'). To fix: use Pulumi for references to others"
            )
        top = self.olds.get(make_urn(self.stack, self.project, None, STACK, f"{self.project}-{self.stack}"))
        outputs = dict(top.get("outputs", {})) if top is not None else {}
        secret_names: list[object] = [k for k, x in sorted(outputs.items()) if v.has_secret(x)]
        return Found(
            id=id_, inputs=inputs, outputs={"name": wanted, "outputs": outputs, "secretOutputNames": secret_names}
        )

    # Steps.

    def _done(self, row: Row) -> Row:
        with self.lock:
            self.seen[row["urn"]] = row
        return row

    def _alias(self, row: Row, old: Row) -> tuple[str, str] | None:
        return (old["urn"], row["urn"]) if old["urn"] != row["urn"] else None

    def _create(self, row: Row, server: Server | None) -> Row:
        self.steps.perform("create", row, lambda: Commit(add=row, error=self._make(row, server)))
        return self._done(row)

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

    def _create_replacement(
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
        return self._done(row)

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
                    row["inputs"] = row["inputs"] if e.partial.inputs is None else e.partial.inputs
            drop = old if self.state.knows(old) else None  # what was imported a moment ago is none of the old rows
            return Commit(add=row, drop=drop, alias=self._alias(row, old), error=error)

        self.steps.perform("update", row, work, keys=keys)
        return self._done(row)

    def _same(self, row: Row, old: Row, server: Server | None) -> Row:
        def work() -> Commit:
            row["id"], row["outputs"] = old.get("id", ""), old.get("outputs", {})
            if isinstance(server, Lifecycle):
                server.same(row)
            return Commit(add=row, drop=old, alias=self._alias(row, old))

        self.steps.perform("same", row, work)
        return self._done(row)
