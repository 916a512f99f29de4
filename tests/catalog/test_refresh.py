"""Price rows from recorded answers: AWS's checked by botocore's models, Google's by its SDK's message types."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

import infra.catalog
from cli.errors import USAGE, CliError
from cli.prices import aws, gcp, rows
from cli.prices.rows import Quote, Row, Wanted
from infra.catalog import load

PRICES = Path(infra.catalog.__file__).with_name("prices.csv")
CATALOG = load()
AT = datetime(2026, 11, 25, 8, tzinfo=UTC)


def product(machine: str, *prices: str, unit: str = "Hrs", currency: str = "USD") -> str:
    """A product as get_products gives it: JSON text."""
    dimensions = {
        f"T.{n}": {"unit": unit, "pricePerUnit": {currency: p}, "rateCode": f"T.{n}", "appliesTo": []}
        for n, p in enumerate(prices)
    }
    attributes = {"instanceType": machine, "regionCode": "us-east-1", "operatingSystem": "Linux"}
    return json.dumps(
        {
            "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": machine},
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": {"T": {"priceDimensions": dimensions, "sku": machine, "termAttributes": {}}}},
        }
    )


def spot(machine: str, zone: str, price: str, hour: int = 7) -> dict[str, object]:
    return {
        "InstanceType": machine,
        "AvailabilityZone": zone,
        "SpotPrice": price,
        "ProductDescription": "Linux/UNIX",
        "Timestamp": AT.replace(hour=hour),
    }


@pytest.fixture
def client() -> Iterator[Callable[[str, str], Any]]:
    """Clients with recorded answers in two pages; botocore checks each against its service model."""
    made: list[Stubber] = []

    def make(service: str, region: str) -> Any:
        found = boto3.client(service, region_name=region, aws_access_key_id="x", aws_secret_access_key="x")
        stub = Stubber(found)
        if service == "pricing":
            asked = {"ServiceCode": "AmazonEC2", "Filters": ANY}
            first = {"FormatVersion": "aws_v1", "PriceList": [product("c7i.2xlarge", "0.3571")], "NextToken": "2"}
            second = {"FormatVersion": "aws_v1", "PriceList": [product("g5.xlarge", "1.0061", "0.0")]}
            stub.add_response("get_products", first, asked)
            stub.add_response("get_products", second, {**asked, "NextToken": "2"})
        else:
            asked = {"InstanceTypes": ANY, "ProductDescriptions": ["Linux/UNIX"], "StartTime": ANY}
            answer = [spot("c7i.2xlarge", f"{region}b", "0.1301"), spot("c7i.2xlarge", f"{region}a", "0.1402")]
            stub.add_response("describe_spot_price_history", {"SpotPriceHistory": answer}, asked)
        stub.activate()
        made.append(stub)
        return found

    yield make
    for stub in made:
        stub.assert_no_pending_responses()


def test_aws_prices_come_from_every_page(client: Callable[[str, str], Any]) -> None:
    """On demand and spot of a region, each with the interface it came from."""
    asked = [w for w in rows.wanted(CATALOG, "aws") if w.region == "us-east-1"]
    found = {w.machine_type: q for w, q in aws.quotes(asked, client)}
    assert found["c7i.2xlarge"] == Quote(
        on_demand=Decimal("0.3571"), spot=Decimal("0.1301"), source=f"{aws.SOURCE}; {aws.SPOT_SOURCE}"
    )
    assert found["g5.xlarge"] == Quote(on_demand=Decimal("1.0061"), spot=None, source=aws.SOURCE)
    assert found["m7i.2xlarge"] == Quote(on_demand=None, spot=None, source="")


def test_a_machine_with_two_prices_has_none() -> None:
    """Then something was not filtered (another system, a licence), and neither price is known to be right."""
    listed = [product("g5.xlarge", "1.006"), product("g5.xlarge", "1.19"), product("c7i.large", "0.08925")]
    assert aws.products(listed) == {"c7i.large": Decimal("0.08925")}


@pytest.mark.parametrize(
    "text",
    [
        product("g5.xlarge", "1.006", unit="Quantity"),
        product("g5.xlarge", "7.3", currency="CNY"),
        product("g5.xlarge", "0.0000000000"),
    ],
    ids=["not by the hour", "not in dollars", "nothing"],
)
def test_what_is_not_dollars_an_hour_is_no_price(text: str) -> None:
    """China's regions answer in yuan, dedicated hosts by the piece, reserved capacity with zero."""
    assert aws.products([text]) == {}


def test_spot_is_the_newest_price_of_the_cheapest_ordinary_zone() -> None:
    """Local zones (use1-atl2-az1, us-east-1-atl-2a) sell at other prices, and old entries are not today's."""
    entries = [
        spot("g5.xlarge", "us-east-1a", "0.10", hour=5),
        spot("g5.xlarge", "us-east-1a", "0.44", hour=7),
        spot("g5.xlarge", "us-east-1b", "0.41"),
        spot("g5.xlarge", "us-east-1-atl-2a", "0.05"),
    ]
    assert aws.history(entries, "us-east-1") == {"g5.xlarge": Decimal("0.41")}


