"""A site's own small program on the embedded engine, against simulated clouds."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from engine import Request, Result, run
from simulators import providers
from simulators.core.world import World

HERE = Path(__file__).parent
STACKS = HERE.parents[1] / "stacks" / "config"
MADE_UP = re.compile(r"\b(lt-[0-9a-f]{17}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")  # by a cloud


def worked(stack: str, **more: object) -> dict[str, object]:
    """The configuration of a worked stack, without its store, which is another module's."""
    found = yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text())["config"]
    values = {k.partition(":")[2]: v for k, v in found.items() if k not in ("slipway:features",)}
    return values | {"feature_store": "none"} | more


@dataclass(kw_only=True)
class SiteProject:
    """tests/clouds/<name> in a folder of its own, and the world that it acts on."""

    name: str
    folder: Path
    world: World = field(default_factory=World)
    settle: bool = False  # before each run, as the command does and Pulumi alone does not

    def __post_init__(self) -> None:
        shutil.copytree(HERE / self.name, self.folder / "project")

    def go(self, command: str, spec: Mapping[str, object], **config: str) -> Result:
        key = self.name.replace("_", "-")
        self.world.begin_phase()
        return run(
            Request(
                command=command,  # type: ignore[arg-type]
                project=self.folder / "project",
                stack="dev",
                config={f"{key}:spec": json.dumps(spec), **{f"{key}:{k}": v for k, v in config.items()}},
                providers=providers(self.world),
                env={"PULUMI_CONFIG_PASSPHRASE": ""},
                warm=True,
                settle=self.settle and command != "preview",
            )
        )

    def resources(self) -> list[dict[str, Any]]:
        """Of the state, without the stack itself."""
        state = json.loads((self.folder / "project" / ".slipway" / "state" / "dev.json").read_text())
        found: list[dict[str, Any]] = state.get("deployment", state)["resources"]
        return [r for r in found if r["type"] != "pulumi:pulumi:Stack"]


def changed(result: Result) -> dict[str, int]:
    assert result.ok, result.errors
    return {k: v for k, v in result.changes.items() if k not in ("same", "read")}


def of(resources: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Logical name -> inputs of a type."""
    return {r["urn"].rpartition("::")[2]: r["inputs"] for r in resources if r["type"].partition(":")[2] == kind}


def asked(resources: list[dict[str, Any]]) -> dict[str, str]:
    """What each resource was asked to be, apart from the ids that a new life gives."""
    return {r["urn"]: MADE_UP.sub("id", json.dumps(r["inputs"], sort_keys=True)) for r in resources}
