"""The specification: every key, with its type, range, default and meaning, written here and nowhere else."""

# ruff: noqa: RUF009  -- key() is a field specifier: it makes a dataclasses.field, as field() does
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.spec.accelerator import GPUS, LISTED, TPUS, WORDS, Accelerator, parse_accelerator
from infra.spec.containers import ListOf, MapOf
from infra.spec.structure import REQUIRED, ByCloud, Structure, key
from infra.spec.values import Choice, Cidr, Flag, Number, Parsed, Text, Whole

NAME = r"[a-z]([-_a-z0-9]{0,38}[a-z0-9])?"
STORES = ("none", "memorystore", "bigtable", "firestore", "dynamodb", "elasticache", "redis")
FORMATS = ("onnx", "tensorrt", "pytorch", "openvino", "python", "savedmodel")
URI = r"(gs|s3)://[a-z0-9][-._a-z0-9]{1,61}[a-z0-9](/[^\s\x00-\x1f]*)?"
STORAGE = rf"{URI}|(?![a-z0-9]+:/)[^\s\x00-\x1f][^\x00-\x1f]*"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Service time of a batch of b: tau(b) = base_ms + per_item_ms * b."""

    base_ms: float = key(Number(low=0.001, high=60_000, unit="ms"), "What a batch costs however small it is.")
    per_item_ms: float = key(Number(low=0.0001, high=60_000, unit="ms"), "What each item of a batch adds.")


@dataclass(frozen=True, kw_only=True)
class Model:
    name: str = key(
        Text(pattern=NAME, form="lower-case letters, digits, - and _, at most 40", sample="digits"),
        "Name under which it is asked.",
    )
    version: int = key(Whole(low=1, high=1_000_000), "Version; a name may stand here in several versions.", default=1)
    storage_uri: str = key(
        Text(pattern=STORAGE, form="gs://bucket/path, s3://bucket/path or a local path", sample="models/digits.onnx"),
        "Where its files are: a bucket that you own, or a local path (a file or a folder) that the stack uploads.",
    )
    format: str = key(Choice(words=FORMATS), "Format of its files.", default="onnx")
    size_mib: float = key(Number(low=0.001, high=200_000, unit="MiB"), "Size of its files.", default=1.0)
    memory_mib: float | None = key(
        Number(low=0.001, high=1_000_000, unit="MiB"),
        "Memory of one loaded instance; unset: twice its files and 300 MiB for the runtime's own.",
        default=None,
    )
    max_batch: int = key(Whole(low=1, high=64), "Largest batch that it takes at once.", default=32)
    profile: Mapping[str, Profile] = key(
        MapOf(name=Choice(words=("vcpu", *GPUS, *TPUS)), item=Structure(Profile), at_least=1),
        "Measured service time on each kind of processor that may serve it; `slipway profile` measures one.",
    )
    accuracy: float | None = key(
        Number(low=0, high=1),
        "Measured accuracy; of the versions that pass every gate the most accurate is served.",
        default=None,
    )
    share: float | None = key(
        Number(low=0, high=1), "Its part of the load; unset: an even part of what the others leave.", default=None
    )
    labels: Mapping[str, int] = key(
        MapOf(
            name=Text(pattern="[a-zA-Z0-9_]{1,40}", form="letters, digits and _", sample="canary"),
            item=Whole(low=1, high=1_000_000),
        ),
        "Names of versions, such as {stable: 1, canary: 2}.",
        default={},
    )

    @property
    def instance_memory_mib(self) -> float:
        return self.memory_mib if self.memory_mib is not None else 2 * self.size_mib + 300


@dataclass(frozen=True, kw_only=True)
class Load:
    mean_rps: float = key(Number(low=0.001, high=10_000_000, unit="requests/s"), "Mean load over a month.")
    peak_rps: float = key(Number(low=0.001, high=10_000_000, unit="requests/s"), "Load that must be carried.")
    burst_cv: float = key(
        Number(low=1, high=4), "Coefficient of variation of the gaps between requests; 1 is Poisson.", default=1.0
    )


@dataclass(frozen=True, kw_only=True)
class Slo:
    p99_ms: float = key(Number(low=0.1, high=600_000, unit="ms"), "99 of 100 requests are answered within this.")
    model_mib: float = key(
        Number(low=0.001, high=200_000, unit="MiB"), "Gate: no served model is larger.", default=200_000.0
    )
    accelerator_utilization: float = key(
        Number(low=0.05, high=0.95), "Gate: part of the time that a processor may be busy at the peak.", default=0.9
    )
    accelerator_memory: float = key(
        Number(low=0.05, high=0.95), "Gate: part of an accelerator's (or host's) memory that may be used.", default=0.9
    )


@dataclass(frozen=True, kw_only=True)
class Features:
    source: str | None = key(
        Text(form="path of an .npz file", sample="features.npz", pattern=r"[^\x00-\x1f]+\.npz"),
        "File that `up` loads into the store.",
        default=None,
    )
    keys: int = key(Whole(low=1, high=100_000_000_000), "Number of entities.", default=1000)
    value_bytes: int = key(Whole(low=1, high=400_000, unit="bytes"), "Size of one entity's features.", default=256)
    reads_per_s: float | None = key(
        Number(low=0, high=10_000_000), "Look-ups a second; unset: one for each request of the load.", default=None
    )
    writes_per_s: float = key(Number(low=0, high=10_000_000), "Updates a second.", default=0.0)
    on_failure: str = key(
        Choice(words=("error", "default")),
        "What a prediction by id does when the store does not answer: fail, or go on with zeros.",
        default="error",
    )
    ttl_s: int | None = key(
        Whole(low=60, high=1_000_000_000, unit="s"),
        "How long the store keeps an entity after its last update; unset: until it is overwritten.",
        default=None,
    )
    engine: str | None = key(
        Choice(words=("redis", "valkey")),
        "Engine of memorystore or elasticache; unset: Redis on Memorystore, Valkey on ElastiCache.",
        default=None,
    )
    replicas: int | None = key(
        Whole(low=0, high=5),
        "Copies beside the primary, where a store sells them; unset: what the cost mode asked for when it was made.",
        default=None,
    )
    capacity: str | None = key(
        Choice(words=("on-demand", "provisioned")),
        "How dynamodb sells requests: each, or so many a second with autoscaling; unset: the cheaper for this load.",
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class Tls:
    certificate: str = key(
        Text(form="id or ARN of the cloud's certificate", sample="serving-certificate"),
        "Certificate of the public entry, as the cloud names it.",
    )


@dataclass(frozen=True, kw_only=True)
class Batch:
    input_uri: str = key(Text(pattern=URI, form="gs:// or s3:// address", sample="gs://data/in"), "What is predicted.")
    output_uri: str = key(Text(pattern=URI, form="gs:// or s3:// address", sample="gs://data/out"), "Where it goes.")
    model: str | None = key(
        Text(pattern=NAME, form="name of a model", sample="digits"), "Which model; unset: the first.", default=None
    )
    schedule: str | None = key(
        Text(pattern=r"[-0-9*/,]+( [-0-9A-Za-z*/,]+){4}", form="five cron fields", sample="0 3 * * *"),
        "When; unset: once, on demand.",
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class GpuSharing:
    strategy: str = key(
        Choice(words=("none", "time-slicing", "mps", "mig")),
        "How pods share a GPU; mig: in partitions.",
        default="none",
    )
    clients: int = key(Whole(low=1, high=48), "Pods a GPU.", default=1)


def _accelerator() -> Parsed[Accelerator]:
    return Parsed(
        parse=parse_accelerator, form="a name such as l4, l4x2 or v6e-4", sample="none", words=WORDS, listed=LISTED
    )


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One stack."""

    cloud: str = key(Choice(words=("gcp", "aws", "local", "on-prem")), "Where it runs.")
    shape: str = key(
        Choice(words=("kubernetes", "vm")),
        "Pods on a cluster, or groups of virtual machines.",
        default=ByCloud(cloud="local", value="vm", otherwise="kubernetes"),
    )
    region: str = key(
        Text(pattern="[a-z]+(-[a-z0-9]+)*", form="a region's name", sample="us-central1"),
        "Region of everything in the stack.",
        default=ByCloud(cloud="local", value="local", otherwise=REQUIRED),
    )
    zones: tuple[str, ...] = key(
        ListOf(item=Text(pattern="[a-z]+-[-a-z0-9]+", form="a zone's name", sample="us-central1-a")),
        "Zones of the pools; unset: those of the region that sell the planned machine.",
        default=(),
    )
    project: str | None = key(
        Text(pattern="[a-z][-a-z0-9]{4,28}[a-z0-9]", form="a project id", sample="my-project"),
        "Project of Google Cloud that pays.",
        default=None,
    )
    scaling: str = key(
        Choice(words=("horizontal", "vertical")),
        "More replicas of one size, or the same few on a bigger machine.",
        default="horizontal",
    )
    cost: str = key(
        Choice(words=("economy", "balanced", "performance")),
        "What to prefer where the SLO leaves a choice: the bill, a middle way, or spare capacity.",
        default="balanced",
    )
    accelerator: Accelerator = key(
        _accelerator(), "What computes; `auto` lets the plan mix machines.", default=Accelerator(name="none")
    )
    gpu_sharing: GpuSharing = key(
        Structure(GpuSharing), "Several pods on one GPU.", default=GpuSharing(strategy="none", clients=1)
    )
    server: str = key(Choice(words=("triton", "tf-serving")), "Model server.", default="triton")
    image: str | None = key(
        Text(pattern=r"[-a-zA-Z0-9._/:@]{3,300}", form="an image reference", sample="example/server:1"),
        "Image of the server instead of the catalogue's; needed on a TPU.",
        default=None,
    )
    pins: Mapping[str, str] = key(
        MapOf(
            name=Text(
                pattern=r"[-a-zA-Z0-9._/:]{3,300}",
                form="an image's name, a parameter or a family",
                sample="example/a:1",
            ),
            item=Text(
                pattern=r"sha256:[0-9a-f]{64}|ami-[0-9a-f]{8,17}|projects/[-a-z0-9]+/global/images/[-a-z0-9]+",
                form="sha256:digest or an image's id",
                sample="sha256:" + 64 * "0",
            ),
        ),
        "What names that may move stand for; `slipway pin` reads and writes it.",
        default={},
    )
    feature_store: str = key(
        Choice(words=STORES), "Store of the features that predictions by id look up.", default="none"
    )
    features: Features | None = key(Structure(Features), "What is in the store and how it is used.", default=None)
    models: tuple[Model, ...] = key(ListOf(item=Structure(Model), at_least=1), "The models; all share each server.")
    model_access: str = key(
        Choice(words=("direct", "sync", "mount")),
        "How servers get the files: from the bucket itself, a copy made at start, or a mounted volume.",
        default="direct",
    )
    load: Load = key(Structure(Load), "Requests a second.")
    slo: Slo = key(Structure(Slo), "What the plan must keep.")
    max_request_s: float = key(
        Number(low=0.1, high=600, unit="s"), "Longest allowed request; drains wait this long.", default=5.0
    )
    budget_usd_per_month: float | None = key(
        Number(low=0.01, high=100_000_000, unit="USD"), "Refuse a plan whose worst month costs more.", default=None
    )
    exposure: str = key(Choice(words=("private", "public")), "From where the entry can be reached.", default="private")
    allowed_cidrs: tuple[str, ...] = key(ListOf(item=Cidr()), "Who may reach a public entry.", default=())
    admin_cidrs: tuple[str, ...] = key(
        ListOf(item=Cidr()),
        "Who may reach the control plane by address; unset, on GKE alone: whom IAM lets in, by its DNS endpoint.",
        default=(),
    )
    tls: Tls | None = key(Structure(Tls), "Certificate of the entry; a public one needs it.", default=None)
    kubernetes_version: str | None = key(
        Text(pattern=r"1\.[0-9]{2}", form="a minor version such as 1.34", sample="1.34"),
        "Version of the cluster; unset: the catalogue's.",
        default=None,
    )
    workload_identity: str = key(
        Choice(words=("irsa", "pod-identity")),
        "Pods on AWS only: how they get their rights.",
        default="irsa",
    )
    machine_type: str | None = key(
        Text(pattern="[a-z][-a-z0-9.]{1,40}", form="a machine type of the cloud", sample="n2-standard-4"),
        "The only machine type to consider; unset: every one of the catalogue.",
        default=None,
    )
    protect: bool = key(Flag(), "Stores and cluster refuse deletion.", default=False)
    backup_uri: str | None = key(
        Text(pattern=URI, form="gs:// or s3:// address", sample="gs://backups/slipway"),
        "Where `destroy --backup` puts the stores' content; not owned by the stack.",
        default=None,
    )
    batch: Batch | None = key(Structure(Batch), "Predictions of a whole data set, beside the serving.", default=None)
    port: int = key(
        Whole(low=1024, high=65400),
        "Local only: HTTP entry; the other ports follow (+1 gRPC, +2 Redis, +9 Envoy's admin, +10 the servers).",
        default=18000,
    )
    local_vcpus: int = key(Whole(low=1, high=256), "Local only: vCPUs that the plan may use.", default=2)