def test_aws_that_refuses_is_told_with_the_way_out() -> None:
    """Credentials without the right are the usual reason."""

    def make(service: str, region: str) -> Any:
        found = boto3.client(service, region_name=region, aws_access_key_id="x", aws_secret_access_key="x")
        stub = Stubber(found)
        stub.add_client_error("get_products", "AccessDeniedException", "no right", 403)
        stub.activate()
        return found

    with pytest.raises(CliError, match=r"AccessDeniedException.*pricing:GetProducts") as error:
        aws.quotes(rows.wanted(CATALOG, "aws"), make)
    assert error.value.code == USAGE


def sku(description: str, group: str, nanos: int, usage: str = "OnDemand", units: str = "0", **more: object) -> Any:
    """A SKU as the Cloud Billing Catalog API gives it in JSON."""
    rate = {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": units, "nanos": nanos}}
    return {
        "name": "services/6F81-5844-456A/skus/0000-0000-0000",
        "skuId": "0000-0000-0000",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": group,
            "usageType": usage,
        },
        "serviceRegions": ["us-central1"],
        "pricingInfo": [
            {
                "pricingExpression": {
                    "usageUnit": more.get("unit", "h"),
                    "tieredRates": [rate],
                    "baseUnit": "s",
                    "baseUnitConversionFactor": 3600,
                },
                "currencyConversionRate": 1,
            }
        ],
        "serviceProviderName": "Google",
    }


SKUS = [
    sku("N2 Instance Core running in Americas", "CPU", 31_611_000),
    sku("N2 Instance Ram running in Americas", "RAM", 4_237_000, unit="GiBy.h"),
    sku("Spot Preemptible N2 Instance Core running in Americas", "CPU", 10_000_000, "Preemptible"),
    sku("N2 Custom Instance Core running in Americas", "CPU", 33_000_000),
    sku("N1 Predefined Instance Core running in Americas", "N1Standard", 31_611_000),
    sku("N1 Predefined Instance Ram running in Americas", "N1Standard", 4_237_000, unit="GiBy.h"),
    sku("Nvidia L4 GPU running in Americas", "GPU", 560_040_000),
    sku("Nvidia L4 GPU attached to Spot Preemptible VMs running in Americas", "GPU", 223_100_000, "Preemptible"),
    sku("Commitment v1: Nvidia L4 GPU running in Americas for 1 Year", "GPU", 352_000_000, "Commit1Yr"),
    sku("Nvidia Tesla A100 GPU running in Americas", "GPU", 933_908_000, units="2"),
    sku("Nvidia Tesla A100 80GB GPU running in Americas", "GPU", 927_000_000, units="3"),
    sku("TpuV6e Chip hours in us-central1", "TPU", 700_000_000, units="2"),
    sku("Preemptible TpuV6e Chip hours in us-central1", "TPU", 544_210_000),
    sku("Nvidia Tesla T4 GPU running in Americas", "GPU", 350_000_000),
    sku("Nvidia Tesla T4 GPU running in Iowa", "GPU", 175_000_000),
]


CHECK = """
import json, sys
from google.cloud.billing_v1 import Sku
for sku in json.load(sys.stdin):
    Sku.from_json(json.dumps(sku))
"""


def test_the_recorded_skus_have_the_interface_s_own_shape() -> None:
    """Read by Google's message type, which refuses a field it does not have. Apart: it does not go with Pulumi's."""
    wrong = [{**SKUS[0], "serviceRegion": ["us-central1"]}]
    for recorded, code in ((SKUS, 0), (wrong, 1)):
        done = subprocess.run([sys.executable, "-c", CHECK], input=json.dumps(recorded), text=True, capture_output=True)
        assert done.returncode == code, done.stderr


class Answer:
    """A page as `requests` gives it."""

    def __init__(self, page: dict[str, object]) -> None:
        self.page = page

    def raise_for_status(self) -> None:
        return

    def json(self) -> dict[str, object]:
        return self.page


def test_google_prices_come_from_every_page() -> None:
    """A page names the next one until there is none."""
    known = {"": {"skus": SKUS[:4], "nextPageToken": "2"}, "2": {"skus": SKUS[4:], "nextPageToken": ""}}
    asked: list[str] = []

    def get(url: str, params: dict[str, str], timeout: float) -> Answer:
        asked.append(url)
        return Answer(known[params["pageToken"]])

    assert list(gcp.pages(get)) == SKUS
    assert asked == [gcp.SKUS, gcp.SKUS]


def google(machine: str = "", accelerator: str = "", count: int = 0) -> Wanted:
    return Wanted(
        cloud="gcp", machine_type=machine, accelerator=accelerator, accelerator_count=count, region="us-central1"
    )


