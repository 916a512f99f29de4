"""A site's own small program on the embedded engine, against simulated clouds."""

from __future__ import annotations

import json
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
