"""Prices of Compute Engine from the Cloud Billing Catalog API: vCPUs, memory and accelerators are SKUs apart."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from cli.errors import USAGE, CliError
from cli.google import session
from cli.prices.rows import Quote, Wanted
from infra.catalog import Catalog

SKUS = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"  # those of Compute Engine
SOURCE = "Google Cloud Billing Catalog API (Compute Engine SKUs)"
# SKUs of the same hardware that a plain machine is not billed by
OTHERS = ("custom", "premium", "reserved", "sole tenancy", "commitment", "dws", "calendar", "flex")
CREDENTIALS = (
    "To fix: gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS; "
    "the project needs cloudbilling.googleapis.com."
)
Sku = Mapping[str, Any]
SkuList = Callable[[], Iterable[Sku]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that is billed by the hour: a vCPU or GiB of a machine family, or an accelerator."""

    what: str
    kind: str  # core | ram | accelerator
    region: str
    spot: bool


@cache
def names() -> Mapping[tuple[str, str], str]:
    """Family or accelerator -> what its SKUs' descriptions contain."""
    with Path(__file__).with_name("gcp_skus.csv").open(newline="", encoding="utf-8") as file:
        return {(r["what"], r["part"]): r["description"].lower() for r in csv.DictReader(file)}


def quotes(asked: Sequence[Wanted], catalog: Catalog, skus: SkuList | None = None) -> list[tuple[Wanted, Quote]]:
    """What Google asks for each row; raises CliError without the SDK or credentials."""
    prices = parts((skus or _skus)())
    shapes = {m.machine_type: (exact(m.vcpus), exact(m.memory_gib)) for m in catalog.machines if m.cloud == "gcp"}
    return [(w, _quote(w, shapes.get(w.machine_type), prices)) for w in asked]


def exact(number: float) -> Decimal:
    return Decimal(str(number))


def _skus() -> Iterator[Sku]:
    get = session("cloud-billing.readonly").get
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        yield from pages(get)
    except (GoogleAuthError, RequestException) as e:
        raise CliError(f"Google Cloud gave no prices: {e}. {CREDENTIALS}", USAGE) from None


def pages(get: Callable[..., Any]) -> Iterator[Sku]:
    """Every SKU of Compute Engine; `get` is a session's."""
    token = ""
    while True:
        answer = get(SKUS, params={"pageSize": 5000, "pageToken": token}, timeout=60)
        answer.raise_for_status()
        page = answer.json()
        yield from page.get("skus", [])
        token = page.get("nextPageToken", "")
        if not token:
            return


def parts(skus: Iterable[Sku]) -> dict[Part, Decimal]:
    """USD an hour of each part. A part with two prices has none: two SKUs fit its description."""
    found: dict[Part, set[Decimal]] = {}
    for sku in skus:
        description, category = sku["description"].lower(), sku["category"]
        if category["usageType"] not in ("OnDemand", "Preemptible") or any(o in description for o in OTHERS):
            continue
        price = _price(sku)
        named = _named(description, category["resourceGroup"])
        if price is None or named is None:
            continue
        # TPUs on spot are told by their description alone
        spot = category["usageType"] == "Preemptible" or "preemptible" in description
        for region in sku.get("serviceRegions", ()):
            found.setdefault(Part(what=named[0], kind=named[1], region=region, spot=spot), set()).add(price)
    return {part: prices.pop() for part, prices in found.items() if len(prices) == 1}


def _named(description: str, group: str) -> tuple[str, str] | None:
    for (what, part), fragment in names().items():
        if fragment not in description:
            continue
        if part == "accelerator":
            return what, part
        if group == "CPU" or (group == "N1Standard" and "core" in description):
            return what, "core"
        if group == "RAM" or (group == "N1Standard" and "ram" in description):
            return what, "ram"
    return None


def _price(sku: Sku) -> Decimal | None:
    """USD for an hour of one unit; None where it is billed by anything else."""
    if not sku.get("pricingInfo"):
        return None
    expression = sku["pricingInfo"][0]["pricingExpression"]
    if expression["usageUnit"] not in ("h", "GiBy.h") or not expression.get("tieredRates"):
        return None
    money = expression["tieredRates"][0]["unitPrice"]
    price = Decimal(money.get("units", "0")) + Decimal(money.get("nanos", 0)) / 10**9
    return price if money["currencyCode"] == "USD" and price > 0 else None


def _quote(what: Wanted, shape: tuple[Decimal, Decimal] | None, prices: Mapping[Part, Decimal]) -> Quote:
    on_demand, spot = (_whole(what, shape, prices, spot=spot) for spot in (False, True))
    return Quote(on_demand=on_demand, spot=spot, source=SOURCE)


def _whole(
    what: Wanted, shape: tuple[Decimal, Decimal] | None, prices: Mapping[Part, Decimal], *, spot: bool
) -> Decimal | None:
    """A host's vCPUs and memory, or its accelerators; None as soon as one part has no price."""

    def one(name: str, kind: str) -> Decimal | None:
        return prices.get(Part(what=name, kind=kind, region=what.region, spot=spot))

    if shape is None:
        chip = one(what.accelerator, "accelerator")
        return None if chip is None else chip * what.accelerator_count
    family = what.machine_type.partition("-")[0]
    core, ram = one(family, "core"), one(family, "ram")
    return None if core is None or ram is None else shape[0] * core + shape[1] * ram
