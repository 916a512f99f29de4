"""Models copied from a bucket before the server starts, where the server cannot read the bucket itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from infra.plan import Plan
from serving.images import stock
from serving.pod import Init

CONFIG = "/slipway"
SCRIPTS = Path(__file__).resolve().parent / "scripts"


def init(
    plan: Plan, sources: Mapping[str, tuple[object, str]], target: str, code: Mapping[str, int] | None = None
) -> Init:
    """Copies each model's chosen version to <target>/<model>/<version>.

    A source is an address, which may be known to the caller alone, and the folder below it. `code`: the version of
    each source that is no model.
    """
    models = []
    env: dict[str, object] = {"HOME": "/tmp", "SLIPWAY_REGION": plan.spec.region}
    for number, (name, (address, folder)) in enumerate(sources.items()):
        variable = f"SLIPWAY_SOURCE_{number}"
        env[variable] = address
        versions = [m.version for m in plan.models if m.name == name] or [(code or {})[name]]
        models.append({"name": name, "source": variable, "folder": folder, "versions": versions})
    env["SLIPWAY_SYNC"] = json.dumps({"target": target, "models": models})
    return Init(
        name="models",
        image=stock(plan, "python"),
        command=("python3",),
        args=(f"{CONFIG}/sync.py",),
        env=env,
    )


def files() -> dict[str, str]:
    """The scripts that the init container runs, for the pod's configuration folder."""
    return {name: (SCRIPTS / name).read_text() for name in ("sync.py", "objects.py")}
