"""THE list of clouds, stores, servers and blueprints; a kind's module is imported when a stack asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from infra.plan import Kind, Kinds

CLOUDS = {"local": "infra.clouds.local.place"}
STORES = {"redis": "infra.stores.redis"}
SERVERS = {"triton": "serving.triton"}
BLUEPRINTS = {"vm": "stacks.vm"}


def kinds() -> Kinds:
    """The facts of every store and server, for the plan. A store's module imports its SDK only where it builds."""
    return Kinds(stores=_facts(STORES), servers={})


def catalog(cloud: str) -> object:
    """Machines and prices; a local stack has one machine, which costs nothing."""
    return None if cloud == "local" else import_module("infra.catalog").load()


def cloud(name: str) -> ModuleType:
    return import_module(CLOUDS[name])


def store(name: str) -> ModuleType | None:
    return None if name == "none" else import_module(STORES[name])


def server(name: str) -> ModuleType:
    return import_module(SERVERS[name])


def blueprint(shape: str) -> ModuleType:
    return import_module(BLUEPRINTS[shape])


def _facts(modules: Mapping[str, str]) -> dict[str, Kind]:
    found = {}
    for name, path in modules.items():
        kind = import_module(path).KIND
        assert isinstance(kind, Kind)
        assert kind.name == name, f"{path} calls itself {kind.name}, not {name}"
        found[name] = kind
    return found
