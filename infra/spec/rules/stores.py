"""Rules of feature stores: what each of them sells."""

from __future__ import annotations

from infra.spec.model import Spec
from infra.spec.rules.registry import PROVIDER, SLIPWAY, Found, no, problem, rule, to

SOLD_BY = {  # what a key of `features` asks for -> the stores that have it
    "engine": ("memorystore", "elasticache"),
    "replicas": ("memorystore", "elasticache", "bigtable"),
    "capacity": ("dynamodb",),
    "ttl_s": ("memorystore", "elasticache", "bigtable", "firestore", "dynamodb"),
}
MOST_REPLICAS = {("memorystore", "valkey"): 2, ("bigtable", None): 1}  # 5 elsewhere


@rule("Engine, replicas, capacity and time to live are of the stores that have them.", PROVIDER)
def store_has_what_is_asked(spec: Spec) -> Found:
    for name, stores in SOLD_BY.items():
        asked = spec.features is not None and getattr(spec.features, name) is not None
        if asked and spec.feature_store != "none" and spec.feature_store not in stores:
            yield problem(
                ("features", name),
                f"means nothing where feature_store is {spec.feature_store}: it is for {', '.join(stores)}",
                fix=no("features", name),
            )


@rule(
    "A Valkey instance has at most two replicas of its shard; Slipway gives Bigtable at most a second cluster.",
    SLIPWAY,
)
def replicas_are_sold(spec: Spec) -> Found:
    if spec.features is None or spec.features.replicas is None:
        return
    most = MOST_REPLICAS.get((spec.feature_store, spec.features.engine), 5)
    if spec.features.replicas > most:
        yield problem(
            ("features", "replicas"),
            f"{spec.features.replicas} are more than {spec.feature_store} has here",
            allowed=(f"0 to {most}",),
            fix=to("features", "replicas", value=most),
        )
