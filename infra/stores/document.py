"""docs/stores.md, written from the rows of the stores, the sizes that are planned and the catalogue's prices."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from infra.catalog import Catalog, load
from infra.plan import store as sizes
from infra.plan.cost import Quantities, Unpriced, Use, cost
from infra.plan.cost_store import store_uses
from infra.spec import Spec, parse
from infra.stores import alarms
from infra.stores.store import fields

HEAD = """# Feature stores

Written by `python -m infra.stores.document > docs/stores.md`; a test keeps it so. `slipway:feature_store` chooses one;
the model server's `<model>_by_id` looks entities up in it, with one deadline for all and a bounded cache in front
(`serving/features.py`).

## Which one

"""
CHOICE = """\
Latency and limits are the vendors' statements, not measured here. In short: what fits memory and may be loaded
anew goes to memorystore or elasticache; what must not be lost, or is larger, to dynamodb or bigtable; few look-ups a
day to firestore or dynamodb, which cost next to nothing while nobody asks. Entities that expire (`features.ttl_s`) are
not answered from then on, though the stores delete them later."""
PROTECTION = """\
A store is part of no generation: no switch and no cost mode replaces it. What it was made with is recorded in the
stack's output `store`; the next run takes these fields from there, and `ignore_changes` holds them where the record was
lost. A change of a key below is refused before any resource, with its way out; the other fields are Slipway's own and
stay as they were made. Memory and nodes change in place; less than what the store was ever sized for is refused.
`slipway:protect: true` protects a store in Pulumi and in its cloud. Sources P-GCP-9.35 and P-AWS-5.100 are the
providers' own plans, measured with one field changed at a time."""
OPERATIONS = """\
`slipway store status|backup|restore|resize|failover|maintenance STACK`, each through the cloud's own client in a
process of its own. An operation of minutes or hours tells how it goes, and is gone on with by the same command after
this side was cut off: its name is kept in `.slipway/operations-STACK.json`, and what a killed run did not write down is
found again by its target. What it costs is said first, from the catalogue."""
AROUND = """\
`--export` puts a copy below `backup_uri`, which no stack owns: `BACKUP_URI/STACK/NAME/`. It is read again and counted,
and only a whole one gets its `slipway.json`. `slipway destroy STACK --backup` does the same and starts the destroy
only then; one that was cut off goes on with the same backup. Then the account is looked at: `destroy` fails with a list
if anything billable is left, and says so where nobody could look. Backups are no leftovers: `slipway sweep STACK` lists
them with their monthly cost and the command that removes them.

`slipway store resize STACK --keys N` sets the numbers that the store is sized from in the configuration, and with
`--now` asks the cloud for that size at once: the next `up` asks for the same, so that it undoes nothing. Fewer entities
than the store was ever sized for are refused, as by `up`.

`slipway features load|verify STACK [FILE]` write an .npz file's entities and look each of them up; `slipway features
get STACK ID...` shows entities; `slipway features stats STACK ID...|--from FILE` says how a stream of ids fares: what
is missing, the hit rate of a cache as the servers', times, and what the servers' own caches counted. bigtable,
firestore and dynamodb answer here with credentials. memorystore and elasticache answer inside the network alone: on
Kubernetes these commands start a Job that carries their connections (docs/adr/0009) and take it away again; on machines
of EC2 Session Manager leads there; on Compute Engine a small machine is made for the command, reached by Identity-Aware
Proxy, and deleted. Valkey asks who runs the command for the role `roles/memorystore.dbConnectionUser`. A load goes on
where it was cut off.

A machine reads the password of its store by itself: from Secret Manager, or the encrypted parameter of Systems
Manager, with a right to that one secret."""
LOADS = (  # name, entities, bytes of each, look-ups and updates a second
    ("small", 100_000, 256, 20, 1),
    ("middle", 2_000_000, 512, 500, 50),
    ("large", 50_000_000, 1024, 10_000, 500),
)
CASES: tuple[tuple[str, str, str, dict[str, object], str], ...] = (  # store, cloud, region, features, title
    ("memorystore", "gcp", "us-central1", {}, "memorystore, basic"),
    ("memorystore", "gcp", "us-central1", {"replicas": 1}, "memorystore, standard"),
    ("bigtable", "gcp", "us-central1", {}, "bigtable, one cluster"),
    ("bigtable", "gcp", "us-central1", {"replicas": 1}, "bigtable, two clusters"),
    ("firestore", "gcp", "us-central1", {}, "firestore"),
    ("dynamodb", "aws", "us-east-1", {}, "dynamodb, on demand"),
    ("dynamodb", "aws", "us-east-1", {"capacity": "provisioned"}, "dynamodb, provisioned"),
    ("elasticache", "aws", "us-east-1", {}, "elasticache (Valkey), one node"),
    ("elasticache", "aws", "us-east-1", {"replicas": 1}, "elasticache (Valkey), two nodes"),
)
COLUMNS = ("store", "where", "latency", "consistency", "survives", "scales", "limits", "clients", "source")


