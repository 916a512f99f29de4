"""Which requests pass the entry of machines: the rows of infra/plan/predictions.csv, in their order; no other."""

from __future__ import annotations

from pulumi_gcp import compute

from infra.clouds.gcp.facts import whole
from infra.clouds.gcp.here import Here
from infra.plan.predictions import Asked, asked

# A second try where the first one did not reach a server, or met one that stops.
RETRIED = {
    "http": ("gateway-error", "connect-failure", "refused-stream"),
    "grpc": ("connect-failure", "refused-stream", "unavailable", "internal", "cancelled"),
}
REFUSED = 403


def routes(
    here: Here,
    protocol: str,
    backend: compute.RegionBackendService,
    refused: compute.RegionBackendService,
) -> compute.RegionUrlMap:
    """The balancer answers 403 to what no row allows; did it not, that would meet a backend without machines."""
    role = f"entry-{protocol}"
    abort = compute.RegionUrlMapPathMatcherDefaultRouteActionFaultInjectionPolicyAbortArgs
    no = compute.RegionUrlMapPathMatcherDefaultRouteActionArgs(
        fault_injection_policy=compute.RegionUrlMapPathMatcherDefaultRouteActionFaultInjectionPolicyArgs(
            abort=abort(http_status=REFUSED, percentage=100.0)
        )
    )
    rules = [
        _route(i, row, backend if row.allowed else refused, protocol)
        for i, row in enumerate(asked(here.spec.server, protocol), start=1)
    ]
    return compute.RegionUrlMap(
        role,
        name=here.name("compute/regionUrlMap:RegionUrlMap", role),
        region=here.spec.region,
        default_service=refused.id,
        host_rules=[compute.RegionUrlMapHostRuleArgs(hosts=["*"], path_matcher="predictions")],
        path_matchers=[
            compute.RegionUrlMapPathMatcherArgs(
                name="predictions", default_service=refused.id, default_route_action=no, route_rules=rules
            )
        ],
        opts=here.on(),
    )


def _route(
    priority: int, row: Asked, to: compute.RegionBackendService, protocol: str
) -> compute.RegionUrlMapPathMatcherRouteRuleArgs:
    match, header = (
        compute.RegionUrlMapPathMatcherRouteRuleMatchRuleArgs,
        compute.RegionUrlMapPathMatcherRouteRuleMatchRuleHeaderMatchArgs,
    )
    wild = "*" in row.path
    return compute.RegionUrlMapPathMatcherRouteRuleArgs(
        priority=priority,
        match_rules=[
            match(
                path_template_match=row.path if wild else None,
                full_path_match=None if wild else row.path,
                header_matches=[header(header_name=":method", exact_match=row.method)],
            )
        ],
        service=to.id,
        route_action=_retried(protocol) if row.allowed else _no(),
    )


def _retried(protocol: str) -> compute.RegionUrlMapPathMatcherRouteRuleRouteActionArgs:
    return compute.RegionUrlMapPathMatcherRouteRuleRouteActionArgs(
        retry_policy=compute.RegionUrlMapPathMatcherRouteRuleRouteActionRetryPolicyArgs(
            num_retries=whole("entry_retries"), retry_conditions=list(RETRIED[protocol])
        )
    )


def _no() -> compute.RegionUrlMapPathMatcherRouteRuleRouteActionArgs:
    abort = compute.RegionUrlMapPathMatcherRouteRuleRouteActionFaultInjectionPolicyAbortArgs
    return compute.RegionUrlMapPathMatcherRouteRuleRouteActionArgs(
        fault_injection_policy=compute.RegionUrlMapPathMatcherRouteRuleRouteActionFaultInjectionPolicyArgs(
            abort=abort(http_status=REFUSED, percentage=100.0)
        )
    )
