"""`slipway catalog`: what the catalogue sells, and its price rows rebuilt from the clouds."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

import infra.catalog
from cli.errors import USAGE, CliError
from cli.prices import aws, gcp, rows
from cli.session import JSON, print_json
from infra.catalog import Catalog, Sale, load

PRICES = Path(infra.catalog.__file__).with_name("prices.csv")
CLOUDS = ("gcp", "aws")
CLOUD = Annotated[str | None, typer.Option(help="gcp or aws; by default both.")]

app = typer.Typer(help="Machines and prices that plans are made of.", no_args_is_help=True)


@app.command("list")
def show(
    cloud: CLOUD = None,
    region: Annotated[str | None, typer.Option(help="One region.")] = None,
    accelerator: Annotated[str | None, typer.Option(help="Such as l4; none: machines without one.")] = None,
    as_json: JSON = False,
) -> None:
    """Machines by region with their prices; host and accelerators together."""
    found = sales(load(), cloud, region, accelerator)
    if as_json:
        print_json({"machines": [to_json(s) for s in found]})
        return
    for line in table(found):
        typer.echo(line)


@app.command()
def refresh(
    cloud: CLOUD = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the rows; else only the diff is shown.")] = False,
) -> None:
    """Asks the clouds for today's prices and shows what changes. Needs their credentials."""
    old = rows.read(PRICES)
    quotes = [q for c in _clouds(cloud) for q in _quotes(load(), c)]
    new = rows.refreshed(old, quotes, as_of=datetime.now(UTC).date().isoformat())
    typer.echo(rows.diff(old, new.rows, "infra/catalog/prices.csv"), nl=False)
    for doubt in new.doubts:
        typer.echo(f"not taken: {doubt}", err=True)
    answered = sum(q.on_demand is not None or q.spot is not None for _, q in quotes)
    typer.echo(f"{answered} of {len(quotes)} prices answered, {len(new.doubts)} not believed", err=True)
    if apply and old != new.rows:
        rows.write(PRICES, new.rows)
        typer.echo(f"wrote {PRICES}", err=True)


def _quotes(catalog: Catalog, cloud: str) -> list[tuple[rows.Wanted, rows.Quote]]:
    asked = rows.wanted(catalog, cloud)
    return aws.quotes(asked) if cloud == "aws" else gcp.quotes(asked, catalog)


def _clouds(cloud: str | None) -> tuple[str, ...]:
    if cloud is None:
        return CLOUDS
    _known("cloud", cloud, CLOUDS)
    return (cloud,)


def _known(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is None or value in allowed:
        return
    from infra.spec.problems import nearest, problem

    raise CliError(
        str(problem((name,), f"{value} is not in the catalogue", allowed=allowed, nearest=nearest(value, allowed))),
        USAGE,
    )


def sales(catalog: Catalog, cloud: str | None, region: str | None, accelerator: str | None) -> list[Sale]:
    """What is sold under the filters; raises CliError for a word that the catalogue does not have."""
    clouds = _clouds(cloud)
    places = [(c, r) for c in clouds for r in catalog.regions(c)]
    _known("region", region, tuple(r for _, r in places))
    _known("accelerator", accelerator, ("none", *(a.name for a in catalog.accelerators)))
    return [
        sale
        for c, r in places
        if region in (None, r)
        for sale in catalog.sales(c, r)
        if accelerator in (None, sale.accelerator or "none")
    ]


def to_json(sale: Sale) -> dict[str, object]:
    """One machine, stable: docs/catalog.md describes the fields."""
    return {
        "cloud": sale.cloud,
        "region": sale.region,
        "zones": list(sale.zones),
        "machine_type": sale.machine_type,
        "vcpus": sale.vcpus,
        "memory_gib": sale.memory_gib,
        "arch": sale.arch,
        "accelerator": sale.accelerator or "none",
        "accelerator_count": sale.accelerator_count,
        "tpu_topology": sale.tpu_topology,
        "usd_per_hour": None if sale.on_demand is None else float(sale.on_demand),
        "spot_usd_per_hour": None if sale.spot is None else float(sale.spot),
        "sources": [{"source": p.source, "as_of": p.as_of} for p in sale.prices],
    }


HEAD = ("region", "machine", "vcpus", "memory", "accelerator", "on demand", "spot", "zones")
RIGHT = ("vcpus", "memory", "on demand", "spot")


def table(found: list[Sale]) -> list[str]:
    """Aligned columns; a price that no source gives is a dash."""
    cells = [HEAD, *(_cells(s) for s in found)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD))]
    lines = []
    for row in cells:
        padded = (c.rjust(w) if n in RIGHT else c.ljust(w) for n, c, w in zip(HEAD, row, widths, strict=True))
        lines.append("  ".join(padded).rstrip())
    return [
        *lines,
        f"{len(found)} machines; USD an hour, host and accelerators together; - is a price without a source",
    ]


def _cells(s: Sale) -> tuple[str, ...]:
    accelerator = f"{s.accelerator_count} {s.accelerator}" if s.accelerator else ""
    size = ("-" if s.vcpus is None else f"{s.vcpus:g}", "-" if s.memory_gib is None else f"{s.memory_gib:g} GiB")
    zones = " ".join(z.removeprefix(s.region).removeprefix("-") for z in s.zones)
    return s.region, s.machine_type, *size, accelerator, _usd(s.on_demand), _usd(s.spot), zones


def _usd(price: Decimal | None) -> str:
    return "-" if price is None else f"{price:.4f}"
