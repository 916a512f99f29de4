"""What a stack tells its user; the only exporter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import pulumi


@dataclass(frozen=True, kw_only=True)
class StackOutputs:
    """Every output, by its name."""

    url_http: pulumi.Input[str]
    url_grpc: pulumi.Input[str]
    url_metrics: Sequence[pulumi.Input[str]]
    url_admin: pulumi.Input[str]
    redis: pulumi.Input[str] | None
    plan: dict[str, object]
    models: Sequence[str]
    generation: str
    next: Sequence[str]


def export(outputs: StackOutputs) -> None:
    for field in fields(outputs):
        value = getattr(outputs, field.name)
        if value is not None:
            pulumi.export(field.name, value)
