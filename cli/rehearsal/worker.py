"""The child that runs the engine of a rehearsal, in its environment: orders come as lines of JSON, answers go back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cli.engines.base import Command, Deployment, Event, OnEvent, Outcome
from cli.errors import CliError
from cli.project import Project
from cli.rehearsal.place import MARK, PARALLEL
from simulators.core.faults import Fault
from simulators.core.world import World

Tell = Callable[[Mapping[str, Any]], None]


class Simulated:
    """The embedded engine with the simulators in this process; a kill by a fault rule ends this process."""

    def __init__(self, world: World) -> None:
        from simulators import providers

        self.world, self.providers = world, providers(world)

    def run(self, project: Path, command: Command, stack: str, config: Mapping[str, str], hear: OnEvent) -> Outcome:
        import engine

        def on(event: engine.Event) -> None:
            if event.kind in ("start", "done", "failed"):
                hear(Event(kind=event.kind, op=event.op, urn=event.urn))
            else:
                severity = event.op if event.kind == "log" else "info"
                hear(Event(kind="message", urn=event.urn, text=event.detail, severity=severity))

        request = engine.Request(
            command=command, project=project, stack=stack, config=config, providers=self.providers,
            parallel=PARALLEL, settle=command != "preview", on_event=on, env={"PULUMI_CONFIG_PASSPHRASE": ""},
            warm=True,
        )  # fmt: skip
        try:
            result = engine.run(request)
        except engine.EngineError as e:
            return Outcome(ok=False, errors=(str(e),))
        outputs = {k: "[secret]" if k in result.secret_outputs else v for k, v in result.outputs.items()}
        return Outcome(ok=result.ok, changes=result.changes, outputs=outputs, errors=() if result.ok else result.errors)

    def render(self, project: Path, stack: str, config: Mapping[str, str]) -> dict[str, Any]:
        """What the program declares when everything is made, secrets masked before they leave this process."""
        import engine
        from cli import rendering

        goals: list[dict[str, Any]] = []
        request = engine.Request(
            command="up", project=project, stack=stack, config=config, providers=self.providers,
            env={"PULUMI_CONFIG_PASSPHRASE": ""}, on_goal=lambda goal: goals.append(rendering.declared(goal)),
        )  # fmt: skip
        try:
            result = engine.run(request)
        except engine.EngineError as e:
            return {"errors": [str(e)]}
        state: Any = engine.export_state(project, stack, show_secrets=True)
        objects = rendering.manifests(state["deployment"]["resources"])
        return {"errors": [] if result.ok else list(result.errors), "resources": goals, "objects": objects}

    def export(self, project: Path, stack: str) -> Deployment | None:
        import engine

        folder = project / ".slipway" / "state"
        known = (folder / f"{stack}.json").exists() or (folder / f"{stack}.journal").exists()
        return engine.export_state(project, stack) if known else None


class Cli:
    """The Pulumi CLI, which starts the simulators as plugins: the world is a file."""

    def __init__(self, binary: str) -> None:
        self.binary = binary

    def run(self, project: Path, command: Command, stack: str, config: Mapping[str, str], hear: OnEvent) -> Outcome:
        from cli.engines.pulumi import PulumiEngine

        engine = PulumiEngine(Project(folder=project, config_folder=_config_folder(project)), self.binary)
        if command != "preview":
            for line in engine.settle(stack):
                hear(Event(kind="message", text=f"settled: {line}"))
        return engine.run(command, stack, config, hear)

    def export(self, project: Path, stack: str) -> Deployment | None:
        from cli.engines.pulumi import PulumiEngine

        return PulumiEngine(Project(folder=project, config_folder=_config_folder(project)), self.binary).export(stack)


def _config_folder(project: Path) -> Path:
    import yaml

    return project / str(yaml.safe_load((project / "Pulumi.yaml").read_text()).get("stackConfigDir", "."))


def main(arguments: list[str]) -> int:
    """Arguments: the world's file, and `embedded` or the path of `pulumi`."""
    file, engine = Path(arguments[0]), arguments[1]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else prints must not stand among the answers

    def tell(answer: Mapping[str, Any]) -> None:
        print(json.dumps(answer, default=str), file=answers, flush=True)

    world = _world(file, private=engine == "embedded")
    runner = Simulated(world) if engine == "embedded" else Cli(engine)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            tell({"done": _obey(order, world, runner, tell)})
        except CliError as e:
            tell({"refused": list(e.problems), "code": e.code})
    return 0


def _world(file: Path, *, private: bool) -> World:
    """The file's, or a new one; its nonce is that of the rehearsal, which the caller made."""
    world = World(path=file, private=private)
    if file.exists():
        world.restore()
    else:
        world.nonce = os.environ[MARK]
        world.keep()
    return world


def _obey(order: Mapping[str, Any], world: World, runner: Simulated | Cli, tell: Tell) -> Mapping[str, Any]:
    project, stack = Path(order["project"]), order["stack"]
    if order["do"] == "export":
        return {"deployment": runner.export(project, stack)}
    if order["do"] == "render":
        assert isinstance(runner, Simulated)
        return runner.render(project, stack, order["config"])
    with world.transaction():
        world.faults = tuple(Fault(**rule) for rule in order["faults"])
        world.expired = []  # whoever runs it again has logged in again
    world.begin_phase()
    outcome = runner.run(
        project, order["command"], stack, order["config"], lambda event: tell({"event": asdict(event)})
    )
    if world.private:
        world.keep()
    return {"outcome": outcome.to_json()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
