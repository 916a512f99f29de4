"""THE list of clouds, stores, servers and blueprints; a kind's module is imported when a stack asks for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from types import ModuleType

from infra.catalog import Catalog
from infra.plan import Kind, Kinds
from infra.spec import Problem, Spec
from infra.spec.problems import problem

CLOUDS = {"local": "infra.clouds.local.place", "gcp": "infra.clouds.gcp", "aws": "infra.clouds.aws"}
STORES = {
    "redis": "infra.stores.redis",
    "memorystore": "infra.stores.memorystore",
    "bigtable": "infra.stores.bigtable",
    "firestore": "infra.stores.firestore",
    "dynamodb": "infra.stores.dynamodb",
    "elasticache": "infra.stores.elasticache",
}
SERVERS = {"triton": "serving.triton"}  # as a process of this machine
PODS = {"triton": "serving.triton_pod", "tf-serving": "serving.tf_serving"}
BUILT = {  # the shapes that each cloud can be built in, and the blueprint of each
    "local": {"vm": "stacks.vm"},
    "gcp": {"kubernetes": "stacks.kubernetes", "vm": "stacks.machines"},
    "aws": {"kubernetes": "stacks.kubernetes", "vm": "stacks.machines"},
}


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
    servers = SERVERS if spec.cloud == "local" else PODS
    parts: tuple[tuple[str, str, Collection[str]], ...] = (
        ("cloud", spec.cloud, CLOUDS),
        ("shape", spec.shape, BUILT.get(spec.cloud, ())),
        ("server", spec.server, servers),
        ("feature_store", spec.feature_store, ["none", *STORES]),
    )
    for path, name, there in parts:
        if name not in there:
            reason = f"{name} can be planned, and cannot be built yet where cloud is {spec.cloud}: nothing was declared"
            to_fix = f"run `slipway plan`, which needs no blueprint, or set {path} to what can be built"
            return problem((path,), reason, allowed=sorted(there), to_fix=to_fix)
    if spec.gpu_sharing.strategy == "mps":
        reason = "mps can be planned, and cannot be built: its pods need hostIPC, which `restricted` namespaces refuse"
        return problem(("gpu_sharing", "strategy"), reason, allowed=("none", "time-slicing"))
    return None


def cloud(name: str) -> ModuleType:
    return import_module(CLOUDS[name])


def store(name: str) -> ModuleType | None:
    return None if name == "none" else import_module(STORES[name])


def server(name: str) -> ModuleType:
    return import_module(SERVERS[name])


def pods(name: str) -> ModuleType:
    """A server as a container: of a pod, or of a machine."""
    return import_module(PODS[name])


def blueprint(spec: Spec) -> ModuleType:
    return import_module(BUILT[spec.cloud][spec.shape])


def _facts(modules: Mapping[str, str]) -> dict[str, Kind]:
    found = {}
    for name, path in modules.items():
        kind = import_module(path).KIND
        assert isinstance(kind, Kind)
        assert kind.name == name, f"{path} calls itself {kind.name}, not {name}"
        found[name] = kind
    return found
