"""Runs the small program of tests/stores/program on the embedded engine against simulated clouds."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import Request, Result, run
from simulators import providers
from simulators.core.faults import Fault
from simulators.core.world import World

PROGRAM = Path(__file__).parent / "program"
GCP: dict[str, Any] = {"cloud": "gcp", "project": "slipway-test", "region": "us-central1"}
AWS: dict[str, Any] = {"cloud": "aws", "region": "us-east-1"}
COMMON: dict[str, Any] = {
    "shape": "vm",
    "load": {"mean_rps": 100, "peak_rps": 300},
    "slo": {"p99_ms": 50},
}
FEATURES: dict[str, Any] = {"keys": 2_000_000, "value_bytes": 512, "writes_per_s": 50}


def values(store: str, **more: Any) -> dict[str, Any]:
    cloud = AWS if store in ("dynamodb", "elasticache") else GCP
    uri = "s3://models/digits" if cloud is AWS else "gs://models-x/digits"
    model = {"name": "digits", "storage_uri": uri, "profile": {"vcpu": {"base_ms": 1, "per_item_ms": 0.5}}}
    features = {**FEATURES, **more.pop("features", {})}
    return {**cloud, **COMMON, "models": [model], "feature_store": store, "features": features, **more}


@dataclass
class Stack:
    """A stack with a store; `world` is the simulated cloud."""

    folder: Path
    store: str
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        shutil.copytree(PROGRAM, self.folder)

    def go(
        self, command: str = "up", *, faults: tuple[Fault, ...] = (), test: dict[str, str] | None = None, **more: Any
    ) -> Result:
        self.world.begin_phase()
        self.world.faults = faults
        given = {
            f"slipway:{k}": v if isinstance(v, str) else json.dumps(v) for k, v in values(self.store, **more).items()
        }
        return run(
            Request(
                command=command,  # type: ignore[arg-type]
                project=self.folder,
                stack="dev",
                config={**given, **{f"test:{k}": v for k, v in (test or {}).items()}},
                providers=providers(self.world),
                env={"PULUMI_CONFIG_PASSPHRASE": ""},
                warm=True,
            )
        )

    @property
    def resources(self) -> list[dict[str, Any]]:
        state = json.loads((self.folder / ".slipway" / "state" / "dev.json").read_text())
        found: list[dict[str, Any]] = state.get("deployment", state)["resources"]
        return found

    def inputs(self, token: str, name: str | None = None) -> dict[str, Any]:
        (row,) = [
            r for r in self.resources if r["type"] == token and (name is None or r["urn"].rpartition("::")[2] == name)
        ]
        return dict(row["inputs"])


def changed(result: Result) -> dict[str, int]:
    return {k: v for k, v in result.changes.items() if k not in ("same", "read")}
