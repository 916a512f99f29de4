"""Wrong configurations, one a row: the problem's path, what it says, what it allows, and the fix."""

from __future__ import annotations

from typing import Any

import pytest

from infra.spec import SpecError, apply_fix, parse
from tests.spec.valid import ALL, DIGITS, EC2, EKS, GCE, GKE, GONE, LOCAL, TPU, changed

SAVED = {**DIGITS, "format": "savedmodel", "storage_uri": "gs://models/digits"}
STORE = {"feature_store": "memorystore", "features": {"keys": 10}}
TFS = {**GKE, "server": "tf-serving", "models": [SAVED]}

# base, {path: value, ...}, path of the problem, words of the message
ROWS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    # keys and types
    (LOCAL, {"clod": "gcp"}, "clod", "there is no such key; allowed: accelerator"),
    (LOCAL, {"scaling": "vertical", "scalng": "x"}, "scalng", "Did you mean 'scaling'? To fix: remove scalng."),
    (GKE, {"accelerator": "l5"}, "accelerator", "Did you mean 'l4'?"),
    (LOCAL, {"scalling": "vertical"}, "scalling", "Did you mean 'scaling'? To fix: rename scalling to scaling."),
    (LOCAL, {"load.mean_rp": 1}, "load.mean_rp", "no such key; allowed: burst_cv, mean_rps, peak_rps."),
    (LOCAL, {"load.mean_rps": GONE, "load.mean_rp": 1}, "load.mean_rp", "Did you mean 'mean_rps'?"),
    (LOCAL, {"models.0.max_bach": 4}, "models[0].max_bach", "no such key"),
    (LOCAL, {"models.0.profile.l5": {}}, "models[0].profile.l5", "'l5' is not one of its values; allowed: vcpu, t4"),
    (LOCAL, {"models.0.profile.vcpu.base": 1}, "models[0].profile.vcpu.base", "no such key"),
    (LOCAL, {"cloud": GONE}, "cloud", "is required"),
    (LOCAL, {"models": GONE}, "models", "is required"),
    (LOCAL, {"models": []}, "models", "must have at least 1"),
    (LOCAL, {"models": "digits"}, "models", "must be a list, not 'digits'"),
    (LOCAL, {"models": '[{"name": '}, "models", "must be a list, not"),
    (LOCAL, {"load": 100}, "load", "must be a mapping, not 100"),
    (LOCAL, {"slo": GONE}, "slo", "is required"),
    (LOCAL, {"slo.p99_ms": "fast"}, "slo.p99_ms", "must be a number, not 'fast'"),
    (LOCAL, {"slo.p99_ms": float("nan")}, "slo.p99_ms", "must be a number, not nan"),
    (
        LOCAL,
        {"slo.p99_ms": 0},
        "slo.p99_ms",
        "out of range, not 0; allowed: 0.1 to 600000 ms. To fix: set slo.p99_ms to 0.1",
    ),
    (LOCAL, {"slo.accelerator_utilization": 1.0}, "slo.accelerator_utilization", "allowed: 0.05 to 0.95"),
    (LOCAL, {"load.burst_cv": 9}, "load.burst_cv", "allowed: 1 to 4"),
    (LOCAL, {"port": 80}, "port", "out of range, not 80; allowed: whole number, 1024 to 65400"),
    (LOCAL, {"port": "8080.5"}, "port", "must be a whole number"),
    (LOCAL, {"port": True}, "port", "must be a whole number, not True"),
    (LOCAL, {"protect": "yes"}, "protect", "allowed: true, false. Did you mean 'true'?"),
    (LOCAL, {"cloud": "gpc"}, "cloud", "allowed: gcp, aws, local, on-prem. Did you mean 'gcp'?"),
    (LOCAL, {"scaling": "Vertical"}, "scaling", "Did you mean 'vertical'?"),
    (LOCAL, {"cost": "cheap"}, "cost", "allowed: economy, balanced, performance"),
    (GKE, {"accelerator": "l44"}, "accelerator", "not an accelerator that Slipway knows; allowed: none, t4, l4"),
    (GKE, {"accelerator": "l4x3"}, "accelerator", "no machine carries 3 of l4"),
    (TPU, {"accelerator": "v6e-16"}, "accelerator", "16 chips of v6e are no single-host slice"),
    (TPU, {"accelerator": "v5p-8"}, "accelerator", "8 chips of v5p are no single-host slice"),
    (LOCAL, {"models.0.name": "Digits!"}, "models[0].name", "must be lower-case letters"),
    (LOCAL, {"models.0.version": 0}, "models[0].version", "out of range"),
    (LOCAL, {"models.0.max_batch": 128}, "models[0].max_batch", "allowed: whole number, 1 to 64"),
    (LOCAL, {"models.0.storage_uri": "https://models/digits"}, "models[0].storage_uri", "must be gs://bucket/path"),
    (LOCAL, {"models.0.profile": {}}, "models[0].profile", "must have at least 1 entry"),
    (LOCAL, {"models.0.accuracy": 97}, "models[0].accuracy", "out of range"),
    (GKE, {"admin_cidrs": ["10.0.0.1/8"]}, "admin_cidrs[0]", "without host bits"),
    (GKE, {"admin_cidrs": ["10.0.0.1"]}, "admin_cidrs[0]", "a block of addresses with its length"),
    (GKE, {"project": "X"}, "project", "must be a project id"),
    # clouds
    (LOCAL, {"shape": "kubernetes"}, "shape", "kubernetes does not exist where cloud is local"),
    (LOCAL, {"region": "us-central1"}, "region", "us-central1 does not exist where cloud is local"),
    (LOCAL, {"exposure": "public"}, "exposure", "public does not exist where cloud is local"),
    (LOCAL, {"accelerator": "l4"}, "accelerator", "l4 is not planned where cloud is local"),
    (LOCAL, {"models.0.format": "pytorch"}, "models[0].format", "pytorch cannot be served where cloud is local"),
    (
        LOCAL,
        {"models.0.storage_uri": "gs://models/a"},
        "models[0].storage_uri",
        "gs:// cannot be read where cloud is local",
    ),
    (LOCAL, {"image": "a/b:1"}, "image", "means nothing where cloud is local"),
    (LOCAL, {"machine_type": "n2-standard-4"}, "machine_type", "means nothing where cloud is local"),
    (LOCAL, {"tls": {"certificate": "c"}}, "tls", "means nothing where cloud is local"),
    (LOCAL, {"project": "my-project"}, "project", "means nothing where cloud is local"),
    (
        LOCAL,
        {"batch": {"input_uri": "gs://inn", "output_uri": "gs://out"}},
        "batch",
        "is not built where cloud is local",
    ),
    (GKE, {"port": 9000}, "port", "means nothing where cloud is gcp"),
    (GKE, {"region": GONE}, "region", "is required"),
    (GKE, {"project": GONE}, "project", "is required where cloud is gcp"),
    (GKE, {"zones": ["europe-west4-a"]}, "zones[0]", "europe-west4-a is not in region us-central1"),
    (GKE, {"zones": ["us-central1-a", "us-central1-a"]}, "zones", "names a zone twice"),
    (EKS, {"admin_cidrs": ["2001:db8::/32"]}, "admin_cidrs[0]", "2001:db8::/32 is of IPv6"),
    (EKS, {"zones": ["us-east-1a"]}, "zones", "only us-east-1a is given, and a cluster of EKS needs two"),
    (EKS, {"accelerator": "v6e-4"}, "accelerator", "v6e-4 is sold by Google Cloud alone, and cloud is aws"),
    (
        TPU,
        {"shape": "vm", "admin_cidrs": GONE, "accelerator": "v5e-4"},
        "accelerator",
        "v5e is not sold to instance groups",
    ),
    (
        GKE,
        {"feature_store": "dynamodb", "features": {}},
        "feature_store",
        "dynamodb is a service of aws, and cloud is gcp",
    ),
    (
        EKS,
        {"feature_store": "bigtable", "features": {}},
        "feature_store",
        "bigtable is a service of gcp, and cloud is aws",
    ),
    (LOCAL, {"feature_store": "memorystore", "features": {}}, "feature_store", "allowed: none, redis"),
    (GKE, {**STORE, "features": {"capacity": "provisioned"}}, "features.capacity", "it is for dynamodb"),
    (EKS, {"feature_store": "dynamodb", "features": {"engine": "valkey"}}, "features.engine", "it is for memorystore"),
    (
        GKE,
        {**STORE, "features": {"engine": "valkey", "replicas": 3}},
        "features.replicas",
        "3 are more than memorystore has here; allowed: 0 to 2",
    ),
    (
        GKE,
        {"feature_store": "bigtable", "features": {"replicas": 2}},
        "features.replicas",
        "2 are more than bigtable has here; allowed: 0 to 1",
    ),
    (GCE, {"kubernetes_version": "1.34"}, "kubernetes_version", "means nothing where shape is vm"),
    (
        EKS,
        {"kubernetes_version": "1.30", "scaling": "vertical"},
        "kubernetes_version",
        "1.30 cannot resize a pod in place, and scaling is vertical",
    ),
    # servers and models
    (GKE, {"models.0.format": "savedmodel"}, "models[0].format", "savedmodel cannot be served by server triton"),
    (GKE, {"server": "tf-serving"}, "models[0].format", "onnx cannot be served by server tf-serving"),
    (
        TFS,
        {"cloud": "aws", "project": GONE, "region": "us-east-1", "models.0.storage_uri": "s3://models/d"},
        "model_access",
        "tf-serving cannot read models[0].storage_uri",
    ),
    (
        EKS,
        {"models.0.storage_uri": "gs://models/d"},
        "models[0].storage_uri",
        "gs:// cannot be read where cloud is aws",
    ),
    (TPU, {"server": "triton", "models.0.format": "onnx"}, "server", "triton cannot compute on accelerator v6e-4"),
    (TPU, {"image": GONE}, "image", "no stock server runs on accelerator v6e-4"),
    (GKE, {"image": "a/b:latest"}, "image", "a/b:latest is not pinned"),
    (
        EKS,
        {"models.0.format": "tensorrt"},
        "models[0].format",
        "tensorrt needs one kind of GPU, and accelerator is none",
    ),
    (GKE, {"models.0.format": "openvino"}, "models[0].format", "openvino computes on the CPU, and accelerator is l4"),
    (GKE, {"accelerator": "t4"}, "models[0].profile", "has l4, vcpu, and accelerator t4 needs t4"),
    (GKE, {"models.1": DIGITS}, "models[1].version", "digits version 1 is already models[0]"),
    (GKE, {"models.1": {**DIGITS, "version": 2}}, "models[0].accuracy", "models has 2 versions of digits"),
    (
        GKE,
        {"models.0.labels": {"canary": 2}},
        "models[0].labels.canary",
        "points to version 2 of digits; allowed: 1".replace("; ", ", which models does not have; "),
    ),
    (GKE, {"models.0.share": 0.5}, "models", "the shares of all models add up to 0.5, not 1"),
    (
        GKE,
        {**STORE, "models.1": {**DIGITS, "name": "digits_by_id"}},
        "models[1].name",
        "digits_by_id is the name of the predictions by id",
    ),
    (GKE, {"feature_store": "memorystore"}, "features", "is required where feature_store is memorystore"),
    (GKE, {"features": {"keys": 1}}, "features", "means nothing where feature_store is none"),
    (
        EKS,
        {"gpu_sharing": {"strategy": "mps", "clients": 4}},
        "gpu_sharing.strategy",
        "mps shares GPUs, and accelerator is none",
    ),
    (
        GCE,
        {"gpu_sharing": {"strategy": "mps", "clients": 4}},
        "gpu_sharing.strategy",
        "mps shares a GPU among pods, and shape is vm",
    ),
    (
        GKE,
        {"gpu_sharing": {"strategy": "mps", "clients": 4}, "scaling": "vertical"},
        "gpu_sharing.strategy",
        "scaling vertical gives one server all GPUs",
    ),
    (
        GKE,
        {"gpu_sharing": {"strategy": "mps", "clients": 4}, "cost": "performance"},
        "gpu_sharing.strategy",
        "cost is performance",
    ),
    (GKE, {"gpu_sharing": {"clients": 4}}, "gpu_sharing.clients", "4 clients need a strategy"),
    (GKE, {"gpu_sharing": {"strategy": "mps"}}, "gpu_sharing.clients", "1 client shares nothing"),
    (
        EKS,
        {"workload_identity": "pod-identity", "models.0.storage_uri": "s3://models/d"},
        "workload_identity",
        "does not reach server triton's S3 client",
    ),
    (GKE, {"workload_identity": "pod-identity"}, "workload_identity", "is for pods on EKS; cloud is gcp"),
    (GCE, {"model_access": "mount"}, "model_access", "mount needs a cluster's CSI driver, and shape is vm"),
    # load and access
    (GKE, {"load.peak_rps": 50}, "load.peak_rps", "50 is below load.mean_rps, 100"),
    (GKE, {"max_request_s": 0.1, "slo.p99_ms": 500}, "max_request_s", "0.1 s is shorter than slo.p99_ms, 500 ms"),
    (GKE, {"exposure": "public", "tls": {"certificate": "c"}}, "allowed_cidrs", "is required where exposure is public"),
    (GKE, {"exposure": "public", "allowed_cidrs": ["198.51.100.0/24"]}, "tls", "is required where exposure is public"),
    (EC2, {"tls": {"certificate": "cert"}}, "tls.certificate", "cert is no ARN, and cloud is aws"),
    (GKE, {"allowed_cidrs": ["198.51.100.0/24"]}, "allowed_cidrs", "means nothing where exposure is private"),
    (EKS, {"admin_cidrs": GONE}, "admin_cidrs", "is required where shape is kubernetes and cloud is aws"),
    (GCE, {"admin_cidrs": ["198.51.100.0/24"]}, "admin_cidrs", "means nothing where shape is vm"),
    (
        EKS,
        {"accelerator": "a100-40", "gpu_sharing": {"strategy": "mig", "clients": 7}},
        "gpu_sharing.strategy",
        "mig is built on GKE alone, and cloud is aws",
    ),
    (GKE, {"admin_cidrs": ["0.0.0.0/0"]}, "admin_cidrs[0]", "0.0.0.0/0 is most of the internet"),
    (LOCAL, {"pins": {"a/b:1": "sha256:" + 64 * "0"}}, "pins", "means nothing where cloud is local"),
    (GKE, {"pins": {"a/b:1": "ami-01234567"}}, "pins.a/b:1", "ami-01234567 is none of its kind; allowed: sha256:…"),
    (EKS, {"pins": {"a/b:1": "1.2.3"}}, "pins.a/b:1", "'1.2.3'"),
    (
        GCE,
        {"pins": {"projects/a/global/images/family/b": "sha256:" + 64 * "0"}},
        "pins.projects/a/global/images/family/b",
        "is none of its kind; allowed: projects/…",
    ),
    (GKE, {**STORE, "backup_uri": "s3://backups"}, "backup_uri", "s3://backups is not a bucket of cloud gcp"),
    (GKE, {"backup_uri": "gs://backups"}, "backup_uri", "means nothing where feature_store is none"),
    (
        GKE,
        {"batch": {"input_uri": "s3://inn", "output_uri": "gs://out"}},
        "batch.input_uri",
        "not a bucket of cloud gcp",
    ),
    (
        GKE,
        {"batch": {"input_uri": "gs://inn", "output_uri": "gs://out", "model": "x"}},
        "batch.model",
        "x is not in models",
    ),
]


