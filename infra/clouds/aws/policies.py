"""IAM documents: who may take a role, and what it may do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pulumi

Statement = Mapping[str, object]

MANAGED = "arn:aws:iam::aws:policy/"


def allow(actions: Sequence[str], resources: object, *, when: Mapping[str, object] | None = None) -> Statement:
    return {
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": resources,
        **({"Condition": dict(when)} if when else {}),
    }


def document(statements: Sequence[Statement]) -> str:
    """A document of plain values: it can be compared before anything is made."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def late_document(statements: Sequence[Statement]) -> pulumi.Output[str]:
    """A document with values that only the cloud knows."""
    return pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trusts(service: str, actions: Sequence[str] = ("sts:AssumeRole",), when: Mapping[str, object] | None = None) -> str:
    """A role that a service of AWS takes."""
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": list(actions)}
    return document([statement | ({"Condition": dict(when)} if when else {})])


def trusts_service_account(
    provider_arn: pulumi.Output[str], issuer: pulumi.Output[str], namespace: str, service_account: str
) -> pulumi.Output[str]:
    """A role that the pods of one service account take, by a token of the cluster; no other account's token will do."""
    host = issuer.apply(lambda url: url.removeprefix("https://"))
    subject = f"system:serviceaccount:{namespace}:{service_account}"
    return pulumi.Output.all(provider_arn, host).apply(
        lambda known: document(
            [
                {
                    "Effect": "Allow",
                    "Principal": {"Federated": known[0]},
                    "Action": "sts:AssumeRoleWithWebIdentity",
                    "Condition": {"StringEquals": {f"{known[1]}:sub": subject, f"{known[1]}:aud": "sts.amazonaws.com"}},
                }
            ]
        )
    )
