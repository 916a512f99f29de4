"""Rules of models: what a server takes, where files come from, versions and shares."""

from __future__ import annotations

from infra.spec.model import Spec
from infra.spec.plain import plain
from infra.spec.rules.cloud import SCHEMES
from infra.spec.rules.registry import SLIPWAY, TF_SERVING, TRITON, Found, no, problem, rule, to

CPU_FORMATS = ("openvino",)  # no GPU execution in the backend's stock build


@rule("TensorFlow was taken out of Triton's builds on 2025-04-07, after 25.03.", TRITON)
def triton_has_no_savedmodel(spec: Spec) -> Found:
    for i, m in enumerate(spec.models):
        if spec.server == "triton" and m.format == "savedmodel":
            yield problem(
                ("models", i, "format"),
                "savedmodel cannot be served by server triton, which has no TensorFlow since 25.03",
                allowed=("onnx", "tensorrt", "pytorch", "openvino", "python", "or server tf-serving"),
                fix=to("models", i, "format", value="onnx"),
            )


@rule("TF Serving loads SavedModels; its TFLite loader is experimental.", TF_SERVING)
def tf_serving_takes_savedmodel(spec: Spec) -> Found:
    for i, m in enumerate(spec.models):
        if spec.server == "tf-serving" and m.format != "savedmodel":
            yield problem(
                ("models", i, "format"),
                f"{m.format} cannot be served by server tf-serving",
                allowed=("savedmodel", "or server triton"),
                fix=to("models", i, "format", value="savedmodel"),
            )


@rule("The stock TF Serving images have no s3 file system since 2.7 (issues 1963, 2062).", TF_SERVING)
def tf_serving_cannot_read_s3(spec: Spec) -> Found:
    for i, m in enumerate(spec.models):
        if spec.server == "tf-serving" and m.storage_uri.startswith("s3://") and spec.model_access == "direct":
            yield problem(
                ("model_access",),
                f"direct does not work: server tf-serving cannot read models[{i}].storage_uri, {m.storage_uri}",
                allowed=("sync", "mount"),
                fix=to("model_access", value="sync"),
            )
            return


@rule("Buckets of the other cloud would need long-lived keys in the stack.", SLIPWAY)
def bucket_is_of_the_cloud(spec: Spec) -> Found:
    for i, m in enumerate(spec.models):
        scheme = m.storage_uri.split("://")[0] + "://" if "://" in m.storage_uri else ""
        own = SCHEMES.get(spec.cloud, "")
        if scheme and scheme != own and spec.cloud != "on-prem":
            moved = m.storage_uri.replace(scheme, own) if own else m.storage_uri.replace(scheme, "models/")
            yield problem(
                ("models", i, "storage_uri"),
                f"{scheme} cannot be read where cloud is {spec.cloud}",
                allowed=tuple(x for x in (own, "a local path") if x),
                fix=to("models", i, "storage_uri", value=moved),
            )


@rule("A TensorRT plan runs on GPUs of the compute capability that it was built for.", TRITON)
def tensorrt_needs_its_gpu(spec: Spec) -> Found:
    for i, m in enumerate(spec.models):
        if m.format == "tensorrt" and not spec.accelerator.is_gpu:
            yield problem(
                ("models", i, "format"),
                f"tensorrt needs one kind of GPU, and accelerator is {spec.accelerator}",
                allowed=("onnx", "or an accelerator such as l4"),
                fix=to("models", i, "format", value="onnx"),
            )


@rule("The OpenVINO backend computes on the CPU.", TRITON)
def openvino_needs_the_cpu(spec: Spec) -> Found:
    for i, m in enumerate(spec.models):
        if m.format in CPU_FORMATS and spec.accelerator.name != "none":
            yield problem(
                ("models", i, "format"),
                f"{m.format} computes on the CPU, and accelerator is {spec.accelerator}",
                allowed=("onnx", "or accelerator none"),
                fix=to("models", i, "format", value="onnx"),
            )


@rule("Two models of one name and version cannot be told apart.", TRITON)
def versions_differ(spec: Spec) -> Found:
    seen: dict[tuple[str, int], int] = {}
    for i, m in enumerate(spec.models):
        first = seen.setdefault((m.name, m.version), i)
        if first != i:
            free = max(x.version for x in spec.models if x.name == m.name) + 1
            yield problem(
                ("models", i, "version"),
                f"{m.name} version {m.version} is already models[{first}]",
                fix=to("models", i, "version", value=free if free <= 1_000_000 else _gap(spec, m.name)),
            )


