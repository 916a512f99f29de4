"""What a stack tells its user; the only exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import pulumi


@dataclass(frozen=True, kw_only=True)
class StackOutputs:
    """Every output, by its name; what a stack has not is not exported."""

    url_http: pulumi.Input[str]
    url_grpc: pulumi.Input[str]  # empty: the entry has none
    plan: dict[str, object]
    models: Sequence[str]
    generation: pulumi.Input[str]
    next: Sequence[pulumi.Input[str]]
    reachable_from: str | None = None  # from where the addresses answer
    url_metrics: Sequence[pulumi.Input[str]] | None = None
    url_admin: pulumi.Input[str] | None = None
    redis: pulumi.Input[str] | None = None
    kubeconfig_command: pulumi.Input[str] | None = None
    dashboards: Sequence[str] | None = None
    store: Mapping[str, object] | None = None  # what a later update compares its own store with
    machines: Sequence[pulumi.Input[str]] | None = None  # records of what stands, the wanted one first
    standing: str | None = None  # in words, what old ones cost and how they go
    usd_per_month: Mapping[str, float] | None = None


def export(outputs: StackOutputs) -> None:
    for field in fields(outputs):
        value = getattr(outputs, field.name)
        if value is not None:
            pulumi.export(field.name, value)
