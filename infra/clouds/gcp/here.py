"""What every resource on Google Cloud is told: project, region, provider, names, labels, options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from infra.clouds.gcp.facts import whole
from infra.clouds.naming import label, physical
from infra.spec import Spec

SCOPE = "https://www.googleapis.com/auth/cloud-platform"  # rights come from the roles alone


@dataclass(frozen=True, kw_only=True)
class Here:
    spec: Spec
    stack: str
    project: str
    provider: gcp.Provider
    zones: tuple[str, ...]  # of what stands beside the servers: no mode moves them

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
        self,
        *after: pulumi.Resource,
        ignore: Sequence[str] = (),
        slow: bool = False,
        named: bool = True,
        kept: bool = False,
        create_s: int = 0,
    ) -> pulumi.ResourceOptions:
        """Options of a resource. A named one that must be replaced is made anew first: the provider's own way is to
        delete first whenever a name was given, and only a stated option overrides it. `kept`: what goes with its owner
        is left there by its own deletion. `create_s`: its creation may take so long, if that is beyond the usual."""
        minutes = {
            "create": f"{max(whole('create_timeout'), -(-create_s // 60))}m",
            "delete": f"{whole('delete_timeout')}m",
        }
        return pulumi.ResourceOptions(
            provider=self.provider,
            depends_on=list(after),
            delete_before_replace=False if named else None,
            ignore_changes=list(ignore),
            retain_on_delete=True if kept else None,
            custom_timeouts=pulumi.CustomTimeouts(**minutes) if slow else None,
        )
