"""THE list of clouds, stores, servers and blueprints; a kind's module is imported when a stack asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from infra.catalog import Catalog
from infra.plan import Kind, Kinds
from infra.spec import Problem, Spec
from infra.spec.problems import problem

CLOUDS = {"local": "infra.clouds.local.place"}
STORES = {"redis": "infra.stores.redis"}
SERVERS = {"triton": "serving.triton"}
BLUEPRINTS = {"vm": "stacks.vm"}


def kinds() -> Kinds:
    """The facts of every store and server, for the plan. A store's module imports its SDK only where it builds."""
    return Kinds(stores=_facts(STORES), servers={})


def catalog(cloud: str) -> Catalog | None:
    """Machines and prices; a local stack has one machine, which costs nothing."""
    if cloud == "local":
        return None
    found = import_module("infra.catalog").load()
    assert isinstance(found, Catalog)
    return found


def unbuilt(spec: Spec) -> Problem | None:
    """What of a stack that was planned nothing here can build yet."""
    parts: tuple[tuple[str, str, Mapping[str, str]], ...] = (
        ("cloud", spec.cloud, CLOUDS),
        ("shape", spec.shape, BLUEPRINTS),
        ("server", spec.server, SERVERS),
        ("feature_store", spec.feature_store, {"none": "", **STORES}),
    )
    for path, name, modules in parts:
        if name not in modules:
            reason = f"{name} can be planned, and cannot be built yet: no resource was declared"
            to_fix = f"run `slipway plan`, which needs no blueprint, or set {path} to what can be built"
            return problem((path,), reason, allowed=sorted(modules), to_fix=to_fix)
    return None


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
