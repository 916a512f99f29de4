"""Redis as feature store of the local stack: facts, resources, connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.plan import Kind, Plan
from infra.stores.store import key_prefix

if TYPE_CHECKING:
    import pulumi

    from infra.clouds.local.place import Place, Ports

KIND = Kind(
    name="redis",
    unsupported={
        "gcp": "it is a process on this machine; use memorystore, bigtable or firestore.",
        "aws": "it is a process on this machine; use elasticache or dynamodb.",
        "on-prem": "it is a process of the local stack; bring a store of your own.",
    },
)


def url(ports: Ports) -> str:
    """Where servers reach it."""
    return f"redis://127.0.0.1:{ports.redis}/0"


def build(place: Place, plan: Plan) -> list[pulumi.Resource]:
    """The server, and the features in it where the configuration names a file of them: what serving starts after."""
    from infra.clouds.local.resources import FeatureSet, Redis

    opts = place.options(after=[place.supervisor])
    store = Redis("redis", physical=place.name("redis"), port=place.ports.redis, opts=opts)
    made: list[pulumi.Resource] = [store]
    features = plan.spec.features
    if features is not None and features.source is not None:
        opts = place.options(after=[store])
        opts.deleted_with = store
        loaded = FeatureSet(
            "features",
            physical=place.name("features"),
            port=store.port,
            prefix=key_prefix(place.stack),
            source=str(place.project / features.source),
            opts=opts,
        )
        made.append(loaded)
    return made