def wrong(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for path, value in changes.items():
        base = changed(base, path, value)
    return base


def paths_of_problems(values: dict[str, Any]) -> list[str]:
    try:
        parse(values)
    except SpecError as error:
        return [p.path for p in error.problems]
    return []


@pytest.mark.parametrize(("base", "changes", "path", "words"), ROWS, ids=[f"{r[2]}-{i}" for i, r in enumerate(ROWS)])
def test_wrong_configuration(base: dict[str, Any], changes: dict[str, Any], path: str, words: str) -> None:
    """The problem has its path, what is wrong and what is allowed; its fix applied makes it go, and brings no other."""
    values = wrong(base, changes)
    with pytest.raises(SpecError) as error:
        parse(values)
    (p,) = [p for p in error.value.problems if p.path == path]
    assert words in str(p)
    assert "To fix: " in p.hint
    assert p.fix is not None
    assert path not in paths_of_problems(apply_fix(values, p.fix))


def test_table_is_long_enough() -> None:
    assert len(ROWS) >= 60


def test_problems_of_several_rules_come_together() -> None:
    values = wrong(GKE, {"project": GONE, "admin_cidrs": ["0.0.0.0/0"], "load.peak_rps": 1, "feature_store": "redis"})
    with pytest.raises(SpecError) as error:
        parse(values)
    assert {p.path for p in error.value.problems} == {
        "project",
        "admin_cidrs[0]",
        "load.peak_rps",
        "feature_store",
        "features",
    }


@pytest.mark.parametrize("name", ALL)
def test_sound_ones_have_no_problem(name: str) -> None:
    parse(ALL[name])
