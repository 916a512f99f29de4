"""The worked stacks, and small specifications to plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from infra.catalog import load
from infra.plan import Kinds, Plan, make_plan
from infra.spec import Spec, parse

CONFIG = Path(__file__).resolve().parents[2] / "stacks" / "config"
WORKED = sorted(f.name.removeprefix("Pulumi.").removesuffix(".yaml") for f in CONFIG.glob("Pulumi.*.yaml"))
CLOUDS = [w for w in WORKED if w != "local"]


def worked(name: str, **changes: object) -> Spec:
    config = yaml.safe_load((CONFIG / f"Pulumi.{name}.yaml").read_text())["config"]
    values: dict[str, Any] = {k.removeprefix("slipway:"): v for k, v in config.items()}
    return parse({k: v for k, v in {**values, **changes}.items() if v is not None})


def planned(spec: Spec) -> Plan:
    return make_plan(spec, Kinds(), load())


def plan(name: str, **changes: object) -> Plan:
    return planned(worked(name, **changes))
