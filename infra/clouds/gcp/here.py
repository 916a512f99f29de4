"""What every resource on Google Cloud is told: project, region, provider, names, labels, options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from infra.clouds.gcp.facts import whole
from infra.clouds.naming import label, physical
from infra.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Here:
    spec: Spec
    stack: str
    project: str
    provider: gcp.Provider
    zones: tuple[str, ...]  # of the system pool: no mode moves them

    def name(self, kind: str, role: str, digest: str | None = None) -> str:
        """`kind` without the cloud: container/cluster:Cluster."""
        return physical(f"gcp:{kind}", self.stack, role, digest, account=self.project)

    def labels(self, role: str) -> dict[str, str]:
        """By them an interrupted or forgotten resource is found."""
        return {"slipway-stack": label(self.stack), "slipway-role": label(role)}

    def tag(self, role: str) -> str:
        """Network tag: what firewall rules aim at."""
        return self.name("compute/tag:Tag", role)

    def on(
        self, *after: pulumi.Resource, ignore: Sequence[str] = (), slow: bool = False, named: bool = True
    ) -> pulumi.ResourceOptions:
        """Options of a resource. A named one that must be replaced is made anew first: the provider's own way is to
        delete first whenever a name was given, and only a stated option overrides it."""
        minutes = {step: f"{whole(f'{step}_timeout')}m" for step in ("create", "delete")}
        return pulumi.ResourceOptions(
            provider=self.provider,
            depends_on=list(after),
            delete_before_replace=False if named else None,
            ignore_changes=list(ignore),
            custom_timeouts=pulumi.CustomTimeouts(**minutes) if slow else None,
        )
