"""Predictions by id beside TensorFlow Serving: a second container with the look-up client, its code from the bucket.

On a machine a third one, Envoy, stands before both and sends by path, as the entry of a cluster does."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from infra.plan import Plan
from serving import sync
from serving.container import FileContent, Ports
from serving.envoy import Entry, Names, arguments, bootstrap
from serving.envoy_routes import TF_SERVING
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
FRONT, CONFIG, ADMIN = "front", "envoy.json", 19000


def code(plan: Plan, wheels: Path) -> dict[str, FileContent]:
    """Our own files, the look-up client and the packages that a stock Python image lacks, for the stack's bucket."""
    files = {name: (sync.SCRIPTS / name).read_text() for name in SCRIPTS}
    files |= {f"serving/{name}": (HERE / name).read_text() for name in client_files(plan.spec.feature_store)}
    made = {name: FileContent.of_text(text) for name, text in files.items()}
    made[BUNDLE] = bundle(plan.spec.feature_store, wheels, ("numpy",))
    return {f"{FOLDER}/{VERSION}/{name}": content for name, content in made.items()}


def front(plan: Plan, server: Ports, own: Ports, *, ready_path: str, config_path: str) -> tuple[Sidecar, str]:
    """Envoy at the server's ports, with the server at its own behind it; and Envoy's configuration."""
    assert isinstance(server.http, int)
    assert isinstance(server.grpc, int)
    assert isinstance(own.http, int)
    assert isinstance(own.grpc, int)
    entry = Entry(
        address="0.0.0.0",
        http_port=server.http,
        grpc_port=server.grpc,
        admin_port=ADMIN,
        max_request_s=plan.spec.max_request_s,
        node=FRONT,
        interface=TF_SERVING,
        names=Names(
            host="127.0.0.1",
            ports={"http": own.http, "grpc": own.grpc, NAME: PORT},
            health_path=ready_path,
            by_id_health_path=READY,
        ),
    )
    check = Check(port=FRONT, path=None, period_s=1, failures=1)
    made = Sidecar(
        name=FRONT,
        image=stock(plan, "envoy"),
        command=("envoy",),
        args=arguments(f"{config_path}/{CONFIG}"),
        port=server.http,
        env={},
        resources=Resources(cpu_milli=0, memory_mib=0, disk_mib=0),
        startup=check,
        readiness=check,
        liveness=check,
        secrets=False,
    )
    return made, bootstrap(entry)


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
