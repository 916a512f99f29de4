"""What a feature store is billed for: its size from the data, its requests from the load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal

from infra.plan.cost import HOURS, Amount, Unpriced, Use, exact
from infra.plan.cost_facts import StoreSize, amount, store_sizes
from infra.spec import Features, Spec

SECONDS = HOURS * 3600
GIB = Decimal(2**30)
MILLION = Decimal(1_000_000)
Billed = Use | Unpriced


def store_uses(spec: Spec, *, replicated: bool) -> tuple[Billed, ...]:
    """`replicated`: a second copy in another zone, where the store sells one."""
    if spec.feature_store == "none":
        return ()
    features = spec.features or Features()
    return tuple(_OF[spec.feature_store](spec, features, replicated))


def _data_gib(spec: Spec, features: Features) -> Decimal:
    return features.keys * _entry(spec, features) / GIB


def _entry(spec: Spec, features: Features) -> Decimal:
    return features.value_bytes + amount("key_overhead_bytes", spec)


def _reads(spec: Spec, features: Features) -> Amount:
    """A month's look-ups; at the peak they grow as the load does."""
    mean = exact(spec.load.mean_rps if features.reads_per_s is None else features.reads_per_s)
    peak = mean * exact(spec.load.peak_rps) / exact(spec.load.mean_rps)
    return Amount.used(mean * SECONDS, max(mean, peak) * SECONDS)


def _writes(features: Features) -> Amount:
    written = exact(features.writes_per_s) * SECONDS
    return Amount.used(written, written)


def _up(number: Decimal) -> Decimal:
    return number.to_integral_value(ROUND_CEILING)


def _smallest(store: str, variant: str, need: Decimal) -> StoreSize | None:
    fitting = [s for s in store_sizes() if (s.store, s.variant) == (store, variant) and need <= s.up_to_gib]
    return min(fitting, key=lambda s: s.up_to_gib, default=None)


def memorystore_gib(spec: Spec, features: Features) -> int:
    """Size of the instance: the data with room, in whole GiB."""
    return int(max(Decimal(1), _up(_data_gib(spec, features) * amount("store_headroom", spec))))


def _memorystore(spec: Spec, features: Features, replicated: bool) -> list[Billed]:
    gib = Decimal(memorystore_gib(spec, features))
    variant = "standard" if replicated else "basic"
    size = _smallest("memorystore", variant, gib)
    if size is None:
        return [Unpriced(item="Memorystore", reason=f"{gib} GiB are more than one instance holds; use another store")]
    return [Use(fee=size.fee, quantity=Amount.of(gib * HOURS), basis=f"{variant} instance of {gib} GiB x 730 h")]


def _elasticache(spec: Spec, features: Features, replicated: bool) -> list[Billed]:
    need = _data_gib(spec, features) * amount("store_headroom", spec) / amount("elasticache_usable", spec)
    size = _smallest("elasticache", "node", need)
    if size is None:
        reason = f"{need:.1f} GiB are more than the largest node type in the catalogue has"
        return [Unpriced(item="ElastiCache node", reason=reason)]
    nodes = 2 if replicated else 1
    return [Use(fee=size.fee, quantity=Amount.of(nodes * HOURS), basis=f"{nodes} nodes x 730 h, {need:.2f} GiB needed")]


def _bigtable(spec: Spec, features: Features, replicated: bool) -> list[Billed]:
    load = _reads(spec, features).plus(_writes(features)).times(1 / SECONDS)
    each = amount("bigtable_qps_per_node", spec)
    low, mean, high = (max(Decimal(1), _up(x / each)) for x in (load.min, load.expected, load.max))
    gib = _data_gib(spec, features)
    nodes = Amount(min=low, expected=mean, max=high)
    basis = f"{low} to {high} nodes x 730 h, {each} operations/s a node"
    return [
        Use(fee="bigtable_node_enterprise", quantity=nodes.times(HOURS), basis=basis),
        Use(fee="bigtable_ssd_storage", quantity=Amount.of(gib * HOURS), basis=f"{gib:.2f} GiB x 730 h"),
    ]


def _firestore(spec: Spec, features: Features, replicated: bool) -> list[Billed]:
    each = 1 / Decimal(100_000)
    return [
        Use(fee="firestore_document_reads", quantity=_reads(spec, features).times(each), basis="one for each look-up"),
        Use(fee="firestore_document_writes", quantity=_writes(features).times(each), basis="one for each update"),
        Use(
            fee="firestore_storage",
            quantity=Amount.of(_data_gib(spec, features)),
            basis=f"{_data_gib(spec, features):.2f} GiB",
        ),
    ]


def _dynamodb(spec: Spec, features: Features, replicated: bool) -> list[Billed]:
    entry = _entry(spec, features)
    read, write = _up(entry / 4096) / 2, _up(entry / 1024)
    stored = Amount.of(features.keys * entry / 10**9)
    basis = "eventually consistent look-ups on demand, half a unit for each 4 KB"
    return [
        Use(
            fee="dynamodb_on_demand_read_request_units",
            quantity=_reads(spec, features).times(read / MILLION),
            basis=basis,
        ),
        Use(
            fee="dynamodb_on_demand_write_request_units",
            quantity=_writes(features).times(write / MILLION),
            basis="updates on demand, a unit for each KB",
        ),
        Use(fee="dynamodb_storage_standard_class", quantity=stored, basis="the entities"),
        Use(fee="dynamodb_point_in_time_recovery_storage", quantity=stored, basis="the entities"),
    ]


_OF: Mapping[str, Callable[[Spec, Features, bool], list[Billed]]] = {
    "memorystore": _memorystore,
    "elasticache": _elasticache,
    "bigtable": _bigtable,
    "firestore": _firestore,
    "dynamodb": _dynamodb,
    "redis": lambda spec, features, replicated: [],  # of this machine: it costs nothing
}
