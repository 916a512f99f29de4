"""Rules of servers, accelerators, images and sharing."""

from __future__ import annotations

from infra.spec.model import Spec
from infra.spec.rules.registry import EKS, GKE, SLIPWAY, TF_SERVING, TRITON, Found, no, problem, rule, to

FAMILY = "/global/images/family/"  # in the name of a family of Google's boot images


@rule("Triton has no TPU backend.", TRITON)
def triton_has_no_tpu(spec: Spec) -> Found:
    if spec.server == "triton" and spec.accelerator.is_tpu:
        yield problem(
            ("server",),
            f"triton cannot compute on accelerator {spec.accelerator}: it has no TPU backend",
            allowed=("tf-serving with an image of your own", "or a GPU"),
            fix=to("server", value="tf-serving"),
        )


@rule("No TPU image of TF Serving is published: its TPU code is behind a compile flag.", TF_SERVING)
def tpu_needs_an_image(spec: Spec) -> Found:
    if spec.accelerator.is_tpu and spec.image is None:
        yield problem(
            ("image",),
            f"is required: no stock server runs on accelerator {spec.accelerator}",
            to_fix="build TF Serving with --config=tpu and set image to it",
            fix=to("image", value="example/tf-serving-tpu:1"),
        )


@rule("`latest`, or no tag, is another image tomorrow: every preview would differ.", "pitfall 10 of the fact sheet")
def image_is_pinned(spec: Spec) -> Found:
    if spec.image is None or spec.cloud == "local":
        return
    name = spec.image.rsplit("/", 1)[-1]
    if "@" not in name and (":" not in name or name.endswith((":latest", ":"))):
        bare = spec.image[: -len(name)] + name.split(":")[0]
        yield problem(
            ("image",),
            f"{spec.image} is not pinned",
            allowed=("name:tag other than latest", "name@sha256:digest"),
            fix=to("image", value=f"{bare}:1"),
        )


@rule("The local stack runs servers from packages.", SLIPWAY)
def local_has_no_image(spec: Spec) -> Found:
    if spec.image is not None and spec.cloud == "local":
        yield problem(("image",), "means nothing where cloud is local: it runs no containers", fix=no("image"))


@rule("The local stack runs servers from packages.", SLIPWAY)
def local_has_no_pins(spec: Spec) -> Found:
    if spec.pins and spec.cloud == "local":
        yield problem(("pins",), "means nothing where cloud is local: it runs no containers", fix=no("pins"))


@rule("An image has a digest, a boot image an id.", SLIPWAY)
def pins_are_of_their_kind(spec: Spec) -> Found:
    for name, value in spec.pins.items():
        kind = "ami-" if name.startswith("/") else "projects/" if FAMILY in name else "sha256:"
        if not value.startswith(kind):
            yield problem(("pins", name), f"{value} is none of its kind", allowed=(f"{kind}…",), fix=no("pins", name))


@rule("A machine type fixes the processor of the plan.", SLIPWAY)
def machine_type_is_of_a_cloud(spec: Spec) -> Found:
    if spec.machine_type is not None and spec.cloud == "local":
        yield problem(("machine_type",), "means nothing where cloud is local", fix=no("machine_type"))


@rule("Sharing divides a GPU among pods.", GKE)
def sharing_needs_a_gpu(spec: Spec) -> Found:
    strategy = spec.gpu_sharing.strategy
    if strategy != "none" and not spec.accelerator.is_gpu:
        yield problem(
            ("gpu_sharing", "strategy"),
            f"{strategy} shares GPUs, and accelerator is {spec.accelerator}",
            allowed=("none",),
            fix=to("gpu_sharing", value={"strategy": "none"}),
        )


@rule("A virtual machine runs one server container, which has its GPUs to itself.", SLIPWAY)
def sharing_needs_pods(spec: Spec) -> Found:
    strategy = spec.gpu_sharing.strategy
    if strategy != "none" and spec.shape != "kubernetes":
        yield problem(
            ("gpu_sharing", "strategy"),
            f"{strategy} shares a GPU among pods, and shape is {spec.shape}",
            allowed=("none",),
            fix=to("gpu_sharing", value={"strategy": "none"}),
        )


@rule("GKE divides a GPU when it makes the node; on EKS an operator would have to, and Slipway installs none.", GKE)
def partitions_are_gkes(spec: Spec) -> Found:
    if spec.gpu_sharing.strategy == "mig" and spec.cloud != "gcp":
        yield problem(
            ("gpu_sharing", "strategy"),
            f"mig is built on GKE alone, and cloud is {spec.cloud}",
            allowed=("none", "time-slicing"),
            fix=to("gpu_sharing", "strategy", value="time-slicing"),
        )


