"""AWS: the tagging service for what bears the stack's tag, then service by service, by tag or by name."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import jmespath
from botocore.exceptions import BotoCoreError, ClientError

from cli.errors import CliError
from cli.sweep.found import TAG, Thing, is_ours, size

Client = Callable[[str], Any]  # a service's name to its client


@cache
def rows() -> tuple[dict[str, str], ...]:
    with Path(__file__).with_name("aws.csv").open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def things(stack: str, client: Client, others: tuple[str, ...] = ()) -> Iterator[Thing]:
    """Everything that is there. A service that cannot be asked is an error: silence must not look like nothing."""
    seen: set[str] = set()
    for row in rows():
        for one in _listed(row, stack, client):
            name = str(jmespath.search(row["name"], one))
            if jmespath.search(row["state"] or "`null`", one) in row["gone"].split("|"):
                continue
            tagged = bool(row["arguments"])
            owner = str(jmespath.search(row["owner"] or row["name"], one))
            if not tagged and not is_ours(owner, stack, others):
                continue
            seen.add(name)
            yield Thing(
                kind=row["kind"],
                name=name,
                by="tag" if tagged else "name",
                billable=row["billable"] == "yes",
                remove=row["remove"].format(name=name),
                backup=row["backup"],
                bytes=size(jmespath.search(row["bytes"], one)) if row["bytes"] else None,
            )
    for arn in _tagged(stack, client):
        what = _what(arn)
        if what == "listed" or any(arn.endswith((f"/{name}", f":{name}", name)) for name in seen):
            continue  # the service itself was asked: the tagging service knows for hours what is gone
        if not _goes(arn, client):
            yield Thing(kind=arn.split(":")[2], name=arn, by="tag", billable=what != "free", remove="")


@cache
def _arns() -> tuple[tuple[str, str], ...]:
    with Path(__file__).with_name("arns.csv").open(newline="", encoding="utf-8") as file:
        return tuple((r["arn"], r["what"]) for r in csv.DictReader(file))


def _what(arn: str) -> str:
    """listed, free, or nothing where no row knows the type."""
    _, _, service, *rest = arn.split(":", 3)
    return next((what for form, what in _arns() if fnmatchcase(f"{service}:{rest[0]}", form)), "")


def _goes(arn: str, client: Client) -> bool:
    """A key that is to be deleted is there for its days of grace, costs nothing, and bears its tags."""
    if ":kms:" not in arn or ":key/" not in arn:
        return False
    try:
        state = client("kms").describe_key(KeyId=arn)["KeyMetadata"]["KeyState"]
    except (BotoCoreError, ClientError) as e:
        raise CliError(f"kms:DescribeKey: {e}. To fix: a role that may call it") from e
    return str(state) in ("PendingDeletion", "PendingReplicaDeletion")


def _listed(row: dict[str, str], stack: str, client: Client) -> Iterator[Any]:
    by_tag = [{"Name": f"tag:{TAG}", "Values": [stack]}]
    arguments: dict[str, Any] = {"tag": {"Filters": by_tag}, "tag-filter": {"Filter": by_tag}}.get(row["arguments"], {})
    service, operation = client(row["service"]), row["operation"]
    try:
        if service.can_paginate(operation):
            for page in service.get_paginator(operation).paginate(**arguments):
                yield from jmespath.search(row["items"], page) or ()
        else:
            yield from jmespath.search(row["items"], getattr(service, operation)(**arguments)) or ()
    except (BotoCoreError, ClientError) as e:
        raise CliError(
            f"{row['service']}:{operation}: {e}. To fix: a role that may list what stacks are made of"
        ) from e


def _tagged(stack: str, client: Client) -> Iterator[str]:
    service = client("resourcegroupstaggingapi")
    pages = service.get_paginator("get_resources").paginate(TagFilters=[{"Key": TAG, "Values": [stack]}])
    try:
        for page in pages:
            yield from (r["ResourceARN"] for r in page["ResourceTagMappingList"])
    except (BotoCoreError, ClientError) as e:
        raise CliError(f"tag:GetResources: {e}. To fix: a role that may call it") from e
