"""How large a feature store has to be: the same numbers for the bill and for what is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from infra.plan.cost import HOURS, Amount, exact
from infra.plan.cost_facts import StoreSize, amount, store_sizes
from infra.plan.modes import numbers
from infra.spec import Features, Problem, Spec
from infra.spec.problems import problem

SECONDS = HOURS * 3600
GIB = Decimal(2**30)


def up(number: Decimal) -> Decimal:
    return number.to_integral_value(ROUND_CEILING)


def features_of(spec: Spec) -> Features:
    return spec.features or Features()


def replicas(spec: Spec) -> int:
    """Copies beside the primary: what was asked for, else what the modes come to."""
    asked = features_of(spec).replicas
    return numbers(spec).store_replicas if asked is None else asked


def engine(spec: Spec) -> str:
    return features_of(spec).engine or {"elasticache": "valkey"}.get(spec.feature_store, "redis")


def entry_bytes(spec: Spec) -> Decimal:
    return features_of(spec).value_bytes + amount("key_overhead_bytes", spec)


def data_bytes(spec: Spec) -> int:
    return int(features_of(spec).keys * entry_bytes(spec))


def data_gib(spec: Spec) -> Decimal:
    return data_bytes(spec) / GIB


def reads(spec: Spec) -> Amount:
    """A month's look-ups; at the peak they grow as the load does."""
    asked = features_of(spec).reads_per_s
    mean = exact(spec.load.mean_rps if asked is None else asked)
    peak = mean * exact(spec.load.peak_rps) / exact(spec.load.mean_rps)
    return Amount.used(mean * SECONDS, max(mean, peak) * SECONDS)


def writes(spec: Spec) -> Amount:
    """A month's updates."""
    written = exact(features_of(spec).writes_per_s) * SECONDS
    return Amount.used(written, written)


def smallest(store: str, variant: str, need: Decimal) -> StoreSize | None:
    """The smallest size in the rows that holds so many GiB."""
    fitting = [s for s in store_sizes() if (s.store, s.variant) == (store, variant) and need <= s.up_to_gib]
    return min(fitting, key=lambda s: s.up_to_gib, default=None)


def memory_gib(spec: Spec) -> Decimal:
    """The data with room to grow."""
    return data_gib(spec) * amount("store_headroom", spec)


def memorystore_gib(spec: Spec) -> int:
    """Size of a Redis instance, in whole GiB; read replicas have a least size of their own."""
    least = amount("memorystore_read_replica_gib", spec) if replicas(spec) > 1 else Decimal(1)
    return int(max(least, up(memory_gib(spec))))


def memorystore_tier(spec: Spec) -> str:
    return "standard" if replicas(spec) else "basic"


def memorystore_size(spec: Spec) -> StoreSize | None:
    """The capacity tier of a Redis instance, or the node type of a Valkey one."""
    if engine(spec) == "valkey":
        return smallest("memorystore", "valkey", memory_gib(spec))
    return smallest("memorystore", memorystore_tier(spec), Decimal(memorystore_gib(spec)))


def elasticache_gib(spec: Spec) -> Decimal:
    """Memory of a node: a part of it stays reserved."""
    return memory_gib(spec) / amount("elasticache_usable", spec)


def elasticache_size(spec: Spec) -> StoreSize | None:
    return smallest("elasticache", engine(spec), elasticache_gib(spec))


def bigtable_nodes(spec: Spec) -> Amount:
    """Nodes of each cluster: for the operations, and for what they store."""
    load = reads(spec).plus(writes(spec)).times(1 / SECONDS)
    each = amount("bigtable_qps_per_node", spec)
    stored = up(data_gib(spec) / amount("bigtable_gib_per_node", spec))
    low, mean, high = (max(Decimal(1), stored, up(x / each)) for x in (load.min, load.expected, load.max))
    return Amount(min=low, expected=mean, max=high)


@dataclass(frozen=True, kw_only=True)
class Units:
    """DynamoDB's request units a second."""

    read: Decimal
    write: Decimal


def dynamodb_units(spec: Spec) -> Units:
    """Of one look-up (eventually consistent: half a unit for each 4 KB) and of one update (a unit for each KB)."""
    entry = entry_bytes(spec)
    return Units(read=up(entry / 4096) / 2, write=up(entry / 1024))


def dynamodb_provisioned(spec: Spec) -> tuple[Amount, Amount] | None:
    """Units a second that autoscaling keeps, for reads and for writes; None: each request is paid."""
    if features_of(spec).capacity != "provisioned":
        return None
    target, units = amount("dynamodb_target", spec), dynamodb_units(spec)

    def kept(requests: Amount, each: Decimal) -> Amount:
        a_second = requests.times(each / SECONDS / target)
        low, mean, high = (max(Decimal(1), up(x)) for x in (a_second.min, a_second.expected, a_second.max))
        return Amount(min=low, expected=mean, max=high)

    return kept(reads(spec), units.read), kept(writes(spec), units.write)


def capacity_gib(spec: Spec) -> Decimal | None:
    """What the planned store can hold; None: it grows by itself."""
    find = _CAPACITY.get(spec.feature_store)
    return find(spec) if find else None


def _memorystore_holds(spec: Spec) -> Decimal:
    size = memorystore_size(spec)
    if engine(spec) == "valkey" or size is None:
        return size.up_to_gib if size else Decimal(0)
    return Decimal(memorystore_gib(spec))


def _elasticache_holds(spec: Spec) -> Decimal:
    size = elasticache_size(spec)
    return size.up_to_gib * amount("elasticache_usable", spec) if size else Decimal(0)


_CAPACITY: Mapping[str, Callable[[Spec], Decimal]] = {
    "memorystore": _memorystore_holds,
    "elasticache": _elasticache_holds,
    "bigtable": lambda spec: bigtable_nodes(spec).max * amount("bigtable_gib_per_node", spec),
}


def too_large(spec: Spec) -> Iterator[Problem]:
    """Data that no size of the store holds."""
    find = {"memorystore": memorystore_size, "elasticache": elasticache_size}.get(spec.feature_store)
    if find is not None and find(spec) is None:
        others = [s for s in ("bigtable", "firestore", "dynamodb") if (s == "dynamodb") == (spec.cloud == "aws")]
        yield problem(
            ("features", "keys"),
            f"{data_gib(spec):.1f} GiB with room are more than the largest {spec.feature_store} of the catalogue holds",
            allowed=others,
            to_fix=f"set feature_store to {others[0]}, or keep fewer or smaller entities",
        )