def markdown() -> str:
    return (
        HEAD
        + "\n".join([*_choice(), "", *_costs(load()), "", *_protection(), "", *_alarms(), "", *_operations()])
        + "\n"
    )


def _rows(name: str) -> list[dict[str, str]]:
    with Path(__file__).with_name(name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _choice() -> Iterator[str]:
    yield from _table(COLUMNS, (tuple(r[c] for c in COLUMNS) for r in _rows("choice.csv")))
    yield ""
    yield CHOICE


def _costs(catalog: Catalog) -> Iterator[str]:
    yield "## What they cost"
    yield ""
    named = [
        f"{n}: {keys:,} entities of {size} bytes, {r:,} look-ups/s, {w:,} updates/s" for n, keys, size, r, w in LOADS
    ]
    yield f"USD a month at the mean load, by the catalogue's prices (us-central1, us-east-1). {'; '.join(named)}."
    yield "A figure with + leaves out what the catalogue has no price for; — does not fit."
    yield ""
    yield from _table(
        ("store", *(n for n, *_ in LOADS)),
        (
            (title, *(_month(s, cloud, region, more, x, catalog) for x in LOADS))
            for s, cloud, region, more, title in CASES
        ),
    )


def _spec(store: str, cloud: str, region: str, more: dict[str, object], one: tuple[str, int, int, int, int]) -> Spec:
    _, keys, size, reads, writes = one
    scheme = {"gcp": "gs", "aws": "s3"}[cloud]
    profile = {"vcpu": {"base_ms": 1, "per_item_ms": 1}}
    values: dict[str, object] = {
        "cloud": cloud,
        "region": region,
        "shape": "vm",
        "cost": "economy",
        "feature_store": store,
        "models": [{"name": "m", "storage_uri": f"{scheme}://models/m", "profile": profile}],
        "load": {"mean_rps": reads, "peak_rps": 3 * reads},
        "slo": {"p99_ms": 100},
        "features": {"keys": keys, "value_bytes": size, "writes_per_s": writes, **more},
        **({"project": "my-project"} if cloud == "gcp" else {}),
    }
    return parse(values)


def _month(
    store: str, cloud: str, region: str, more: dict[str, object], one: tuple[str, int, int, int, int], catalog: Catalog
) -> str:
    spec = _spec(store, cloud, region, more, one)
    if any(sizes.too_large(spec)):
        return "—"
    billed = store_uses(spec)
    found = cost(
        Quantities(
            cloud=cloud,
            region=region,
            machines=(),
            uses=tuple(b for b in billed if isinstance(b, Use)),
            unpriced=tuple(b for b in billed if isinstance(b, Unpriced)),
            predictions=Decimal(1),
        ),
        catalog,
    )
    return f"{found.total.expected:,.0f}{'+' if found.unpriced else ''}"


def _protection() -> Iterator[str]:
    yield "## What no update does"
    yield ""
    yield PROTECTION
    yield ""
    asked = [f for f in fields() if f.key]
    kept = sorted(
        {
            f"`{f.type.rpartition(':')[0].removeprefix('gcp:').removeprefix('aws:')}` {f.path}"
            for f in fields()
            if not f.key
        }
    )
    yield from _table(
        ("key", "field", "what would be lost", "the way", "source"),
        ((f.key, f"{f.type} {f.path}", f.reason, f.way, f.source) for f in asked),
    )
    yield ""
    yield f"Held as made: {', '.join(kept)}."


def _alarms() -> Iterator[str]:
    yield "## Alarms"
    yield ""
    yield "Declared with the store; who is told is yours to add (notification channels, alarm actions)."
    yield ""
    every = [
        r for s in ("memorystore", "valkey", "bigtable", "firestore", "dynamodb", "elasticache") for r in alarms.rows(s)
    ]
    yield from _table(
        ("store", "metric", "when", "why", "source"),
        (
            (
                r["store"],
                r["metric"],
                f"{r['statistic']} > {r['threshold']} for {r['seconds']} s",
                r["why"],
                r["source"],
            )
            for r in every
        ),
    )


def _operations() -> Iterator[str]:
    yield "## Operations"
    yield ""
    yield OPERATIONS
    yield ""
    rows = _rows("operations.csv")
    yield from _table(tuple(rows[0]), (tuple(r.values()) for r in rows))
    yield ""
    yield AROUND


if __name__ == "__main__":
    sys.stdout.write(markdown())
