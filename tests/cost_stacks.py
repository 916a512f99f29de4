"""The stacks of golden.csv: their configuration and their pools, as a plan would give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.plan.types import Pool
from infra.spec import Spec, parse

PROFILE = {"base_ms": 1.1, "per_item_ms": 0.08}
TPU = {"server": "tf-serving", "image": "example/tpu-server:1"}


def spec(cloud: str, shape: str, region: str, *, rps: tuple[float, float] = (300, 1200), **more: object) -> Spec:
    values: dict[str, object] = {
        "cloud": cloud,
        "shape": shape,
        "region": region,
        "models": [model(cloud)],
        "load": {"mean_rps": rps[0], "peak_rps": rps[1]},
        "slo": {"p99_ms": 60},
    }
    if cloud == "gcp":
        values["project"] = "my-project"
    if shape == "kubernetes":
        values["admin_cidrs"] = ["10.0.0.0/8"]
    return parse(values | more)


def model(cloud: str, **more: object) -> dict[str, object]:
    bucket = "gs" if cloud == "gcp" else "s3"
    return {"name": "digits", "storage_uri": f"{bucket}://models/digits", "profile": {"vcpu": PROFILE}} | more


def pool(
    role: str,
    machine: str,
    low: int,
    mean: int,
    high: int,
    *,
    zones: int,
    accelerator: tuple[str, int] = ("none", 0),
    capacity: str = "on-demand",
) -> Pool:
    return Pool(
        role=role,
        machine_type=machine,
        capacity_type=capacity,
        min_nodes=low,
        max_nodes=high,
        expected_nodes=mean,
        accelerator=accelerator[0],
        accelerator_count=accelerator[1],
        zones=tuple("abcd"[:zones]),
    )


def public(certificate: str) -> dict[str, object]:
    return {"exposure": "public", "allowed_cidrs": ["203.0.113.0/24"], "tls": {"certificate": certificate}}


L4, T4, T4X2, A100X2, A10G = ("l4", 1), ("t4", 1), ("t4", 2), ("a100-40", 2), ("a10g", 1)
V5E, V6EX4 = ("v5e", 1), ("v6e", 4)

STACKS: Mapping[str, tuple[Spec, Sequence[Pool]]] = {
    "gke-cpu": (
        spec("gcp", "kubernetes", "us-central1"),
        [
            pool("base", "n2-standard-4", 2, 2, 2, zones=3),
            pool("burst", "n2-standard-4", 0, 1, 3, zones=3, capacity="spot"),
        ],
    ),
    "gke-gpu": (
        spec(
            "gcp",
            "kubernetes",
            "us-central1",
            cost="performance",
            accelerator="l4",
            models=[model("gcp", profile={"l4": PROFILE})],
            feature_store="memorystore",
            features={"keys": 4_000_000, "value_bytes": 256},
        ),
        [pool("serving", "g2-standard-4", 2, 3, 5, zones=3, accelerator=L4)],
    ),
    "gke-tpu": (
        spec(
            "gcp",
            "kubernetes",
            "us-central1",
            rps=(50, 200),
            cost="economy",
            accelerator="v5e",
            models=[model("gcp", format="savedmodel", size_mib=2048, profile={"v5e": PROFILE})],
            **TPU,
        ),
        [
            pool("base", "ct5lp-hightpu-1t", 1, 1, 1, zones=1, accelerator=V5E),
            pool("burst", "ct5lp-hightpu-1t", 0, 1, 2, zones=1, accelerator=V5E, capacity="spot"),
        ],
    ),
    "gce-cpu": (
        spec(
            "gcp",
            "vm",
            "europe-west4",
            rps=(1000, 4000),
            scaling="vertical",
            feature_store="firestore",
            features={"writes_per_s": 5},
            **public("serving-certificate"),
        ),
        [pool("serving", "e2-standard-8", 2, 2, 2, zones=2)],
    ),
    "gce-gpu": (
        spec("gcp", "vm", "europe-west4", accelerator="t4x2", models=[model("gcp", profile={"t4": PROFILE})]),
        [
            pool("base", "n1-standard-8", 1, 1, 1, zones=2, accelerator=T4X2),
            pool("burst", "n1-standard-8", 1, 1, 2, zones=2, accelerator=T4X2, capacity="spot"),
        ],
    ),
    "gce-tpu": (
        spec(
            "gcp",
            "vm",
            "us-central1",
            accelerator="v6e-4",
            models=[model("gcp", format="savedmodel", profile={"v6e": PROFILE})],
            **TPU,
        ),
        [pool("serving", "ct6e-standard-4t", 1, 2, 2, zones=1, accelerator=V6EX4)],
    ),
    "eks-cpu": (
        spec(
            "aws",
            "kubernetes",
            "us-east-1",
            feature_store="dynamodb",
            features={"keys": 1_000_000, "value_bytes": 256, "writes_per_s": 10},
        ),
        [
            pool("base", "c7i.2xlarge", 1, 1, 1, zones=2),
            pool("burst", "c7i.2xlarge", 1, 2, 4, zones=2, capacity="spot"),
        ],
    ),
    "eks-gpu": (
        spec(
            "aws",
            "kubernetes",
            "us-east-1",
            cost="performance",
            accelerator="a10g",
            models=[model("aws", profile={"a10g": PROFILE})],
            feature_store="elasticache",
            features={"keys": 5_000_000, "value_bytes": 256},
            **public("arn:aws:acm:us-east-1:000000000000:certificate/serving"),
        ),
        [pool("serving", "g5.xlarge", 2, 3, 4, zones=3, accelerator=A10G)],
    ),
    "ec2-cpu": (
        spec("aws", "vm", "eu-west-1", rps=(3000, 12000), scaling="vertical"),
        [pool("serving", "m7i.2xlarge", 3, 3, 3, zones=3)],
    ),
    "ec2-gpu": (
        spec(
            "aws",
            "vm",
            "us-east-1",
            cost="economy",
            accelerator="t4",
            models=[model("aws", profile={"t4": PROFILE})],
        ),
        [
            pool("base", "g4dn.xlarge", 1, 1, 1, zones=1, accelerator=T4),
            pool("burst", "g4dn.xlarge", 0, 0, 2, zones=1, accelerator=T4, capacity="spot"),
        ],
    ),
    "gke-mix": (
        spec(
            "gcp",
            "kubernetes",
            "us-central1",
            accelerator="auto",
            models=[model("gcp", profile={"t4": PROFILE})],
            feature_store="bigtable",  # 20,000 look-ups/s at the peak, of 10,000,000 entities of 1,100 bytes
            features={"keys": 10_000_000, "value_bytes": 1000, "reads_per_s": 5000},
        ),
        [
            pool("base", "a2-highgpu-2g", 1, 1, 1, zones=4, accelerator=A100X2),
            pool("burst", "n1-standard-4", 0, 1, 3, zones=4, accelerator=T4, capacity="spot"),
        ],
    ),
    "gke-large": (
        spec("gcp", "kubernetes", "us-central1", rps=(20000, 25000)),
        [pool("serving", "c3-standard-8", 30, 35, 40, zones=3)],
    ),
}