@pytest.mark.parametrize(
    ("asked", "on_demand", "spot_price"),
    [
        (google("n2-standard-4"), "0.194236", None),  # 4 x 0.031611 + 16 x 0.004237; no spot price of memory
        (google("n1-standard-8"), "0.379998", None),  # 8 x 0.031611 + 30 x 0.004237
        (google("", "l4", 4), "2.24016", "0.8924"),  # 4 x 0.56004, 4 x 0.2231
        (google("", "a100-40", 1), "2.933908", None),  # not the 80 GB one
        (google("", "a100-80", 2), "7.854", None),
        (google("", "v6e", 4), "10.8", "2.17684"),
        (google("", "t4", 1), None, None),  # two SKUs with two prices
        (google("e2-standard-4"), None, None),
    ],
    ids=str,
)
def test_google_prices_are_put_together_from_their_parts(
    asked: Wanted, on_demand: str | None, spot_price: str | None
) -> None:
    """vCPUs and memory of a family, or accelerators; a part without one clear price leaves no price."""
    ((_, quote),) = gcp.quotes([asked], CATALOG, lambda: SKUS)
    assert quote.on_demand == (None if on_demand is None else Decimal(on_demand))
    assert quote.spot == (None if spot_price is None else Decimal(spot_price))


def test_every_google_row_can_be_asked_for() -> None:
    """Each family and accelerator of the catalogue has the name of its SKUs."""
    named = {what for what, _ in gcp.names()}
    asked = rows.wanted(CATALOG, "gcp")
    assert {w.machine_type.partition("-")[0] or w.accelerator for w in asked} <= named


OLD = rows.read(PRICES)


def row(what: Wanted, found: tuple[Row, ...] = OLD) -> Row:
    (one,) = [r for r in found if rows.key(r) == what]
    return one


def test_the_file_is_as_refresh_writes_it(tmp_path: Path) -> None:
    """Same order, same quoting: a refresh that changes one price changes one line."""
    assert "".join(rows.lines(OLD)) == PRICES.read_text()
    assert [rows.key(r) for r in OLD] == sorted(rows.key(r) for r in OLD)
    rows.write(tmp_path / "prices.csv", OLD)
    assert [p.name for p in tmp_path.iterdir()] == ["prices.csv"]
    assert (tmp_path / "prices.csv").read_text() == PRICES.read_text()


def test_what_a_cloud_answers_replaces_its_row_and_no_other() -> None:
    """The diff has the line that goes and the line that comes, with the new source and date."""
    l4 = google("", "l4", 1)
    new = rows.refreshed(OLD, [(l4, Quote(on_demand=Decimal("0.56"), spot=Decimal("0.2"), source="s"))], "2026-11-25")
    assert new.doubts == ()
    changed = [line for line in rows.diff(OLD, new.rows, "prices.csv").splitlines() if line[0] in "+-"][2:]
    assert [line[:30] for line in changed] == ["-gcp,,l4,1,us-central1,0.56004", "+gcp,,l4,1,us-central1,0.56,0."]
    assert changed[1] == "+gcp,,l4,1,us-central1,0.56,0.2,s,2026-11-25"


def test_an_answer_without_spot_keeps_the_old_spot_and_says_so() -> None:
    """Better an old figure that says so than none."""
    l4 = google("", "l4", 1)
    new = rows.refreshed(OLD, [(l4, Quote(on_demand=Decimal("0.56"), spot=None, source="s"))], "2026-11-25")
    found = row(l4, new.rows)
    assert found["spot_usd_per_hour"] == row(l4)["spot_usd_per_hour"]
    assert found["source"].startswith("s; spot kept: skypilot-org/skypilot-catalog")


def test_a_new_row_stands_in_its_place() -> None:
    """A machine that had no row in a region gets one when the cloud answers."""
    g6 = Wanted(cloud="aws", machine_type="g6.xlarge", accelerator="l4", accelerator_count=1, region="eu-west-1")
    assert g6 in rows.wanted(CATALOG, "aws")
    new = rows.refreshed(OLD, [(g6, Quote(on_demand=Decimal("0.9"), spot=None, source="s"))], "2026-11-25")
    keys = [rows.key(r) for r in new.rows]
    assert keys == sorted(keys)
    assert len(new.rows) == len(OLD) + 1


@pytest.mark.parametrize(
    ("on_demand", "spot_price", "why"),
    [
        ("0.56", "0.57", "spot 0.57 is not below on demand 0.56"),
        ("0.28", None, "on demand 0.28 is 0.50 times the 0.56004 of unknown"),
        ("1.2", "0.2", "on demand 1.2 is 2.14 times the 0.56004 of unknown"),
        ("0", None, "a price of nothing"),
    ],
)
def test_an_answer_that_is_not_believable_is_not_taken(on_demand: str, spot_price: str | None, why: str) -> None:
    """Public catalogues were wrong in just these ways; the row stays and the reader decides."""
    spot_usd = None if spot_price is None else Decimal(spot_price)
    new = rows.refreshed(
        OLD, [(google("", "l4", 1), Quote(on_demand=Decimal(on_demand), spot=spot_usd, source="s"))], "2026-11-25"
    )
    assert new.rows == OLD
    assert new.doubts[0].startswith(f"gcp 1 l4 in us-central1: {why}")


def test_nothing_answered_changes_nothing() -> None:
    """No figure is no zero."""
    quotes = [(w, Quote(on_demand=None, spot=None, source="s")) for w in rows.wanted(CATALOG, "gcp")]
    assert rows.refreshed(OLD, quotes, "2026-11-25").rows == OLD
