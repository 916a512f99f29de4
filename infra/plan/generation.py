"""The digest that names a generation: 8 hex digits over every capacity field, and over nothing outside a generation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from infra.plan.types import Pool, Serving
from infra.spec import Model, Spec, to_values

# What decides how many there are, where and at which price, not what each is: an autoscaler may move it without a new
# generation. On this machine nothing autoscales, so there the counts are capacity.
COUNTS = {"min_nodes", "max_nodes", "start_nodes", "expected_nodes", "usd_per_hour", "zones", "node_rps"}

SETTINGS = ("shape", "server", "image", "gpu_sharing", "feature_store", "model_access")


def digest(spec: Spec, pools: Sequence[Pool], serving: Serving, models: Sequence[Model]) -> str:
    """Two plans with one digest can share their serving resources; any other change makes new ones beside the old."""
    values = to_values(spec)
    capacity = {
        "pools": [{k: v for k, v in asdict(p).items() if spec.cloud == "local" or k not in COUNTS} for p in pools],
        "serving": {**asdict(serving), "models": [{**asdict(m), "part": 0} for m in serving.models]},
        "models": [{k: getattr(m, k) for k in ("name", "version", "storage_uri", "format", "labels")} for m in models],
        "settings": {k: values.get(k) for k in SETTINGS},
        **({"pins": dict(spec.pins)} if spec.pins else {}),
        "on_failure": spec.features.on_failure if spec.features else None,
    }
    text = json.dumps(capacity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
