"""Rules of a cloud: what exists there, and which keys count there."""

from __future__ import annotations

from collections.abc import Iterable

from infra.spec.model import STORES, Spec
from infra.spec.rules.registry import EKS, GKE, PROVIDER, SLIPWAY, TPU, Found, no, problem, rule, to

STORE_CLOUDS = {
    "memorystore": ("gcp",),
    "bigtable": ("gcp",),
    "firestore": ("gcp",),
    "dynamodb": ("aws",),
    "elasticache": ("aws",),
    "redis": ("local", "on-prem"),
    "none": ("gcp", "aws", "local", "on-prem"),
}
SCHEMES = {"gcp": "gs://", "aws": "s3://"}
LOCAL_ONLY = {  # key -> what it has to be on this machine, and why
    "shape": ("vm", "it runs processes"),
    "region": ("local", "it is this machine"),
    "server": ("triton", "only Triton has a build that runs without containers"),
    "exposure": ("private", "its entry binds 127.0.0.1"),
}


@rule("The local cloud is processes on this machine: no pods, no other server, no public entry.", SLIPWAY)
def local_is_processes(spec: Spec) -> Found:
    for name, (word, why) in LOCAL_ONLY.items():
        value = getattr(spec, name)
        if spec.cloud == "local" and value != word:
            yield problem(
                (name,),
                f"{value} does not exist where cloud is local: {why}",
                allowed=(word,),
                fix=to(name, value=word),
            )


@rule("This machine is taken to have no accelerator; the local stack computes on vCPUs.", SLIPWAY)
def local_has_no_accelerator(spec: Spec) -> Found:
    if spec.cloud == "local" and spec.accelerator.name != "none":
        yield problem(
            ("accelerator",),
            f"{spec.accelerator} is not planned where cloud is local: it computes on local_vcpus",
            allowed=("none",),
            fix=to("accelerator", value="none"),
        )


@rule(
    "The local Triton has the Python backend alone, and runs ONNX files through ONNX Runtime in it.",
    "nvidia-pytriton 0.7.0",
)
def local_serves_onnx(spec: Spec) -> Found:
    for i, m in enumerate(spec.models):
        if spec.cloud == "local" and m.format != "onnx":
            yield problem(
                ("models", i, "format"),
                f"{m.format} cannot be served where cloud is local",
                allowed=("onnx",),
                fix=to("models", i, "format", value="onnx"),
            )


@rule("Each store is a service of one cloud.", PROVIDER)
def store_is_of_the_cloud(spec: Spec) -> Found:
    if spec.cloud not in STORE_CLOUDS[spec.feature_store]:
        owners = " or ".join(STORE_CLOUDS[spec.feature_store])
        there = [s for s in STORES if spec.cloud in STORE_CLOUDS[s]]
        yield problem(
            ("feature_store",),
            f"{spec.feature_store} is a service of {owners}, and cloud is {spec.cloud}",
            allowed=there,
            fix=to("feature_store", value=there[-1]),
        )


@rule("Google Cloud bills a project, and every resource names it.", PROVIDER)
def gcp_needs_a_project(spec: Spec) -> Found:
    if spec.cloud == "gcp" and spec.project is None:
        yield problem(("project",), "is required where cloud is gcp", fix=to("project", value="my-project"))


@rule("Only Google Cloud has projects.", PROVIDER)
def project_is_of_gcp(spec: Spec) -> Found:
    if spec.cloud != "gcp" and spec.project is not None:
        yield problem(("project",), f"means nothing where cloud is {spec.cloud}", fix=no("project"))


@rule("A zone is named after its region.", PROVIDER)
def zones_are_of_the_region(spec: Spec) -> Found:
    for i, zone in enumerate(spec.zones):
        if spec.cloud in SCHEMES and not zone.startswith(spec.region):
            ours = spec.region + ("-a" if spec.cloud == "gcp" else "a")
            yield problem(("zones", i), f"{zone} is not in region {spec.region}", fix=to("zones", i, value=ours))


@rule("A zone counts once.", SLIPWAY)
def zones_differ(spec: Spec) -> Found:
    if len(set(spec.zones)) != len(spec.zones):
        yield problem(("zones",), "names a zone twice", fix=to("zones", value=list(dict.fromkeys(spec.zones))))


@rule("EKS places its control plane in two zones or more.", EKS)
def eks_needs_two_zones(spec: Spec) -> Found:
    if (spec.cloud, spec.shape) == ("aws", "kubernetes") and len(spec.zones) == 1:
        letter = "b" if spec.zones[0].endswith("a") else "a"
        yield problem(
            ("zones",),
            f"only {spec.zones[0]} is given, and a cluster of EKS needs two",
            fix=to("zones", value=[*spec.zones, spec.region + letter]),
        )


@rule("TPUs are Google's.", TPU)
def tpu_is_of_gcp(spec: Spec) -> Found:
    if spec.accelerator.is_tpu and spec.cloud not in ("gcp", "local"):
        yield problem(
            ("accelerator",),
            f"{spec.accelerator} is sold by Google Cloud alone, and cloud is {spec.cloud}",
            fix=to("accelerator", value="l4"),
        )


@rule("Managed instance groups make TPU machines of v5p and v6e, not of v5e, and Slipway scales groups.", TPU)
def v5e_needs_kubernetes(spec: Spec) -> Found:
    if spec.accelerator.name == "v5e" and spec.shape == "vm" and spec.cloud == "gcp":
        yield problem(
            ("accelerator",),
            "v5e is not sold to instance groups, and shape is vm",
            allowed=("v6e", "v5p", "v5e with shape kubernetes"),
            fix=to("accelerator", value=str(spec.accelerator).replace("v5e", "v6e")),
        )


@rule("A cluster of one's own is reached as Kubernetes alone.", SLIPWAY)
def on_prem_is_kubernetes(spec: Spec) -> Found:
    if spec.cloud == "on-prem" and spec.shape != "kubernetes":
        yield problem(
            ("shape",),
            f"{spec.shape} is not built where cloud is on-prem",
            allowed=("kubernetes",),
            fix=to("shape", value="kubernetes"),
        )


@rule("The version is that of the cluster.", GKE)
def version_is_of_a_cluster(spec: Spec) -> Found:
    if spec.kubernetes_version is not None and spec.shape != "kubernetes":
        yield problem(
            ("kubernetes_version",), f"means nothing where shape is {spec.shape}", fix=no("kubernetes_version")
        )


@rule(
    "Pods change their CPU in place from Kubernetes 1.33 on (beta; general in 1.35).", "kubernetes.io/blog 2025-12-19"
)
def in_place_resize_needs_133(spec: Spec) -> Found:
    version = spec.kubernetes_version
    if version and spec.scaling == "vertical" and spec.accelerator.name == "none" and int(version.split(".")[1]) < 33:
        yield problem(
            ("kubernetes_version",),
            f"{version} cannot resize a pod in place, and scaling is vertical",
            allowed=("1.33 and later",),
            fix=to("kubernetes_version", value="1.33"),
        )


def unused(spec: Spec, given: Iterable[str]) -> Found:
    """Keys that were given and count on this machine alone; with their default they are never looked at elsewhere."""
    for name in ("port", "local_vcpus"):
        if name in given and spec.cloud != "local":
            yield problem((name,), f"means nothing where cloud is {spec.cloud}", fix=no(name))
