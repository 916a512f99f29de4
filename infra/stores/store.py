"""What every feature store is to a blueprint, and what its builders share."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from infra.clouds.naming import physical

if TYPE_CHECKING:
    import pulumi

    from infra.clouds.site import Grant, Ground

# Variables of the servers; the look-up client reads them (serving/features.py).
URL, CA, PASSWORD = "SLIPWAY_STORE_URL", "SLIPWAY_STORE_CA", "SLIPWAY_STORE_PASSWORD"
MOVES = ("capacity", "capacity_bytes", "clusters", "data_bytes")  # recorded, and changed in place
DELETE = "20m"  # instances of memory take minutes to go, and the network waits for them


def key_prefix(stack: str) -> str:
    """What the key of each entity begins with: who loads features and who looks them up have to agree."""
    return f"{stack}:features:"


@dataclass(frozen=True, kw_only=True)
class Store:
    """A store that stands, as the servers reach it."""

    kind: str
    url: pulumi.Output[str]  # no secret in it
    port: int
    env: Mapping[str, pulumi.Input[str]]
    fingerprint: Mapping[str, object]  # an output of the stack, and the next run's `recorded`
    secrets: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)
    ranges: Sequence[pulumi.Input[str]] = ()  # addresses (CIDR); none: an API of the cloud, at 443
    grants: Sequence[Grant] = ()  # of the servers: they look up
    writers: Sequence[Grant] = ()  # of what loads features
    machine_secrets: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)  # variable -> name in the cloud
    machine_grants: Sequence[Grant] = ()  # of machines, which read these secrets by themselves
    after: Sequence[pulumi.Resource] = ()


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field whose change would replace a resource that holds features, or the way to it."""

    type: str  # Pulumi's token
    path: str  # as the provider names it
    key: str  # of the configuration, that a user would change; empty: Slipway chose it, and it stays as recorded
    reason: str  # what would be lost
    way: str  # how to get there all the same
    source: str


@cache
def fields() -> tuple[Field, ...]:
    with Path(__file__).with_name("fields.csv").open(newline="", encoding="utf-8") as file:
        return tuple(
            Field(type=r["type"], path=r["field"], key=r["key"], reason=r["reason"], way=r["way"], source=r["source"])
            for r in csv.DictReader(file)
        )


def fixed(token: str) -> list[str]:
    """Fields of a type that stay as they were made, whatever the program says."""
    return [f.path for f in fields() if f.type == token]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a store is built: names, tags and options, the same for each of its resources."""

    ground: Ground
    protect: bool
    recorded: Mapping[str, object]

    def name(self, token: str, role: str = "store") -> str:
        """A stable name: no mode changes it."""
        return physical(token, self.ground.stack, role)

    def labels(self, role: str = "store") -> dict[str, pulumi.Input[str]]:
        return {**self.ground.labels, "slipway-stack": self.ground.stack, "slipway-role": role}

    def kept(self, wanted: Mapping[str, object]) -> dict[str, object]:
        """Fields as they were made the first time; what was never recorded, and what moves in place, as wanted now."""
        return {name: value if name in MOVES else self.recorded.get(name, value) for name, value in wanted.items()}

    def fingerprint(self, kept: Mapping[str, object], url: pulumi.Output[str]) -> dict[str, object]:
        """What the next run has to know, and where the store is. Nobody deleted what it was once sized for: the most
        counts."""
        held = [v for v in (self.recorded.get("data_bytes"), kept.get("data_bytes")) if isinstance(v, int)]
        return {**kept, "data_bytes": max(held, default=0), "url": url}

    def options(
        self,
        token: str,
        *,
        holds_data: bool = True,
        after: Iterable[pulumi.Resource] = (),
        ignore: Iterable[str] = (),
        absent: str | None = None,
    ) -> pulumi.ResourceOptions:
        """`absent`: where paths begin that old or new may lack; Pulumi refuses to ignore an item that is not there."""
        import pulumi

        stays = [path for path in fixed(token) if absent is None or not path.startswith(absent)]
        return pulumi.ResourceOptions(
            provider=self.ground.provider,
            depends_on=[*self.ground.after, *after],
            ignore_changes=[*stays, *ignore] or None,
            protect=(self.protect and holds_data) or None,
            delete_before_replace=False,
            custom_timeouts=pulumi.CustomTimeouts(delete=DELETE),
        )


def recorded_fields(kind: str, recorded: Mapping[str, object] | None) -> dict[str, object]:
    """The fingerprint of a store of this kind; another kind's says nothing about it."""
    if recorded is None or recorded.get("kind") != kind:
        return {}
    # Pulumi has no whole numbers
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in recorded.items()}