@rule(
    "Cost mode performance shares no accelerator: a neighbour's burst would be in the latency.", "DESIGN: the two modes"
)
def performance_shares_nothing(spec: Spec) -> Found:
    if spec.cost == "performance" and spec.gpu_sharing.strategy != "none":
        yield problem(
            ("gpu_sharing", "strategy"),
            f"{spec.gpu_sharing.strategy} shares accelerators, and cost is performance",
            allowed=("none",),
            fix=to("gpu_sharing", value={"strategy": "none"}),
        )


@rule("A strategy is there for two clients or more, and more than one needs a strategy.", GKE)
def sharing_has_clients(spec: Spec) -> Found:
    sharing = spec.gpu_sharing
    if sharing.strategy == "none" and sharing.clients > 1:
        yield problem(
            ("gpu_sharing", "clients"),
            f"{sharing.clients} clients need a strategy, and gpu_sharing.strategy is none",
            allowed=("1",),
            fix=to("gpu_sharing", "clients", value=1),
        )
    if sharing.strategy != "none" and sharing.clients < 2:
        yield problem(
            ("gpu_sharing", "clients"),
            f"1 client shares nothing, and gpu_sharing.strategy is {sharing.strategy}",
            allowed=("2 to 48",),
            fix=to("gpu_sharing", "clients", value=2),
        )


@rule("Triton's S3 client is aws-sdk-cpp 1.11.60, and EKS Pod Identity needs 1.11.263.", EKS)
def triton_s3_needs_irsa(spec: Spec) -> Found:
    reads = any(m.storage_uri.startswith("s3://") for m in spec.models)
    if spec.server == "triton" and spec.workload_identity == "pod-identity" and reads and spec.model_access == "direct":
        yield problem(
            ("workload_identity",),
            "pod-identity does not reach server triton's S3 client where model_access is direct",
            allowed=("irsa", "or model_access sync or mount"),
            fix=to("workload_identity", value="irsa"),
        )


@rule("Pod Identity is EKS's.", EKS)
def pod_identity_is_of_eks(spec: Spec) -> Found:
    if spec.workload_identity == "pod-identity" and (spec.cloud != "aws" or spec.shape != "kubernetes"):
        yield problem(
            ("workload_identity",),
            f"pod-identity is for pods on EKS; cloud is {spec.cloud} and shape is {spec.shape}",
            allowed=("irsa",),
            fix=to("workload_identity", value="irsa"),
        )


@rule("Volumes that mount a bucket are the cluster's (GCS FUSE, S3 CSI drivers).", GKE)
def mount_needs_pods(spec: Spec) -> Found:
    if spec.model_access == "mount" and spec.shape != "kubernetes":
        yield problem(
            ("model_access",),
            f"mount needs a cluster's CSI driver, and shape is {spec.shape}",
            allowed=("direct", "sync"),
            fix=to("model_access", value="sync"),
        )


@rule("A store is there for features, and features are in a store.", SLIPWAY)
def features_and_store(spec: Spec) -> Found:
    if spec.feature_store != "none" and spec.features is None:
        yield problem(
            ("features",),
            f"is required where feature_store is {spec.feature_store}: its size and rates are planned and paid",
            fix=to("features", value={"keys": 1000, "value_bytes": 256}),
        )
    if spec.feature_store == "none" and spec.features is not None:
        yield problem(
            ("features",), "means nothing where feature_store is none", allowed=("a feature_store",), fix=no("features")
        )


@rule("A batch predicts with a model of the stack.", SLIPWAY)
def batch_has_a_model(spec: Spec) -> Found:
    names = sorted({m.name for m in spec.models})
    if spec.batch and spec.batch.model is not None and spec.batch.model not in names:
        yield problem(
            ("batch", "model"),
            f"{spec.batch.model} is not in models",
            allowed=names,
            fix=to("batch", "model", value=names[0]),
        )


@rule("The local stack has no buckets and no scheduler.", SLIPWAY)
def batch_needs_a_cloud(spec: Spec) -> Found:
    if spec.batch is not None and spec.cloud == "local":
        yield problem(("batch",), "is not built where cloud is local", fix=no("batch"))


@rule("A pod on a shared GPU may ask for one, and vertical gives one server all GPUs of a machine.", GKE)
def sharing_is_horizontal(spec: Spec) -> Found:
    strategy = spec.gpu_sharing.strategy
    if strategy != "none" and spec.scaling == "vertical":
        yield problem(
            ("gpu_sharing", "strategy"),
            f"{strategy} shares a GPU among servers, and scaling vertical gives one server all GPUs of a machine",
            allowed=("none",),
            fix=to("gpu_sharing", value={"strategy": "none"}),
        )
