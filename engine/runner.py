"""One run of a command on a stack, from the project file to the result."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from pulumi.runtime.proto import engine_pb2_grpc, resource_pb2, resource_pb2_grpc

from engine import endings
from engine import values as v
from engine.api import EngineError, Request, Result
from engine.lock import locked
from engine.monitor import FEATURES, Log, Monitor
from engine.plugins import CHANNEL, Plugins, Source
from engine.program import Program, environment
from engine.project import Project, config, load
from engine.providers import Providers
from engine.register import Registry
from engine.rows import STACK
from engine.secrets import Crypter
from engine.settlement import settle_state
from engine.state import State, parse
from engine.steps import Steps, Stopped

UNCHANGED = ("same", "read", "discard")  # discard: a thing of others is no longer looked at


def state_file(project: Path, stack: str, state_dir: Path | None) -> Path:
    return (state_dir or project.resolve() / ".slipway" / "state") / f"{stack}.json"


@dataclass
class Run:
    """What the commands share."""

    request: Request
    project: Project
    state: State
    steps: Steps
    plugins: Plugins
    registry: Registry
    address: str
    env: Mapping[str, str]
    info: resource_pb2.DeploymentInfo
    server: grpc.Server


def run(request: Request) -> Result:
    """Raises EngineError (Locked, Refused) when nothing could start; what fails later is told in the result."""
    project = load(request.project)
    env = {**os.environ, **request.env}
    values, secret_keys = config(project, request.stack, request.config or {}, env)
    file = state_file(project.root, request.stack, request.state_dir)
    preview = request.command == "preview"
    with nullcontext() if preview else locked(file.with_suffix(".lock"), request.command):
        state = _open(file, request)
        with _started(
            request, project, state, values, secret_keys, environment(env, project, request.stack, values, secret_keys)
        ) as it:
            settled = settle_state(state, it.registry.providers.get) if request.settle else ()
            it.registry.start()
            _execute(it)
            return _result(it, settled)


def _open(file: Path, request: Request) -> State:
    env = {**os.environ, **request.env}
    crash_at = request.crash_at or env.get("SLIPWAY_ENGINE_CRASH")
    state = State(file, env, crash_at, dry=request.command == "preview")
    if state.replayed:
        state.fold()  # an interrupted run's steps are now part of the deployment
    return state


@contextmanager
def _started(
    request: Request,
    project: Project,
    state: State,
    values: Mapping[str, str],
    secret_keys: list[str],
    env: Mapping[str, str],
) -> Iterator[Run]:
    steps = Steps(request, state)
    server = grpc.server(ThreadPoolExecutor(request.parallel * 4 + 16), options=CHANNEL)
    engine_pb2_grpc.add_EngineServicer_to_server(Log(steps), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    plugins = Plugins(project, request.providers or {}, address, env, lambda name, line: steps.out(f"{name}: {line}"))
    providers = Providers(plugins, state, values, preview=request.command == "preview")
    registry = Registry(steps, state, providers, stack=request.stack, project=project.name)
    info = resource_pb2.DeploymentInfo(
        project=project.name,
        stack=request.stack,
        organization=request.organization,
        config=dict(values),
        configSecretKeys=secret_keys,
        dryRun=request.command == "preview",
        parallel=request.parallel,
        supportedFeatures=FEATURES,
    )
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(Monitor(registry, steps, info), server)
    server.start()
    try:
        yield Run(request, project, state, steps, plugins, registry, address, env, info, server)
    finally:
        steps.drain()
        plugins.close()
        server.stop(None)
        state.close()


def _execute(it: Run) -> None:
    """Whatever ends it, the deployment file is brought up to what was done."""
    try:
        _look_back(it)
        if it.request.command in ("up", "preview"):
            _up(it)
        elif it.request.command == "refresh":
            endings.refresh(it.registry)
        else:
            endings.delete_unseen(it.registry)
    except Stopped:
        pass  # why is among the diagnostics
    finally:
        it.steps.drain()
        it.state.fold()


def _look_back(it: Run) -> None:
    """As Pulumi does: what was cut off is told of; a create stays on record until it is settled."""
    kept = [op for op in it.state.old_ops if op["type"] == "creating"]
    for op in it.state.old_ops:
        it.steps.say(
            "warning",
            f"an interrupted run was {op['type']} this; what became of it is not known",
            op["resource"]["urn"],
        )
    it.state.forget_operations(kept)


def _up(it: Run) -> None:
    arguments = {
        "monitor": it.address,
        "engine": it.address,
        "project": it.project.name,
        "stack": it.request.stack,
        "organization": it.request.organization,
        "parallel": str(it.request.parallel),
        "dry-run": str(it.steps.preview).lower(),
    }
    program = Program(it.project, arguments, it.env, it.steps.out, warm=it.request.warm)
    it.steps.on_stop = program.kill
    if it.steps.stopped.is_set():
        program.kill()
    try:
        code = program.wait()
    finally:
        program.kill()
    if it.steps.stopped.is_set():
        return
    if code != 0:
        it.steps.failed = True
        if not any(d.severity == "error" for d in it.steps.diagnostics):
            it.steps.say("error", f"the program ended with exit status {code}")
        if not it.request.continue_on_error:
            return
    elif it.registry.exported is not None and not it.steps.failed:
        urn, outputs = it.registry.exported
        it.state.set_outputs(urn, outputs, sync=True)
    endings.delete_unseen(it.registry)


def _result(it: Run, settled: tuple[str, ...]) -> Result:
    steps = it.steps
    changed = sum(n for op, n in steps.changes.items() if op not in UNCHANGED)
    if it.request.expect_no_changes and changed:
        steps.failed = True
        steps.say("error", f"no changes were expected but there were: {dict(steps.changes)}")
    top = next((r for r in it.state.rows() if r["type"] == STACK), None)
    outputs = {k: x for k, x in (top.get("outputs", {}) if top else {}).items() if not v.has_unknown(x)}
    return Result(
        ok=not steps.failed,
        changes=dict(steps.changes),
        steps=tuple(steps.done),
        outputs=v.plain_props(outputs),
        diagnostics=tuple(steps.diagnostics),
        secret_outputs=tuple(k for k, x in outputs.items() if v.has_secret(x)),
        settled=settled,
    )


def settle(
    project: Path,
    stack: str,
    state_dir: Path | None = None,
    *,
    providers: Mapping[str, Source] | None = None,
) -> tuple[str, ...]:
    """Resolves what interrupted runs left open, and says what it found."""
    request = Request(command="refresh", project=project, stack=stack, state_dir=state_dir, providers=providers)
    loaded = load(project)
    file = state_file(loaded.root, stack, state_dir)
    with locked(file.with_suffix(".lock"), "settle"):
        state = _open(file, request)
        env = environment(os.environ, loaded, stack, {}, ())
        with _started(request, loaded, state, {}, [], env) as it:
            return settle_state(state, it.registry.providers.get)


def export_state(
    project: Path, stack: str, state_dir: Path | None = None, *, show_secrets: bool = False
) -> dict[str, object]:
    """The deployment as `pulumi stack import` takes it. Secrets stay encrypted unless they are asked for."""
    file = state_file(project, stack, state_dir)
    state = State(file, os.environ, dry=True)
    if not state.exists:
        raise EngineError(f"stack '{stack}': has no state at {file}. To fix: run `up` first")
    return state.deployment(show_secrets=show_secrets)


def import_state(project: Path, stack: str, document: Mapping[str, Any], state_dir: Path | None = None) -> None:
    """Takes over a deployment, of either engine, in the place of the stack's own."""
    file = state_file(project, stack, state_dir)
    deployment = parse(json.dumps(document).encode(), file)["deployment"]
    strange = [r["urn"] for r in deployment.get("resources") or [] if not r["urn"].startswith(f"urn:pulumi:{stack}::")]
    if strange:
        raise EngineError(f"import: {strange[0]} is not of stack '{stack}'")
    with locked(file.with_suffix(".lock"), "import"):
        encrypted = '"ciphertext"' in json.dumps(
            deployment
        )  # what is in plain text is encrypted with the stack's own key
        salt = ((deployment.get("secrets_providers") or {}).get("state") or {}).get("salt") if encrypted else None
        state = State(file, os.environ)
        if salt:
            state.crypter = Crypter(file.with_suffix(".key"), os.environ, salt)
        state.replace(deployment)
