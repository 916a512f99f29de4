"""Prices of EC2: on demand from the Price List query API, spot from the price history of each region."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from cli.errors import USAGE, CliError
from cli.prices.rows import Quote, Wanted

PRICING_REGION = "us-east-1"  # the Price List API answers for all regions from a few of them
SOURCE = "AWS Price List query API (AmazonEC2)"
SPOT_SOURCE = "EC2 spot price history, cheapest zone"
PLAIN = {  # Linux on shared hardware without licences: what an instance group runs
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "capacitystatus": "Used",
    "preInstalledSw": "NA",
    "marketoption": "OnDemand",
}
CREDENTIALS = (
    "To fix: aws configure, or set AWS_PROFILE; the account needs pricing:GetProducts and ec2:DescribeSpotPriceHistory."
)
Client = Callable[[str, str], Any]  # service, region


def quotes(asked: Sequence[Wanted], client: Client | None = None) -> list[tuple[Wanted, Quote]]:
    """What AWS asks for each row; raises CliError without the SDK or credentials."""
    make = client or _client()
    from botocore.exceptions import BotoCoreError, ClientError

    found = []
    try:
        for region in sorted({w.region for w in asked}):
            here = [w for w in asked if w.region == region]
            on_demand = _on_demand(make("pricing", PRICING_REGION), region)
            spot = _spot(make("ec2", region), region, sorted({w.machine_type for w in here}))
            found += [(w, _quote(on_demand.get(w.machine_type), spot.get(w.machine_type))) for w in here]
    except (BotoCoreError, ClientError) as e:
        raise CliError(f"AWS gave no prices: {e}. {CREDENTIALS}", USAGE) from None
    return found


def _client() -> Client:
    try:
        import boto3
    except ModuleNotFoundError as e:
        raise CliError(f"prices of AWS need {e.name}. To fix: pip install 'slipway[aws]'", USAGE) from None
    session = boto3.Session()
    if session.get_credentials() is None:
        raise CliError(f"prices of AWS need credentials, and there are none. {CREDENTIALS}", USAGE)
    return lambda service, region: session.client(service, region_name=region)


def _quote(on_demand: Decimal | None, spot: Decimal | None) -> Quote:
    sources = [s for s, p in ((SOURCE, on_demand), (SPOT_SOURCE, spot)) if p is not None]
    return Quote(on_demand=on_demand, spot=spot, source="; ".join(sources))


def _on_demand(pricing: Any, region: str) -> Mapping[str, Decimal]:
    filters = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in {**PLAIN, "regionCode": region}.items()]
    pages = pricing.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
    return products(text for page in pages for text in page["PriceList"])


def products(listed: Iterable[str]) -> dict[str, Decimal]:
    """USD an hour by machine type. A type with two prices has none: something was not filtered."""
    found: dict[str, set[Decimal]] = {}
    for text in listed:
        product = json.loads(text)
        machine = product["product"]["attributes"].get("instanceType")
        if machine:
            found.setdefault(machine, set()).update(_hourly(product))
    return {machine: prices.pop() for machine, prices in found.items() if len(prices) == 1}


def _hourly(product: Mapping[str, Any]) -> Iterator[Decimal]:
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            price = Decimal(dimension["pricePerUnit"].get("USD", "0"))
            if dimension["unit"] == "Hrs" and price > 0:
                yield price


def _spot(ec2: Any, region: str, machines: Sequence[str]) -> Mapping[str, Decimal]:
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=machines, ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
    )
    return history((entry for page in pages for entry in page["SpotPriceHistory"]), region)


def history(entries: Iterable[Mapping[str, Any]], region: str) -> dict[str, Decimal]:
    """The newest price of each ordinary zone, the cheapest of them; local zones sell at other prices."""
    newest: dict[tuple[str, str], tuple[datetime, Decimal]] = {}
    for e in entries:
        if not re.fullmatch(rf"{region}[a-z]", e["AvailabilityZone"]):
            continue
        place, at = (e["InstanceType"], e["AvailabilityZone"]), e["Timestamp"]
        if place not in newest or newest[place][0] < at:
            newest[place] = (at, Decimal(e["SpotPrice"]))
    found: dict[str, Decimal] = {}
    for (machine, _), (_, price) in newest.items():
        found[machine] = min(price, found.get(machine, price))
    return found
