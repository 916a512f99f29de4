"""The program under a recording monitor: what it declares, with which options, and what it refuses to declare."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from google.protobuf import empty_pb2, json_format
from pulumi.runtime import mocks, settings
from pulumi.runtime import stack as runtime_stack

from stacks import registry
from stacks.deploy import deploy

ROOT = Path(__file__).resolve().parents[2]
# The SDK's mocks make an event loop in each thread that they use, and close none.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LOCAL = ROOT / "stacks" / "config" / "Pulumi.local.yaml"


class Monitor(mocks.MockMonitor):
    """Keeps every request with its options, which plain mocks hide."""

    def __init__(self, world: mocks.Mocks) -> None:
        super().__init__(world)
        self.requests: list[Any] = []
        self.outputs: dict[str, Any] = {}
        self.lock = threading.Lock()

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        with self.lock:
            self.requests.append(request)
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        self.outputs = json_format.MessageToDict(request.outputs)
        return super().RegisterResourceOutputs(request)


class World(mocks.Mocks):
    """The local provider's computed outputs, and the stack's own past."""

    def __init__(self, past: Mapping[str, Any]) -> None:
        self.past = past

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        outputs = dict(args.inputs)
        if args.typ == "pulumi:pulumi:StackReference":
            return args.name, {**outputs, "outputs": dict(self.past), "secretOutputNames": []}
        if args.typ == "slipway:local:ModelServer":
            outputs |= {"http_port": 1, "grpc_port": 2, "metrics_port": 3}
        if args.typ == "slipway:local:ModelRepository":
            outputs["path"] = "/models"
        return outputs.get("name", args.name), outputs

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"the program asks for {args.token}")


def run(changes: Mapping[str, Any], *, past: Mapping[str, Any] | None = None, preview: bool = False) -> Monitor:
    """One isolated run of the program with the worked configuration and these changes."""

    def inner() -> Monitor:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        monitor = Monitor(World(past or {}))
        features = monitor.GetDeploymentInfo(empty_pb2.Empty()).supportedFeatures
        settings.configure(
            mocks.MockSettings(
                monitor=monitor,
                monitor_features=set(features),
                engine=mocks.MockEngine(None),
                project="slipway",
                stack="local",
                dry_run=preview,
                organization="organization",
                callbacks=None,
                root_directory=str(ROOT),
                parallel=1,
                legacy_apply_enabled=False,
                package_refs={},
                base_providers_by_ref={},
                outputs=set(),
            )
        )
        settings.set_root_resource(None)
        config = {**yaml.safe_load(LOCAL.read_text())["config"], **{f"slipway:{k}": v for k, v in changes.items()}}
        pulumi.runtime.set_all_config({k: as_pulumi(v) for k, v in config.items() if v is not None})
        try:
            loop.run_until_complete(runtime_stack.run_in_stack(deploy))
        finally:
            loop.close()
            asyncio.set_event_loop(None)
        return monitor

    return contextvars.copy_context().run(inner)


def as_pulumi(value: Any) -> str:
    """Pulumi gives every value as text, structured ones as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An Output in an f-string is an error, not text."""
    monkeypatch.setenv("PULUMI_ERROR_OUTPUT_STRING", "true")
    level = logging.getLogger("asyncio").level
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("asyncio").setLevel(level)
    gc.collect()  # here, not in a test of another module


def declared(monitor: Monitor) -> dict[str, Any]:
    return {r.name: r for r in monitor.requests if r.type.startswith("slipway:")}


def inputs(request: Any) -> dict[str, Any]:
    return dict(json_format.MessageToDict(request.object))


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize("scaling", ["horizontal", "vertical"])
def test_every_resource_has_the_stacks_provider(scaling: str, preview: bool) -> None:
    """Without an explicit provider a resource would go to whatever provider is around."""
    monitor = run({"scaling": scaling}, preview=preview)
    resources = declared(monitor)
    assert len(resources) == {"horizontal": 8, "vertical": 7}[scaling]
    assert {r.provider.split("::")[2].split("$")[-1] for r in resources.values()} == {"pulumi:providers:slipway"}


def test_both_modes_have_the_same_instances() -> None:
    """Horizontal: N processes of one instance; vertical: one process of N; the worked stack has N = 2."""
    counted = {}
    for scaling in ("horizontal", "vertical"):
        monitor = run({"scaling": scaling})
        servers = [r for r in declared(monitor).values() if r.type == "slipway:local:ModelServer"]
        files = next(
            inputs(r)["files"] for r in declared(monitor).values() if r.type == "slipway:local:ModelRepository"
        )
        config = files["digits/config.pbtxt"]["text"]
        counted[scaling] = (len(servers), int(config.split("count:")[1].split()[0].strip("}]")))
    assert counted == {"horizontal": (2, 1), "vertical": (1, 2)}


def test_a_switch_touches_nothing_but_its_generation() -> None:
    """What serves has its generation in the logical and the physical name; all else but the endpoints is the same."""
    there, back = run({"scaling": "horizontal"}), run({"scaling": "vertical"})
    generations = [m.outputs["generation"] for m in (there, back)]
    assert generations[0] != generations[1]
    old, new = declared(there), declared(back)
    for name, request in old.items():
        serving = request.type in ("slipway:local:ModelServer", "slipway:local:ModelRepository")
        assert (generations[0] in name and generations[0] in inputs(request)["name"]) == serving
        if not serving and name != "endpoints":
            assert inputs(request) == inputs(new[name]), name
    assert not [name for name in new if generations[1] in name and name in old]


def test_names_carry_the_stack() -> None:
    """Two stacks side by side share no physical name."""
    assert all(inputs(r)["name"].startswith("local-") for r in declared(run({})).values())


def test_order_of_things() -> None:
    """Endpoints wait for every server and for the entry, servers for their files, the store and the features."""
    resources = declared(run({}))
    needs = {name: {d.split("::")[3] for d in r.dependencies} for name, r in resources.items()}
    servers = {name for name in resources if name.startswith("server-")}
    models = {name for name in resources if name.startswith("models-")}
    assert needs["endpoints"] >= servers | {"envoy"}
    for server in servers:
        assert needs[server] >= {"supervisor", "redis", "features"} | models
    assert all("supervisor" in needs[name] for name in ("redis", "envoy", *models))


def test_outputs_are_complete() -> None:
    """What the commands read from a stack."""
    outputs = run({"port": 20000}).outputs
    assert outputs["url_http"] == "http://127.0.0.1:20000"
    assert outputs["url_grpc"] == "127.0.0.1:20001"
    assert outputs["url_metrics"] == ["http://127.0.0.1:3/metrics"] * 2 + ["http://127.0.0.1:20009/stats/prometheus"]
    assert outputs["redis"] == "redis://127.0.0.1:20002/0"
    assert outputs["models"] == ["digits", "digits_by_id"]
    assert outputs["plan"]["generation"]


def test_without_a_store() -> None:
    """No Redis, no features, no model by id."""
    monitor = run({"feature_store": "none", "features": None})
    assert not {"redis", "features"} & set(declared(monitor))
    assert monitor.outputs["models"] == ["digits"]
    assert "redis" not in monitor.outputs


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"acelerator": "none"}, "Did you mean 'accelerator'"),
    "wrong word": ({"scaling": "sideways"}, "horizontal, vertical"),
    "two at once": ({"scaling": "sideways", "port": "80"}, "2 problems"),
    "no such model": (
        {"models": [{"name": "d", "storage_uri": "none.onnx", "profile": {"vcpu": {"base_ms": 1, "per_item_ms": 1}}}]},
        "none.onnx",
    ),
    "infeasible": ({"load": {"mean_rps": 1, "peak_rps": 9_000_000}}, "local_vcpus"),
    "planned alone": (
        {
            "cloud": "gcp",
            "shape": "kubernetes",
            "project": "my-project",
            "region": "us-central1",
            "accelerator": "l4",
            "gpu_sharing": {"strategy": "mps", "clients": 2},
            "models": [
                {"name": "d", "storage_uri": "gs://models/d", "profile": {"l4": {"base_ms": 1, "per_item_ms": 1}}}
            ],
            "feature_store": "none",
            "features": None,
            "local_vcpus": None,
        },
        "mps can be planned, and cannot be built",
    ),
    "other store": ({"feature_store": "bigtable"}, "feature_store"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_a_wrong_configuration_declares_nothing(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's fault is told without a trace (RunError), before the first resource."""
    changes, told = WRONG[case]
    made: list[Monitor] = []
    real = Monitor.__init__

    def remember(self: Monitor, world: mocks.Mocks) -> None:
        real(self, world)
        made.append(self)

    monkeypatch.setattr(Monitor, "__init__", remember)
    with pytest.raises(pulumi.RunError) as raised:
        run(changes)
    assert told in str(raised.value)
    assert declared(made[0]) == {}


def test_its_own_past_decides_what_is_refused() -> None:
    """A move of the entry is no switch: refused from the recorded plan, before any resource, under plain Pulumi too."""
    past = {"plan": run({"port": 20000}).outputs["plan"]}
    assert declared(run({"port": 20000, "scaling": "vertical"}, past=past))
    with pytest.raises(pulumi.RunError, match="port"):
        run({"port": 21000, "scaling": "vertical"}, past=past)


def test_a_past_that_cannot_be_read_is_said() -> None:
    """A plan recorded by another version does not stop an `up`."""
    assert declared(run({}, past={"plan": {"version": 0}}))
    assert declared(run({}, past={"plan": run({}).outputs["plan"], "generation": "x", "machines": ["no record"]}))


@pytest.mark.parametrize(
    "table", [registry.CLOUDS, registry.STORES, registry.SERVERS, registry.PODS, *registry.BUILT.values()]
)
def test_registry_names_what_exists(table: dict[str, str]) -> None:
    """Each line of the registry can be imported."""
    import importlib

    for path in table.values():
        assert importlib.import_module(path).__doc__
