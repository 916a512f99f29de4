"""Plans of cloud stacks for the serving tests, and placements as a cloud gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.catalog import load
from infra.plan import Kinds, Plan, make_plan
from infra.spec import parse
from tests.serving.servers import DIGITS

PROFILE = {
    "l4": {"base_ms": 1.1, "per_item_ms": 0.08},
    "t4": {"base_ms": 1.5, "per_item_ms": 0.15},
    "a10g": {"base_ms": 1.2, "per_item_ms": 0.1},
    "v5e": {"base_ms": 1.0, "per_item_ms": 0.05},
    "vcpu": {"base_ms": 2.0, "per_item_ms": 0.9},
}
BY_CLOUD: Mapping[str, Mapping[str, object]] = {
    "gcp": {"region": "us-central1", "project": "my-project"},
    "aws": {"region": "us-east-1"},
}


def model(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {"name": "digits", "size_mib": 1, "max_batch": 32, "profile": PROFILE}
    return {**values, "storage_uri": DIGITS, **changes}


def cloud_plan(cloud: str = "gcp", **changes: object) -> Plan:
    values: dict[str, object] = {
        "cloud": cloud,
        **BY_CLOUD[cloud],
        "admin_cidrs": ["203.0.113.0/24"],
        "models": [model()],
        "load": {"mean_rps": 300, "peak_rps": 1200, "burst_cv": 2.0},
        "slo": {"p99_ms": 60},
    }
    if changes.get("shape") == "vm":
        del values["admin_cidrs"]  # of a cluster's control plane
    return make_plan(parse(values | changes), Kinds(), load())


def tf_plan(cloud: str = "gcp", **changes: object) -> Plan:
    """SavedModels in a bucket of the cloud; on AWS copied into the pod."""
    scheme = {"gcp": "gs", "aws": "s3"}[cloud]
    saved = model(storage_uri=f"{scheme}://models/digits", format="savedmodel")
    access = {"aws": "sync"}.get(cloud, "direct")
    return cloud_plan(cloud, **({"server": "tf-serving", "models": [saved], "model_access": access} | changes))


@dataclass(frozen=True, kw_only=True)
class Taint:
    key: str
    value: str | None
    effect: str


@dataclass(frozen=True, kw_only=True)
class Nodes:
    node_selector: Mapping[str, str]
    tolerations: tuple[Taint, ...] = ()
    device: str | None = None
    devices: int = 0


SERVING = Taint(key="slipway-pool", value="serving", effect="NoSchedule")
BURST = Nodes(node_selector={"slipway-pool": "burst"}, tolerations=(SERVING,))
FALLBACK = Nodes(node_selector={"slipway-pool": "fallback"}, tolerations=(SERVING,))
SYSTEM = Nodes(node_selector={"slipway-pool": "system"})
GPU = Nodes(
    node_selector={"slipway-pool": "base"},
    tolerations=(SERVING, Taint(key="nvidia.com/gpu", value=None, effect="NoSchedule")),
    device="nvidia.com/gpu",
    devices=1,
)
