"""`slipway catalog`: lists and filters, and tells what a refresh needs."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import catalog
from cli.errors import USAGE, CliError
from cli.prices import aws, gcp
from cli.prices.rows import Quote, Wanted
from infra.catalog import load

RUN = CliRunner()


def run(*arguments: str) -> Result:
    return RUN.invoke(catalog.app, list(arguments))


def fault(*arguments: str) -> CliError:
    error = run(*arguments).exception
    assert isinstance(error, CliError), error
    assert error.code == USAGE
    return error


@pytest.mark.parametrize(
    ("filters", "cloud", "region", "accelerator"),
    [
        ((), None, None, None),
        (("--cloud", "aws"), "aws", None, None),
        (("--region", "europe-west4", "--accelerator", "t4"), None, "europe-west4", "t4"),
        (("--accelerator", "none"), None, None, "none"),
    ],
)
def test_list_filters(filters: tuple[str, ...], cloud: str | None, region: str | None, accelerator: str | None) -> None:
    """Everything under the filters and nothing else, with the sources of each price."""
    found = json.loads(run("list", *filters, "--json").stdout)["machines"]
    expected = [
        s
        for c in ("gcp", "aws")
        for r in load().regions(c)
        for s in load().sales(c, r)
        if cloud in (None, c) and region in (None, r) and accelerator in (None, s.accelerator or "none")
    ]
    assert [(m["region"], m["machine_type"], m["accelerator_count"]) for m in found] == [
        (s.region, s.machine_type, s.accelerator_count) for s in expected
    ]
    assert found
    assert all(source["source"] and source["as_of"] for m in found for source in m["sources"])


def test_list_for_a_person_is_aligned_and_shows_what_is_missing() -> None:
    """A price without a source is a dash, not a zero."""
    lines = run("list", "--region", "us-central1", "--accelerator", "h100").stdout.splitlines()
    assert lines[0].split() == ["region", "machine", "vcpus", "memory", "accelerator", "on", "demand", "spot", "zones"]
    assert " ".join(lines[1].split()) == "us-central1 a3-highgpu-1g 26 234 GiB 1 h100 - 3.3538 a b c"
    assert lines[-1].startswith("4 machines; USD an hour")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list", "--cloud", "gpc"), "cloud: gpc is not in the catalogue; allowed: gcp, aws. Did you mean 'gcp'?"),
        (("list", "--region", "us-centrl1"), "Did you mean 'us-central1'?"),
        (("list", "--cloud", "aws", "--region", "us-central1"), "allowed: eu-west-1, us-east-1"),
        (("list", "--accelerator", "h10"), "Did you mean 'h100'?"),
        (("refresh", "--cloud", "azure"), "cloud: azure is not in the catalogue; allowed: gcp, aws."),
    ],
)
def test_a_word_that_is_not_there_is_told_with_those_that_are(arguments: tuple[str, ...], told: str) -> None:
    """The nearest one too."""
    assert told in fault(*arguments).problems[0]


@pytest.mark.parametrize(
    ("cloud", "told"),
    [
        ("aws", "prices of AWS need credentials, and there are none. To fix: aws configure"),
        ("gcp", "To fix: gcloud auth application-default login"),
    ],
)
def test_refresh_without_credentials_says_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cloud: str, told: str
) -> None:
    """Before anything is asked or written."""
    for name, value in {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "NO_GCE_CHECK": "true",
        "CLOUDSDK_CONFIG": str(tmp_path),
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    assert told in fault("refresh", "--cloud", cloud).problems[0]


@pytest.mark.parametrize(
    ("cloud", "module", "extra"), [("aws", "boto3", "slipway[aws]"), ("gcp", "google.auth", "slipway[gcp]")]
)
def test_refresh_without_the_sdk_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, cloud: str, module: str, extra: str
) -> None:
    """The SDKs are extras: a local stack never installs them."""
    for name in [m for m in sys.modules if m == module or m.startswith(f"{module}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    assert f"pip install '{extra}'" in fault("refresh", "--cloud", cloud).problems[0]


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the price file, and clouds that answer 5% more than it has for c7i.2xlarge and L4."""
    copy = tmp_path / "prices.csv"
    copy.write_text(catalog.PRICES.read_text())
    monkeypatch.setattr(catalog, "PRICES", copy)

    def answer(asked: list[Wanted], *_: object) -> list[tuple[Wanted, Quote]]:
        usd = {"c7i.2xlarge": Decimal("0.37485"), "": Decimal("0.588042")}
        some = [w for w in asked if w.region in ("us-east-1", "us-central1") and w.machine_type in usd]
        return [
            (w, Quote(on_demand=usd[w.machine_type], spot=None, source="recorded"))
            for w in some
            if w.machine_type or (w.accelerator, w.accelerator_count) == ("l4", 1)
        ]

    monkeypatch.setattr(aws, "quotes", answer)
    monkeypatch.setattr(gcp, "quotes", answer)
    return copy


def test_refresh_shows_a_diff_and_writes_only_when_told(prices: Path) -> None:
    """Two rows of two clouds; --apply writes what the diff showed, and then there is nothing left to change."""
    before = prices.read_text()
    shown = run("refresh")
    assert shown.exit_code == 0
    assert prices.read_text() == before
    came = [x for x in shown.stdout.splitlines() if x.startswith("+") and not x.startswith("+++")]
    assert [x.replace('"', "").split(",recorded")[0] for x in came] == [
        "+aws,c7i.2xlarge,,,us-east-1,0.37485,0.1299",
        "+gcp,,l4,1,us-central1,0.588042,0.2231",
    ]
    assert run("refresh", "--apply").exit_code == 0
    assert set(prices.read_text().splitlines()) - set(before.splitlines()) == {x[1:] for x in came}


def test_refresh_of_one_cloud_asks_no_other(prices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the other are not needed."""

    def never(*_: object) -> list[tuple[Wanted, Quote]]:
        raise AssertionError("asked")

    monkeypatch.setattr(aws, "quotes", never)
    assert "l4" in run("refresh", "--cloud", "gcp").stdout
