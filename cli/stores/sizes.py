"""Sizes that a store has in place, as its configuration plans them: what `resize --now` asks of the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.plan import store as sizes
from infra.spec import Spec


def planned(store: str, spec: Spec) -> Mapping[str, Any]:
    """What the next `up` will ask for as well; nothing for a store that grows by itself."""
    if store == "memorystore":
        return {"memory_size_gb": sizes.memorystore_gib(spec)}
    if store in ("valkey", "elasticache"):
        size = sizes.memorystore_size(spec) if store == "valkey" else sizes.elasticache_size(spec)
        return {"node_type": size.size} if size else {}
    if store == "bigtable":
        nodes = sizes.bigtable_nodes(spec)
        return {"nodes": [int(nodes.min), int(nodes.max)]}
    if store == "dynamodb":
        units = sizes.dynamodb_provisioned(spec)
        if units is not None:
            return {word: [int(u.min), int(u.max)] for word, u in zip(("read", "write"), units, strict=True)}
    return {}
