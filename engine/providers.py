"""The providers of a run: default ones, those the program declares, those that only the state still knows."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping

from engine.answers import Diff, Found, ProviderError
from engine.api import EngineError
from engine.client import INTERNAL, Client
from engine.plugins import Plugins
from engine.rows import PROVIDERS, Row, make_urn, package, split_ref
from engine.state import State
from engine.values import UNKNOWN, Props

BUILTIN = "pulumi"  # answers stack references; no plugin


class Providers:
    def __init__(self, plugins: Plugins, state: State, config: Mapping[str, str], *, preview: bool) -> None:
        self._plugins, self._state, self._config, self.preview = plugins, state, config, preview
        self._clients: dict[str, Client] = {}
        self._loaded: dict[str, Client] = {}  # started by a check, not configured yet
        self._lock = threading.RLock()

    def load(self, urn: str, type_: str) -> Client:
        """A plugin for a provider that is being registered."""
        with self._lock:
            if urn not in self._loaded:
                self._loaded[urn] = Client(self._plugins.start(package(type_)), preview=self.preview)
            return self._loaded[urn]

    def configure(self, row: Row) -> None:
        """From here on resources can refer to it."""
        with self._lock:
            client = self.load(row["urn"], row["type"])
            client.configure(row["urn"], row["id"], row.get("inputs", {}))
            self._clients[f"{row['urn']}::{row['id']}"] = client

    def get(self, ref: str) -> Client:
        """By reference; one that this run did not register is started as the state remembers it."""
        with self._lock:
            if ref in self._clients:
                return self._clients[ref]
            urn, id_ = split_ref(self._renamed(ref))
            if f"{urn}::{id_}" in self._clients:
                return self._clients[f"{urn}::{id_}"]
            row = next((r for r in self._state.base if r["urn"] == urn and r.get("id") == id_), None)
            if row is None:
                raise EngineError(f"provider {ref}: is neither declared nor in the state")
            client = Client(self._plugins.start(package(row["type"])), preview=self.preview)
            client.configure(urn, id_, row.get("inputs", {}))
            self._clients[ref] = client
            return client

    def _renamed(self, ref: str) -> str:
        urn, id_ = split_ref(ref)
        back = {new: old for old, new in self._state.renamed.items()}
        known = any(r["urn"] == urn for r in self._state.base)
        return ref if known or urn not in back else f"{back[urn]}::{id_}"

    def default_goal(self, stack: str, project: str, name: str, version: str) -> tuple[str, str, Props]:
        """URN, name and inputs of a default provider: one for each version, configured by `<package>:<key>`."""
        if version and name != BUILTIN:
            label = "default_" + version.replace(".", "_").replace("-", "_").replace("+", "_")
        else:
            label = "default"
        disabled = self._config.get("pulumi:disable-default-providers", "")
        if f'"{name}"' in disabled or '"*"' in disabled:
            raise EngineError(
                f"the default provider of '{name}' is disabled (pulumi:disable-default-providers): state one explicitly"
            )
        inputs: Props = {k.split(":", 1)[1]: x for k, x in self._config.items() if k.startswith(f"{name}:")}
        if version and name != BUILTIN:
            inputs |= {INTERNAL: {}, "version": version}
        return make_urn(stack, project, None, PROVIDERS + name, label), label, inputs


class Lifecycle:
    """Provider resources answer a resource's calls: by CheckConfig and DiffConfig, and Configure makes them."""

    def __init__(self, providers: Providers, row: Row) -> None:
        self._providers, self._row = providers, row
        self._builtin = package(row["type"]) == BUILTIN

    def check(self, urn: str, olds: Props | None, news: Props) -> tuple[Props, list[str]]:
        return (
            (news, []) if self._builtin else self._providers.load(urn, self._row["type"]).check_config(urn, olds, news)
        )

    def diff(self, row: Row, news: Props, ignored: list[str]) -> Diff:
        if self._builtin:
            return Diff(changes=False)
        return self._providers.load(self._row["urn"], self._row["type"]).diff_config(
            row["urn"], row.get("inputs", {}), row.get("outputs", {}), news
        )

    def create(self, row: Row) -> tuple[str, Props]:
        row["id"] = UNKNOWN if self._providers.preview else str(uuid.uuid4())
        self.same(row)
        return row["id"], row.get("inputs", {})

    def update(self, row: Row, old: Row, ignored: list[str]) -> Props:
        row["id"] = old["id"]
        self.same(row)
        return row.get("inputs", {})

    def same(self, row: Row) -> None:
        if not self._builtin:
            self._providers.configure(row)

    def delete(self, row: Row) -> None:
        """The plugin ends with the run."""

    def read(self, row: Row, id_: str, inputs: Props, state: Props) -> Found | None:
        raise ProviderError("a provider cannot be read or imported")
