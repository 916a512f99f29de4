"""What a feature store is billed for: its size from the data, its requests from the load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from infra.plan import store
from infra.plan.cost import HOURS, Amount, Unpriced, Use
from infra.spec import Spec

MILLION = Decimal(1_000_000)
Billed = Use | Unpriced


def store_uses(spec: Spec) -> tuple[Billed, ...]:
    """Lines of the stack's store: its sizes are those that are built."""
    return () if spec.feature_store == "none" else tuple(_OF[spec.feature_store](spec))


def _memorystore(spec: Spec) -> list[Billed]:
    size, copies = store.memorystore_size(spec), store.replicas(spec)
    if size is None:
        reason = f"{store.memory_gib(spec):.1f} GiB are more than one instance holds; use another store"
        return [Unpriced(item="Memorystore", reason=reason)]
    if store.engine(spec) == "valkey":
        nodes = Amount.of((1 + copies) * HOURS)
        return [Use(fee=size.fee, quantity=nodes, basis=f"{1 + copies} {size.size} nodes x 730 h")]
    password: list[Billed] = []
    if spec.shape == "vm":  # pods have it from their cluster
        one = Amount.of(Decimal(1))
        password = [Use(fee="secret_manager_version", quantity=one, basis="its password, which machines ask for")]
    if copies > 1:
        reason = f"no price of a standard instance with {copies} read replicas in the catalogue"
        return [Unpriced(item="Memorystore", reason=reason), *password]
    gib = store.memorystore_gib(spec)
    basis = f"{store.memorystore_tier(spec)} instance of {gib} GiB x 730 h"
    return [Use(fee=size.fee, quantity=Amount.of(gib * HOURS), basis=basis), *password]


def _elasticache(spec: Spec) -> list[Billed]:
    need, size, nodes = store.elasticache_gib(spec), store.elasticache_size(spec), 1 + store.replicas(spec)
    if size is None:
        reason = f"{need:.1f} GiB are more than the largest node type in the catalogue has"
        return [Unpriced(item="ElastiCache node", reason=reason)]
    return [Use(fee=size.fee, quantity=Amount.of(nodes * HOURS), basis=f"{nodes} nodes x 730 h, {need:.2f} GiB needed")]


def _bigtable(spec: Spec) -> list[Billed]:
    nodes, clusters = store.bigtable_nodes(spec), 1 + store.replicas(spec)
    gib = store.data_gib(spec)
    each = f"{nodes.min} to {nodes.max} nodes" + (f" in each of {clusters} clusters" if clusters > 1 else "")
    return [
        Use(fee="bigtable_node_enterprise", quantity=nodes.times(HOURS * clusters), basis=f"{each} x 730 h"),
        Use(
            fee="bigtable_ssd_storage",
            quantity=Amount.of(gib * HOURS * clusters),
            basis=f"{gib:.2f} GiB x 730 h" + (f" x {clusters} clusters" if clusters > 1 else ""),
        ),
    ]


def _firestore(spec: Spec) -> list[Billed]:
    each, gib = 1 / Decimal(100_000), store.data_gib(spec)
    return [
        Use(fee="firestore_document_reads", quantity=store.reads(spec).times(each), basis="one for each look-up"),
        Use(fee="firestore_document_writes", quantity=store.writes(spec).times(each), basis="one for each update"),
        Use(fee="firestore_storage", quantity=Amount.of(gib), basis=f"{gib:.2f} GiB"),
    ]


def _dynamodb(spec: Spec) -> list[Billed]:
    stored = Amount.of(Decimal(store.data_bytes(spec)) / 10**9)
    return [
        *(_dynamodb_requests(spec) if store.dynamodb_provisioned(spec) is None else _dynamodb_capacity(spec)),
        Use(fee="dynamodb_storage_standard_class", quantity=stored, basis="the entities"),
        Use(fee="dynamodb_point_in_time_recovery_storage", quantity=stored, basis="the entities"),
    ]


def _dynamodb_requests(spec: Spec) -> list[Billed]:
    units = store.dynamodb_units(spec)
    return [
        Use(
            fee="dynamodb_on_demand_read_request_units",
            quantity=store.reads(spec).times(units.read / MILLION),
            basis="eventually consistent look-ups on demand, half a unit for each 4 KB",
        ),
        Use(
            fee="dynamodb_on_demand_write_request_units",
            quantity=store.writes(spec).times(units.write / MILLION),
            basis="updates on demand, a unit for each KB",
        ),
    ]


def _dynamodb_capacity(spec: Spec) -> list[Billed]:
    kept = store.dynamodb_provisioned(spec)
    assert kept is not None
    return [
        Use(fee=f"dynamodb_provisioned_{kind}_capacity", quantity=units.times(HOURS), basis="units x 730 h, autoscaled")
        for kind, units in zip(("read", "write"), kept, strict=True)
    ]


_OF: Mapping[str, Callable[[Spec], list[Billed]]] = {
    "memorystore": _memorystore,
    "elasticache": _elasticache,
    "bigtable": _bigtable,
    "firestore": _firestore,
    "dynamodb": _dynamodb,
    "redis": lambda spec: [],  # of this machine: it costs nothing
}
