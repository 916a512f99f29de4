"""Whom nodes are: a service account of their own with the least that a node needs, and what every node pool shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import container, projects, serviceaccount

from infra.clouds.gcp.facts import whole
from infra.clouds.gcp.here import SCOPE, Here
from infra.plan.facts import spot_notice_s

# logs, metrics and the node's own heartbeat; images from the project's own registry
ROLES = ("roles/container.defaultNodeServiceAccount", "roles/artifactregistry.reader")


@dataclass(frozen=True, kw_only=True)
class NodeIdentity:
    email: pulumi.Output[str]
    allowed: Sequence[pulumi.Resource]  # before them a node does not register
    needs: Sequence[pulumi.Resource]  # and before these it pulls no image from outside Google


def node_identity(here: Here, nat: pulumi.Resource) -> NodeIdentity:
    account = serviceaccount.Account(
        "nodes",
        account_id=here.name("serviceaccount/account:Account", "nodes"),
        display_name=f"Nodes of Slipway's stack {here.stack}",
        opts=here.on(),
    )
    allowed = [
        projects.IAMMember(
            f"nodes-{role.rpartition('.')[2]}", project=here.project, role=role, member=account.member, opts=here.on()
        )
        for role in ROLES
    ]
    return NodeIdentity(email=account.email, allowed=[account, *allowed], needs=[account, *allowed, nat])


def node_config(
    here: Here,
    nodes: NodeIdentity,
    *,
    role: str,
    machine_type: str,
    disk_gib: int,
    labels: Mapping[str, str],
    taints: Sequence[container.NodePoolNodeConfigTaintArgs] = (),
    spot: bool = False,
    disk_type: str | None = None,
    gpus: container.NodePoolNodeConfigGuestAcceleratorArgs | None = None,
) -> container.NodePoolNodeConfigArgs:
    return container.NodePoolNodeConfigArgs(
        machine_type=machine_type,
        spot=spot,
        disk_size_gb=disk_gib,
        disk_type=disk_type,
        image_type="COS_CONTAINERD",
        service_account=nodes.email,
        oauth_scopes=[SCOPE],
        labels=labels,
        resource_labels=here.labels(role),
        taints=list(taints) or None,
        tags=[here.tag("nodes"), here.tag(role)] if role == "system" else [here.tag("nodes")],
        metadata={"disable-legacy-endpoints": "true"},
        guest_accelerators=[gpus] if gpus else None,
        gcfs_config=container.NodePoolNodeConfigGcfsConfigArgs(enabled=True),  # image streaming
        gvnic=container.NodePoolNodeConfigGvnicArgs(enabled=True),
        workload_metadata_config=container.NodePoolNodeConfigWorkloadMetadataConfigArgs(mode="GKE_METADATA"),
        shielded_instance_config=container.NodePoolNodeConfigShieldedInstanceConfigArgs(
            enable_secure_boot=True, enable_integrity_monitoring=True
        ),
        kubelet_config=_kubelet(here, spot),
    )


def _kubelet(here: Here, spot: bool) -> container.NodePoolNodeConfigKubeletConfigArgs:
    """A spot node asks for the whole notice that Google gives, where the cluster's version can."""
    notice, critical = whole("spot_shutdown"), whole("spot_shutdown_critical")
    longer = spot and spot_notice_s(here.spec) >= notice - critical
    return container.NodePoolNodeConfigKubeletConfigArgs(
        insecure_kubelet_readonly_port_enabled="FALSE",
        cpu_cfs_quota=True,
        shutdown_grace_period_seconds=notice if longer else None,
        shutdown_grace_period_critical_pods_seconds=critical if longer else None,
    )