def _gap(spec: Spec, name: str) -> int:
    taken = {m.version for m in spec.models if m.name == name}
    return next(v for v in range(1, 1_000_001) if v not in taken)


@rule(
    "Between versions the plan takes the most accurate that passes the gates: each needs a measured accuracy.", SLIPWAY
)
def versions_have_accuracy(spec: Spec) -> Found:
    for i, m in enumerate(spec.models):
        others = [x for x in spec.models if x.name == m.name]
        if len(others) > 1 and m.accuracy is None and not any(x.labels for x in others):
            yield problem(
                ("models", i, "accuracy"),
                f"is required: models has {len(others)} versions of {m.name}, and one of them is chosen by it",
                to_fix=f"set models[{i}].accuracy to what was measured, from 0 to 1",
                fix=to("models", i, "accuracy", value=0.5),
            )


@rule("A label points to a version that is loaded.", TF_SERVING)
def labels_point_to_versions(spec: Spec) -> Found:
    for i, m in enumerate(spec.models):
        versions = sorted({x.version for x in spec.models if x.name == m.name})
        for label, version in m.labels.items():
            if version not in versions:
                yield problem(
                    ("models", i, "labels", label),
                    f"points to version {version} of {m.name}, which models does not have",
                    allowed=[str(v) for v in versions],
                    fix=to("models", i, "labels", label, value=versions[-1]),
                )


@rule("The versions of a model take the place of one another, so they have one share.", SLIPWAY)
def versions_have_one_share(spec: Spec) -> Found:
    first: dict[str, int] = {}
    for i, m in enumerate(spec.models):
        j = first.setdefault(m.name, i)
        share = spec.models[j].share
        if m.share != share:
            fix = no("models", i, "share") if share is None else to("models", i, "share", value=share)
            yield problem(
                ("models", i, "share"), f"{m.share} differs from models[{j}].share, {share}, of the same model", fix=fix
            )


@rule("The shares are parts of one load.", SLIPWAY)
def shares_are_parts(spec: Spec) -> Found:
    shares = {m.name: m.share for m in spec.models}
    stated = [s for s in shares.values() if s is not None]
    total = sum(stated)
    if len(stated) == len(shares) and abs(total - 1) > 1e-6:
        reason = f"the shares of all models add up to {total:g}, not 1"
    elif total > 1 + 1e-6:
        reason = f"the shares add up to {total:g}, more than the load"
    else:
        return
    even = [{k: v for k, v in plain(m).items() if k != "share"} for m in spec.models]
    yield problem(
        ("models",), reason, to_fix="take models[].share away, or let them add up to 1", fix=to("models", value=even)
    )


@rule("Predictions by id are served as <model>_by_id beside each model.", SLIPWAY)
def by_id_names_are_free(spec: Spec) -> Found:
    names = {m.name for m in spec.models}
    for i, m in enumerate(spec.models):
        if spec.feature_store != "none" and m.name.endswith("_by_id") and m.name[: -len("_by_id")] in names:
            yield problem(
                ("models", i, "name"),
                f"{m.name} is the name of the predictions by id that feature_store {spec.feature_store} adds",
                fix=to("models", i, "name", value=(m.name[:38] + "-m")),
            )


@rule(
    "Rates within the SLO come from a measured service time on the processor that serves.",
    "Inoue 2021, arxiv.org/abs/1912.06322",
)
def profile_covers_the_processor(spec: Spec) -> Found:
    asked = {"none": "vcpu"}.get(spec.accelerator.name, spec.accelerator.name)
    if asked == "auto":
        if not set.intersection(*(set(m.profile) for m in spec.models)):
            missing = next(iter(spec.models[0].profile))
            i = next(i for i, m in enumerate(spec.models) if missing not in m.profile)
            yield problem(
                ("models", i, "profile"),
                "no processor has a profile of every model, and accelerator auto needs one that has",
                to_fix="measure every model on one kind of processor: `slipway profile`",
                fix=to("models", i, "profile", missing, value={"base_ms": 1.0, "per_item_ms": 1.0}),
            )
        return
    for i, m in enumerate(spec.models):
        if asked not in m.profile:
            yield problem(
                ("models", i, "profile"),
                f"has {', '.join(sorted(m.profile))}, and accelerator {spec.accelerator} needs {asked}",
                allowed=(asked,),
                to_fix=f"measure it with `slipway profile` and set models[{i}].profile.{asked}",
                fix=to("models", i, "profile", asked, value={"base_ms": 1.0, "per_item_ms": 1.0}),
            )
