"""Alarms of a store, from rows: memory that fills, requests that are refused."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pulumi

    from infra.stores.store import Site


@cache
def rows(store: str) -> tuple[dict[str, str], ...]:
    with Path(__file__).with_name("alarms.csv").open(newline="", encoding="utf-8") as file:
        return tuple(r for r in csv.DictReader(file) if r["store"] == store)


def google(site: Site, store: str, filters: Sequence[pulumi.Input[str]], of: pulumi.Resource) -> list[pulumi.Resource]:
    """An alert policy a row; `filters` narrow its metric to this store. Channels are the project's own to add."""
    import pulumi
    from pulumi_gcp import monitoring

    token = "gcp:monitoring/alertPolicy:AlertPolicy"
    made: list[pulumi.Resource] = []
    for row in rows(store):
        own = [f'metric.type = "{row["metric"]}"', f'resource.type = "{row["resource_type"]}"']
        name = site.name(token, f"store-{row['name']}")
        threshold = monitoring.AlertPolicyConditionConditionThresholdArgs(
            filter=pulumi.Output.all(*own, *filters).apply(" AND ".join),
            comparison=row["comparison"],
            threshold_value=float(row["threshold"]),
            duration=f"{row['seconds']}s",
            aggregations=[
                monitoring.AlertPolicyConditionConditionThresholdAggregationArgs(
                    alignment_period=f"{row['seconds']}s", per_series_aligner=row["statistic"]
                )
            ],
        )
        made.append(
            monitoring.AlertPolicy(
                f"store-{row['name']}",
                display_name=name,
                combiner="OR",
                conditions=[monitoring.AlertPolicyConditionArgs(display_name=name, condition_threshold=threshold)],
                documentation=monitoring.AlertPolicyDocumentationArgs(content=row["why"], mime_type="text/markdown"),
                project=site.ground.project,
                user_labels=site.labels("alarm"),
                opts=site.options(token, holds_data=False, after=[of]),
            )
        )
    return made


def amazon(
    site: Site, store: str, dimensions: Mapping[str, Mapping[str, pulumi.Input[str]]], of: pulumi.Resource
) -> list[pulumi.Resource]:
    """A CloudWatch alarm a row and set of dimensions (by a word for its name). Actions are the account's own to add."""
    from pulumi_aws import cloudwatch

    token = "aws:cloudwatch/metricAlarm:MetricAlarm"
    return [
        cloudwatch.MetricAlarm(
            f"store-{row['name']}{suffix}",
            name=site.name(token, f"store-{row['name']}{suffix}"),
            alarm_description=row["why"],
            namespace=row["resource_type"],
            metric_name=row["metric"],
            statistic=row["statistic"],
            comparison_operator=row["comparison"],
            threshold=float(row["threshold"]),
            period=int(row["seconds"]),
            evaluation_periods=1,
            treat_missing_data="notBreaching",
            dimensions=named,
            tags=site.labels("alarm"),
            opts=site.options(token, holds_data=False, after=[of]),
        )
        for row in rows(store)
        for suffix, named in dimensions.items()
    ]
