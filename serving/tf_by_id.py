"""Predictions by id beside TensorFlow Serving: a second container with the look-up client, its code from the bucket."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from infra.plan import Plan
from serving import sync
from serving.container import FileContent
from serving.facts import facts
from serving.images import stock
from serving.pod import Check, Resources, Sidecar
from serving.triton import Store, client_files
from serving.wheels import BUNDLE, bundle

HERE = Path(__file__).resolve().parent
FOLDER, VERSION = "_by_id", 1  # beside the models, as if it were one
NAME, PORT = "by-id", 8502
SCRIPTS = ("by_id.py", "by_id_work.py")
READY = "/ready"


def code(plan: Plan, wheels: Path) -> dict[str, FileContent]:
    """Our own files, the look-up client and the packages that a stock Python image lacks, for the stack's bucket."""
    files = {name: (sync.SCRIPTS / name).read_text() for name in SCRIPTS}
    files |= {f"serving/{name}": (HERE / name).read_text() for name in client_files(plan.spec.feature_store)}
    made = {name: FileContent.of_text(text) for name, text in files.items()}
    made[BUNDLE] = bundle(plan.spec.feature_store, wheels, ("numpy",))
    return {f"{FOLDER}/{VERSION}/{name}": content for name, content in made.items()}


def sidecar(
    plan: Plan, names: Sequence[str], store: Store, *, models_path: str, upstream: int, env: Mapping[str, object]
) -> Sidecar:
    """The container; `env` is what the store's client needs, text or references."""
    assert plan.spec.features is not None
    numbers, lookups = facts("by-id"), facts("features")
    settings = {
        "address": "0.0.0.0",
        "port": PORT,
        "upstream": f"http://127.0.0.1:{upstream}",
        "models": list(names),
        "value_bytes": plan.spec.features.value_bytes,
        "store_url": store.url,
        "key_prefix": store.key_prefix,
        "on_failure": plan.spec.features.on_failure,
        **{k: lookups[k] for k in ("deadline_ms", "pause_ms", "cache_entries", "cache_ttl_s")},
        "request_s": plan.spec.max_request_s,
        "workers": numbers["workers"],
    }
    region = {"AWS_DEFAULT_REGION": plan.spec.region} if plan.spec.cloud == "aws" else {}
    shape = facts("pod")
    live = Check(port=NAME, path=None, period_s=shape["check_period_s"], failures=shape["liveness_failures"])
    return Sidecar(
        name=NAME,
        image=stock(plan, "python"),
        command=("python3",),
        args=(f"{models_path}/{FOLDER}/{VERSION}/{SCRIPTS[0]}",),
        port=PORT,
        env={"HOME": "/tmp", "SLIPWAY_BY_ID": json.dumps(settings, sort_keys=True), **region, **env},
        resources=Resources(cpu_milli=numbers["cpu_milli"], memory_mib=numbers["memory_mib"], disk_mib=0),
        # it unpacks its client first; how long the models take is the readiness' matter
        startup=replace(live, failures=math.ceil(plan.serving.startup_budget_s / live.period_s)),
        readiness=replace(live, path=READY, failures=shape["readiness_failures"]),
        liveness=live,
    )
