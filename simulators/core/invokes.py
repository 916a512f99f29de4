"""Provider functions that a program may call: who am I, which zones, and what exists with these tags."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from fnmatch import fnmatchcase

from simulators.core import configuration, contents, health, locate, templates
from simulators.core.checks import text
from simulators.core.lifecycle import CloudError, Target
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

NONCE = "simulators:index:nonce"
Function = Callable[[World, Target, Properties], Properties]


def call(world: World, target: Target, token: str, args: Properties) -> Properties:
    function = _FUNCTIONS.get(token)
    if function is None:
        raise CloudError(f"{token}: this function is not simulated; simulated are {', '.join(sorted(_FUNCTIONS))}")
    with world.transaction():
        if target.cloud == "kubernetes":  # the cluster may have come into being after the provider was configured
            target = configuration.target(target.cloud, target.config, world)
        return function(world, target, args)


def _zones(target: Target, separator: str) -> list[Json]:
    return [f"{target.defaults.get('region', '')}{separator}{zone}" for zone in "abc"]


def _policy_document(world: World, target: Target, args: Properties) -> Properties:
    """aws.iam.get_policy_document: statements to the JSON that IAM reads."""
    statements: list[Json] = []
    given = args.get("statements")
    for one in given if isinstance(given, list) else []:
        if not isinstance(one, dict):
            continue
        statement: Properties = {"Effect": one.get("effect") or "Allow"}
        for name, key in (("sid", "Sid"), ("actions", "Action"), ("resources", "Resource")):
            if one.get(name):
                statement[key] = one[name]
        principals = one.get("principals")
        if isinstance(principals, list) and principals:
            statement["Principal"] = {
                text(p.get("type")): p.get("identifiers") for p in principals if isinstance(p, dict)
            }
        conditions = one.get("conditions")
        if isinstance(conditions, list) and conditions:
            statement["Condition"] = {
                text(c.get("test")): {text(c.get("variable")): c.get("values")}
                for c in conditions
                if isinstance(c, dict)
            }
        statements.append(statement)
    document = json.dumps({"Version": text(args.get("version")) or "2012-10-17", "Statement": statements}, indent=2)
    return {"id": "0", "json": document, "minifiedJson": json.dumps(json.loads(document), separators=(",", ":"))}


def _tagged(world: World, target: Target, args: Properties) -> Properties:
    """The tagging API: how an interrupted run finds what it made; one row a resource that bears every tag."""
    wanted: dict[str, list[Json]] = {}
    filters = args.get("tagFilters")
    for one in filters if isinstance(filters, list) else []:
        if isinstance(one, dict):
            values = one.get("values")
            wanted[text(one.get("key"))] = values if isinstance(values, list) else []
    rows: list[Json] = []
    for thing in world.things.values():
        tags = plain_properties(thing.outputs).get("tags")
        have = tags if isinstance(tags, dict) else {}
        if thing.cloud == "aws" and all(k in have and (not v or have[k] in v) for k, v in wanted.items()):
            arn = text(thing.outputs.get("arn")) or thing.id
            rows.append({"resourceArn": arn, "resourceId": thing.id, "resourceType": thing.token, "tags": have})
    return {"resourceTagMappingLists": rows, "id": "tagged"}


def _labelled(world: World, target: Target, args: Properties) -> Properties:
    """Cloud Asset search: `labels.key:value` over every resource of the project."""
    query = text(args.get("query")).removeprefix("labels.")
    key, _, value = query.partition(":")
    rows: list[Json] = []
    for thing in world.things.values():
        labels = plain_properties(thing.outputs).get("labels")
        if thing.cloud == "gcp" and isinstance(labels, dict) and fnmatchcase(text(labels.get(key)), value or "?*"):
            rows.append({"name": thing.id, "assetType": thing.token, "displayName": thing.name, "labels": labels})
    return {"results": rows, "id": "labelled"}


def _one(token: str, field: str) -> Function:
    """A lookup of one resource by name: its outputs, or an error as the cloud gives it."""

    def look(world: World, target: Target, args: Properties) -> Properties:
        wanted = text(args.get(field))
        found: list[Thing] = [t for t in world.things.values() if t.token == token and wanted in (t.name, t.id)]
        if not found:
            raise CloudError(f"notFound: no {token.rpartition(':')[2]} is named '{wanted}'")
        return {**plain_properties(found[0].outputs), "id": found[0].id}

    return look


def _identity(world: World, target: Target, args: Properties) -> Properties:
    return {
        "accountId": templates.ACCOUNT,
        "arn": f"arn:aws:iam::{templates.ACCOUNT}:user/rehearsal",
        "userId": "AIDAREHEARSAL",
        "id": templates.ACCOUNT,
    }


def _random_password(world: World, target: Target, args: Properties) -> Properties:
    """Another one at each call, as Secrets Manager draws them: a program that keeps none changes at each run."""
    length = int(text(args.get("passwordLength")) or 32)
    return {"randomPassword": secrets.token_hex(length)[:length], "id": target.defaults["region"]}


def _availability_zones(world: World, target: Target, args: Properties) -> Properties:
    return {"names": _zones(target, ""), "zoneIds": [f"use1-az{i}" for i in (1, 2, 3)], "id": target.defaults["region"]}


def _project(world: World, target: Target, args: Properties) -> Properties:
    project = text(args.get("projectId")) or target.defaults["project"]
    return {"projectId": project, "number": templates.NUMBER, "name": project, "id": f"projects/{project}"}


_WHO = "rehearsal@slipway-test.iam.gserviceaccount.com"


def _client(world: World, target: Target, args: Properties) -> Properties:
    """Without a token: a rehearsal has none."""
    place = {k: target.defaults.get(k, "") for k in ("project", "region", "zone")}
    return {**place, "accessToken": "", "defaultLabels": {}, "id": "client"}


def _region(world: World, target: Target, args: Properties) -> Properties:
    region = target.defaults["region"]
    return {"name": region, "region": region, "id": region, "endpoint": f"ec2.{region}.amazonaws.com"}


_FUNCTIONS: dict[str, Function] = {
    **contents.FUNCTIONS,
    **dict.fromkeys(locate.TOKENS, locate.locate),
    "gcp:index:health": health.answer,
    "aws:index:health": health.answer,
    NONCE: lambda world, target, _: {"nonce": world.nonce, "cloud": target.cloud},
    "aws:index/getCallerIdentity:getCallerIdentity": _identity,
    "aws:index/getRegion:getRegion": _region,
    "aws:index/getPartition:getPartition": lambda *_: {"partition": "aws", "dnsSuffix": "amazonaws.com", "id": "aws"},
    "aws:index/getAvailabilityZones:getAvailabilityZones": _availability_zones,
    "aws:iam/getPolicyDocument:getPolicyDocument": _policy_document,
    "aws:eks/getCluster:getCluster": _one("aws:eks/cluster:Cluster", "name"),
    "aws:secretsmanager/getRandomPassword:getRandomPassword": _random_password,
    "aws:ec2/getVpc:getVpc": _one("aws:ec2/vpc:Vpc", "id"),
    "aws:resourcegroupstaggingapi/getResources:getResources": _tagged,
    "gcp:organizations/getProject:getProject": _project,
    "gcp:organizations/getClientConfig:getClientConfig": _client,
    "gcp:index/getClientConfig:getClientConfig": _client,
    "gcp:organizations/getClientOpenIdUserInfo:getClientOpenIdUserInfo": lambda *_: {"email": _WHO, "id": _WHO},
    "gcp:storage/getBucket:getBucket": _one("gcp:storage/bucket:Bucket", "name"),
    "aws:s3/getBucket:getBucket": _one("aws:s3/bucket:Bucket", "bucket"),
    "gcp:compute/getZones:getZones": lambda _, target, __: {"names": _zones(target, "-"), "id": "zones"},
    "gcp:container/getCluster:getCluster": _one("gcp:container/cluster:Cluster", "name"),
    "gcp:compute/getNetwork:getNetwork": _one("gcp:compute/network:Network", "name"),
    "gcp:cloudasset/getSearchAllResources:getSearchAllResources": _labelled,
}
