"""Sound configurations, and copies of them with one thing changed."""

from __future__ import annotations

import copy
from typing import Any

DIGITS: dict[str, Any] = {
    "name": "digits",
    "storage_uri": "models/digits.onnx",
    "format": "onnx",
    "profile": {"vcpu": {"base_ms": 0.6, "per_item_ms": 0.15}, "l4": {"base_ms": 0.4, "per_item_ms": 0.02}},
}
LOCAL: dict[str, Any] = {
    "cloud": "local",
    "models": [DIGITS],
    "load": {"mean_rps": 100, "peak_rps": 400},
    "slo": {"p99_ms": 50},
}
GKE: dict[str, Any] = {
    **LOCAL,
    "cloud": "gcp",
    "region": "us-central1",
    "project": "my-project",
    "admin_cidrs": ["203.0.113.0/24"],
    "accelerator": "l4",
}
EKS: dict[str, Any] = {**LOCAL, "cloud": "aws", "region": "us-east-1", "admin_cidrs": ["203.0.113.0/24"]}
GCE: dict[str, Any] = {k: v for k, v in GKE.items() if k != "admin_cidrs"} | {"shape": "vm"}
EC2: dict[str, Any] = {k: v for k, v in EKS.items() if k != "admin_cidrs"} | {"shape": "vm"}
TPU_PROFILE = {"v5e": {"base_ms": 1, "per_item_ms": 0.01}, "v6e": {"base_ms": 1, "per_item_ms": 0.01}}
TPU: dict[str, Any] = {
    **GKE,
    "accelerator": "v6e-4",
    "server": "tf-serving",
    "image": "example/tfs-tpu:1",
    "models": [{**DIGITS, "format": "savedmodel", "storage_uri": "gs://models/digits", "profile": TPU_PROFILE}],
}
ALL = {"local": LOCAL, "gke": GKE, "eks": EKS, "gce": GCE, "ec2": EC2, "tpu": TPU}


def changed(base: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A deep copy with the value at a dotted path (numbers are indices) set, or taken away when value is `GONE`."""
    result = copy.deepcopy(base)
    node: Any = result
    *way, last = [int(s) if s.isdigit() else s for s in path.split(".")]
    for step in way:
        if isinstance(node, dict) and step not in node:
            node[step] = {}
        node = node[step]
    if value is GONE:
        del node[last]
    elif isinstance(node, list) and last == len(node):
        node.append(value)
    else:
        node[last] = value
    return result


GONE = object()
