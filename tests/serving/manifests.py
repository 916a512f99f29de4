"""Every kind of manifest that serving renders, over both clouds, both servers and the shapes of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from infra.plan import Plan
from serving import kubernetes, kubernetes_batch, kubernetes_entry, tf_serving, triton_pod
from serving.container import ContainerSpec
from serving.triton import Store
from tests.serving.clouds import BURST, FALLBACK, GPU, SYSTEM, Nodes, cloud_plan, model, tf_plan
from tests.serving.servers import PROJECT

UPLOADED = "gs://stack-models/0123456789ab"
BATCH = {"input_uri": "gs://data/in", "output_uri": "gs://data/out"}
S3_BATCH = {"input_uri": "s3://data/in", "output_uri": "s3://data/out", "schedule": "0 3 * * *"}
SHARED = {"strategy": "time-slicing", "clients": 2}
Json = dict[str, Any]


def plans() -> Iterator[tuple[str, Plan]]:
    bucket = {"models": [model(storage_uri="gs://models/digits")]}
    s3 = {"models": [model(storage_uri="s3://models/digits")]}
    yield "gke-cpu", cloud_plan(batch=BATCH)
    yield "gke-cpu-bucket", cloud_plan(**bucket)
    yield "gke-cpu-vertical", cloud_plan(scaling="vertical")
    yield "gke-cpu-performance", cloud_plan(cost="performance")
    yield "gke-gpu", cloud_plan(accelerator="l4")
    yield (
        "gke-gpu-shared",
        cloud_plan(accelerator="t4", gpu_sharing={"strategy": "time-slicing", "clients": 2}, **bucket),
    )
    yield "eks-cpu", cloud_plan("aws", batch=S3_BATCH)
    yield "eks-cpu-s3", cloud_plan("aws", **s3)
    yield "eks-cpu-sync", cloud_plan("aws", model_access="sync", **s3)
    yield "eks-gpu", cloud_plan("aws", accelerator="a10g")
    yield "gke-tf", tf_plan(batch=BATCH)
    yield "gke-tf-gpu", tf_plan(accelerator="l4", scaling="vertical")
    yield "gke-tpu", tf_plan(accelerator="v5e", image="example/tf-serving-tpu:1")
    yield "eks-tf", tf_plan("aws")
    features = {"keys": 1000, "value_bytes": 256}
    yield "gke-tf-by-id", tf_plan(feature_store="bigtable", features=features)
    yield "eks-tf-by-id", tf_plan("aws", feature_store="elasticache", features=features)


def container(plan: Plan, number: int = 0, env: dict[str, object] | None = None) -> ContainerSpec:
    given = {"project": PROJECT, "uploaded": UPLOADED, "env": env}
    if plan.spec.server == "triton":
        return triton_pod.pod(plan, plan.pools[number], **given)
    store = Store(url="$SLIPWAY_STORE_URL", key_prefix="web:") if tf_serving.by_id(plan) else None
    return tf_serving.pod(plan, plan.pools[number], **given, store=store)


def placements(plan: Plan, number: int) -> Sequence[Nodes]:
    pool = plan.pools[number]
    if pool.accelerator != "none":
        return [GPU]
    return [BURST, FALLBACK] if pool.role == "burst" else [BURST]


def groups(plan: Plan, env: dict[str, object] | None = None) -> list[kubernetes.Group]:
    return [
        kubernetes.Group(
            part=part, pool=plan.pools[i], container=container(plan, i, env), placements=placements(plan, i)
        )
        for i, part in enumerate(kubernetes.parts(plan))
    ]


def everything(plan: Plan) -> list[Json]:
    found = groups(plan)
    generation = kubernetes.generation(plan, [g.container for g in found])
    return [
        *kubernetes.stable("web", found[0].container, annotations={"a": "b"}),
        *kubernetes.generation_objects(plan, found, stack="web", generation=generation),
        *kubernetes_entry.entry(plan, found[0].container, stack="web", system=SYSTEM),
        *kubernetes_batch.batch(plan, stack="web", placements=[SYSTEM], annotations={}),
    ]
