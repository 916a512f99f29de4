"""The zones of a stack's own network, where the cloud asks for a subnet in each."""

from __future__ import annotations

from infra.catalog import Catalog
from infra.plan.facts import limit
from infra.spec import Spec


def network_zones(spec: Spec, catalog: Catalog) -> tuple[str, ...]:
    """The configured ones, or the first of the region: no mode and no machine changes them."""
    if spec.zones:
        return spec.zones
    named = [row.zones for row in catalog.zones if (row.cloud, row.region) == (spec.cloud, spec.region)]
    found = tuple(dict.fromkeys(zone for zones in named for zone in zones))
    most = limit("network_zones", spec)
    return found if most is None else found[: int(most)]
