"""What the application load balancer lets through: each kind of prediction by method and path, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.facts import text, whole
from infra.clouds.aws.here import Here
from infra.plan.predictions import Asked, asked

REFUSAL = "this entry serves predictions only"
STEP = 10  # between priorities
NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*"  # of a model, a version, a label


@dataclass(frozen=True, kw_only=True)
class Route:
    """One rule: requests of one method to any of these paths, as regular expressions."""

    method: str
    paths: tuple[str, ...]
    allowed: bool


def routes(server: str, protocol: str) -> list[Route]:
    """In the table's order, as many paths a rule as AWS takes beside the method."""
    found = []
    for (method, allowed), rows in groupby(asked(server, protocol), key=lambda a: (a.method, a.allowed)):
        found += [Route(method=method, paths=paths, allowed=allowed) for paths in _cut(list(rows))]
    return found


def _cut(rows: list[Asked]) -> Iterator[tuple[str, ...]]:
    room = whole("rule_values") - 1
    for i in range(0, len(rows), room):
        yield tuple(expression(a) for a in rows[i : i + room])


def expression(one: Asked) -> str:
    """A `*` is one name; what is posted to a name has a verb behind it (TensorFlow Serving). Nothing stands before or
    behind the whole, so that no path hides another."""
    verb = ":[a-z]+" if one.method == "POST" and one.path.endswith("*") else ""
    return f"^{NAME.join(re.escape(part) for part in one.path.split('*'))}{verb}$"


def listen(
    here: Here,
    role: str,
    balancer: aws.lb.LoadBalancer,
    target: aws.lb.TargetGroup,
    protocol: str,
    ports: Mapping[str, int],
) -> list[pulumi.Resource]:
    """A listener that refuses, and rules before it. TLS ends here where the configuration has a certificate."""
    tls = here.spec.tls
    listener = aws.lb.Listener(
        role,
        load_balancer_arn=balancer.arn,
        port=ports[protocol],
        protocol="HTTPS" if tls else "HTTP",
        certificate_arn=tls.certificate if tls else None,
        ssl_policy=text("tls_policy") if tls else None,
        default_actions=[aws.lb.ListenerDefaultActionArgs(type="fixed-response", fixed_response=_refuse())],
        tags=here.tags(role),
        opts=here.on(),
    )
    made: list[pulumi.Resource] = [listener]
    for i, route in enumerate(routes(here.spec.server, protocol), start=1):
        made.append(_rule(here, f"{role}-{i}", listener, target, route, i * STEP))
    return made


def _rule(
    here: Here, role: str, listener: aws.lb.Listener, target: aws.lb.TargetGroup, route: Route, priority: int
) -> aws.lb.ListenerRule:
    action = (
        aws.lb.ListenerRuleActionArgs(type="forward", target_group_arn=target.arn)
        if route.allowed
        else aws.lb.ListenerRuleActionArgs(type="fixed-response", fixed_response=_refuse_rule())
    )
    return aws.lb.ListenerRule(
        role,
        listener_arn=listener.arn,
        priority=priority,
        actions=[action],
        conditions=[
            aws.lb.ListenerRuleConditionArgs(
                http_request_method=aws.lb.ListenerRuleConditionHttpRequestMethodArgs(values=[route.method])
            ),
            aws.lb.ListenerRuleConditionArgs(
                path_pattern=aws.lb.ListenerRuleConditionPathPatternArgs(regex_values=list(route.paths))
            ),
        ],
        tags=here.tags(role),
        opts=here.on(),
    )


def _refuse() -> aws.lb.ListenerDefaultActionFixedResponseArgs:
    return aws.lb.ListenerDefaultActionFixedResponseArgs(**_answer())


def _refuse_rule() -> aws.lb.ListenerRuleActionFixedResponseArgs:
    return aws.lb.ListenerRuleActionFixedResponseArgs(**_answer())


def _answer() -> dict[str, str]:
    return {
        "content_type": "application/json",
        "message_body": json.dumps({"error": REFUSAL}),
        "status_code": "403",
    }
