"""A worked stack of this project on the embedded engine, against simulated clouds."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from engine import Request, Result, run
from simulators import providers
from simulators.core.faults import Fault
from simulators.core.world import World

ROOT = Path(__file__).resolve().parents[2]
HERE = "pulumi:pulumi:"
WIDE, TALL = {"scaling": "horizontal"}, {"scaling": "vertical"}


@dataclass(kw_only=True)
class Life:
    """One stack: its state in a folder of its own, and the world that it acts on."""

    stack: str
    folder: Path
    world: World = field(default_factory=World)
    always: Mapping[str, object] = field(default_factory=dict)  # configuration on top of the worked one
    without: tuple[str, ...] = ()  # keys of the worked configuration that are left out
    wheels: str = ""  # folder of the store clients' packages; nothing: predictions by id are left out

    def go(self, command: str, change: Mapping[str, object] | None = None, *, faults: tuple[Fault, ...] = ()) -> Result:
        values = {**self.always, **(change or {})}
        self.world.begin_phase()
        self.world.faults = faults
        return run(
            Request(
                command=command,  # type: ignore[arg-type]
                project=self._project() if self.without else ROOT,
                stack=self.stack,
                state_dir=self.folder,
                config={f"slipway:{k}": v if isinstance(v, str) else json.dumps(v) for k, v in values.items()},
                providers=providers(self.world),
                env={"PULUMI_CONFIG_PASSPHRASE": "", "SLIPWAY_WHEELS": self.wheels},
                warm=True,
            )
        )

    def _project(self) -> Path:
        """A project that runs this program, with a configuration of its own."""
        folder = self.folder.with_name(f"{self.folder.name}-project")
        folder.mkdir(exist_ok=True)
        about = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
        worked = yaml.safe_load((ROOT / "stacks" / "config" / f"Pulumi.{self.stack}.yaml").read_text())["config"]
        kept = {k: v for k, v in worked.items() if k.partition(":")[2] not in self.without}
        runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": str(ROOT / ".venv")}}
        about |= {"main": str(ROOT / "stacks"), "stackConfigDir": ".", "runtime": runtime}
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump({k: v for k, v in about.items() if k != "plugins"}))
        (folder / f"Pulumi.{self.stack}.yaml").write_text(yaml.safe_dump({"config": kept}))
        return folder

    def copy(self, folder: Path) -> Life:
        """The same state and the same world once more, for another future."""
        shutil.copytree(self.folder, folder)
        held = {f.name: copy.deepcopy(getattr(self.world, f.name)) for f in fields(World) if not f.name.startswith("_")}
        return Life(stack=self.stack, folder=folder, world=World(**held), always=self.always, wheels=self.wheels)

    def resources(self) -> dict[str, dict[str, Any]]:
        """Of the state, by logical name and type, without what Pulumi itself keeps."""
        state = json.loads((self.folder / f"{self.stack}.json").read_text())
        rows = state.get("deployment", state)["resources"]
        return {r["urn"].split("::", 2)[2]: r for r in rows if not r["type"].startswith(HERE)}

    def plain(self) -> dict[str, object]:
        """What two states are compared by: inputs and options of each resource; computed text differs each time."""
        kept = ("type", "inputs", "dependencies", "provider", "protect", "custom")
        return {name: [_without(r.get(k)) for k in kept] for name, r in self.resources().items()}


# What a cloud makes up for each thing that it makes: templates of machines, and the groups behind node groups.
MADE_UP = re.compile(r"lt-[0-9a-f]{17}|(?<=uniqueId=)[0-9]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _without(value: object) -> object:
    """A stored secret is another text each time that it is encrypted; ids of the cloud's are others each time."""
    if isinstance(value, str):
        return MADE_UP.sub("…", value)
    if isinstance(value, dict):
        return {k: "…" if k == "ciphertext" else _without(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without(v) for v in value]
    return value


def moved(result: Result) -> dict[str, set[str]]:
    """Operation -> logical names, of all that was not left as it was."""
    found: dict[str, set[str]] = {}
    for step in result.steps:
        if step.op not in ("same", "read"):
            found.setdefault(step.op, set()).add(step.urn.split("::", 2)[2])
    return found


def done(result: Result) -> Result:
    assert result.ok, "\n".join(result.errors)
    return result
