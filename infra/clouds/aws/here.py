"""What every resource on AWS is told: account, region, provider, names, tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

import infra.catalog
from infra.clouds.aws.facts import whole, without_control_plane
from infra.clouds.naming import physical
from infra.plan.zones import network_zones
from infra.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Here:
    spec: Spec
    stack: str
    provider: aws.Provider
    account: str
    zones: tuple[str, ...]
    control_zones: tuple[str, ...]  # of those, where EKS may place a control plane; none where there is no cluster

    def name(self, kind: str, role: str, digest: str | None = None) -> str:
        """`kind` without the cloud: eks/cluster:Cluster."""
        return physical(f"aws:{kind}", self.stack, role, digest, account=self.account)

    def tags(self, role: str) -> dict[str, str]:
        """`Name` is what the console shows; by the other two an interrupted or forgotten resource is found."""
        return {"Name": f"{self.stack}-{role}", "slipway-stack": self.stack, "slipway-role": role}

    def on(
        self, *after: pulumi.Resource, ignore: Sequence[str] = (), slow_delete: bool = False, drain_s: int = 0
    ) -> pulumi.ResourceOptions:
        """Options of a resource. A named one that must be replaced is made anew first: the provider's own way is to
        delete first whenever a name was given, and only a stated option overrides it. A slow delete takes `drain_s`
        more."""
        deleted = f"{whole('delete_timeout') * 60 + drain_s}s"
        return pulumi.ResourceOptions(
            provider=self.provider,
            depends_on=list(after),
            delete_before_replace=False,
            ignore_changes=list(ignore),
            custom_timeouts=pulumi.CustomTimeouts(delete=deleted) if slow_delete else None,
        )

    def arn(self, service: str, rest: str) -> str:
        return f"arn:aws:{service}:{self.spec.region}:{self.account}:{rest}"


def here(spec: Spec, stack: str, provider: aws.Provider, *, control_plane: bool = True) -> Here:
    """Asks the cloud whose account it is, and which of the stack's zones take a control plane, where it has one."""
    ask = pulumi.InvokeOptions(provider=provider)
    zones = network_zones(spec, infra.catalog.load())
    if len(zones) < 2:
        raise pulumi.RunError(
            f"zones: {', '.join(zones)} is one zone, and AWS places a load balancer of applications in two at least; "
            f"allowed: two or more zones of {spec.region}. To fix: set zones to two or more of them"
        )
    return Here(
        spec=spec,
        stack=stack,
        provider=provider,
        account=aws.get_caller_identity(opts=ask).account_id,
        zones=zones,
        control_zones=_control_zones(zones, ask) if control_plane else (),
    )


def _control_zones(zones: tuple[str, ...], ask: pulumi.InvokeOptions) -> tuple[str, ...]:
    known = aws.get_availability_zones(opts=ask)
    ids = dict(zip(known.names, known.zone_ids, strict=True))
    fit = tuple(z for z in zones if ids.get(z) not in without_control_plane())
    if len(fit) < 2:
        unfit = ", ".join(f"{z} ({ids[z]})" for z in zones if z not in fit) or "none"
        raise pulumi.RunError(
            f"zones: EKS needs two zones that take a control plane, and of {', '.join(zones)} these take none in this "
            f"account: {unfit}. To fix: set zones to two or more of {', '.join(ids)}"
        )
    return fit
