"""What an operation on a store costs, said before it begins: rows of the catalogue's fees, and what has no row."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from infra.catalog import Catalog
from infra.plan.cost import Quantities, Unpriced, Use, cost
from infra.plan.cost_store import store_uses
from infra.spec import Spec

GB = Decimal(10**9)
CENT = Decimal("0.01")
BUCKETS = {"gcp": "cloud_storage_standard_regional", "aws": "s3_standard_storage"}
OWN = {  # a backup of the store's own, a month
    "dynamodb": "dynamodb_on_demand_backup_storage",
    "elasticache": "elasticache_backup_storage",
    "valkey": "memorystore_backup_storage",
}
ONCE = {  # (operation, store, to or from a bucket) -> fee of a GB that passes
    ("backup", "dynamodb", True): "dynamodb_export_to_s3",
    ("restore", "dynamodb", False): "dynamodb_table_restore",
    ("restore", "dynamodb", True): "dynamodb_import_from_s3",
}
DOCUMENTS = {"backup": "firestore_document_reads", "restore": "firestore_document_writes"}  # of 100,000
BESIDE = ("dynamodb", "elasticache", "valkey")  # restored into something new, which is billed from then on


def of(
    operation: str, store: str, spec: Spec, catalog: Catalog, *, size: int | None, entities: int, bucket: bool
) -> Iterator[str]:
    """Lines for a person. `size` in bytes as the store says, else as the configuration does."""
    cloud, known = spec.cloud, Decimal(size if size is not None else 0)
    if operation == "backup":
        fee = BUCKETS[cloud] if bucket else OWN[store]
        yield f"it is kept for {_priced(catalog, cloud, fee, known / GB)} a month, until you delete it"
    once = ONCE.get((operation, store, bucket))
    if once is not None:
        yield f"it costs {_priced(catalog, cloud, once, known / GB)} once"
    if store == "firestore":
        documents = Decimal(entities) / 100_000
        kind = "read" if operation == "backup" else "written"
        paid = _priced(catalog, cloud, DOCUMENTS[operation], documents)
        yield f"each document is {kind} once: {paid} for {entities:,}"
    if operation == "restore" and store in BESIDE:
        yield f"what is restored is billed beside the stack's: {_month_text(spec, catalog)} a month as that one is"


def month(spec: Spec, catalog: Catalog) -> Decimal | None:
    """The store's part of the bill; None where a part of it has no price."""
    billed = store_uses(spec)
    found = cost(
        Quantities(
            cloud=spec.cloud,
            region=str(spec.region),
            machines=(),
            uses=tuple(b for b in billed if isinstance(b, Use)),
            unpriced=tuple(b for b in billed if isinstance(b, Unpriced)),
            predictions=Decimal(1),
        ),
        catalog,
    )
    return None if found.unpriced else found.total.expected.quantize(CENT)


def kept(cloud: str, bytes_: int, catalog: Catalog) -> Decimal | None:
    """A month of so many bytes in a bucket."""
    price = catalog.fee(cloud, BUCKETS[cloud]).usd
    return None if price is None else (bytes_ / GB * price).quantize(CENT)


def _month_text(spec: Spec, catalog: Catalog) -> str:
    usd = month(spec, catalog)
    return "a price that the catalogue does not have" if usd is None else f"about ${usd}"


def _priced(catalog: Catalog, cloud: str, fee: str, quantity: Decimal) -> str:
    price = catalog.fee(cloud, fee).usd
    if price is None:
        return "a price that the catalogue does not have"
    return f"about ${max(CENT, (quantity * price).quantize(CENT))}" if quantity else "at least $0.01"
