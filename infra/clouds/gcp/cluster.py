"""The regional cluster: private nodes, secrets encrypted, the control plane open to administrators alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_gcp import container

from infra.clouds.gcp.facts import text
from infra.clouds.gcp.here import SCOPE, Here
from infra.clouds.gcp.keys import Key
from infra.clouds.gcp.network import PODS, SERVICES, ClusterNetwork
from infra.clouds.gcp.nodes import NodeIdentity
from infra.plan.cost_facts import text as billed

NO_CERTIFICATE = container.ClusterMasterAuthClientCertificateConfigArgs(issue_client_certificate=False)


def cluster(here: Here, net: ClusterNetwork, key: Key, nodes: NodeIdentity) -> container.Cluster:
    spec = here.spec
    return container.Cluster(
        "cluster",
        name=here.name("container/cluster:Cluster", "cluster"),
        location=spec.region,
        node_locations=list(here.zones),
        network=net.network.id,
        subnetwork=net.nodes.id,
        networking_mode="VPC_NATIVE",
        datapath_provider="ADVANCED_DATAPATH",  # Dataplane V2: it enforces network policies by itself
        network_policy=container.ClusterNetworkPolicyArgs(enabled=False),  # and the add-on that also does stays off
        enable_intranode_visibility=True,
        ip_allocation_policy=container.ClusterIpAllocationPolicyArgs(
            cluster_secondary_range_name=PODS, services_secondary_range_name=SERVICES
        ),
        dns_config=container.ClusterDnsConfigArgs(cluster_dns="CLOUD_DNS", cluster_dns_scope="CLUSTER_SCOPE"),
        initial_node_count=1,
        remove_default_node_pool=True,
        node_config=_first_pool(here, nodes),
        min_master_version=spec.kubernetes_version or text("kubernetes_version"),
        release_channel=container.ClusterReleaseChannelArgs(channel=text("release_channel")),
        deletion_protection=spec.protect,
        resource_labels=here.labels("cluster"),
        enable_shielded_nodes=True,
        enable_legacy_abac=False,
        vertical_pod_autoscaling=container.ClusterVerticalPodAutoscalingArgs(enabled=True),
        private_cluster_config=_private(spec.admin_cidrs, net),
        master_authorized_networks_config=_administrators(spec.admin_cidrs),
        control_plane_endpoints_config=_dns_endpoint(spec.admin_cidrs),
        master_auth=container.ClusterMasterAuthArgs(client_certificate_config=NO_CERTIFICATE),
        logging_config=container.ClusterLoggingConfigArgs(enable_components=["SYSTEM_COMPONENTS", "WORKLOADS"]),
        monitoring_config=_monitoring(),
        cost_management_config=container.ClusterCostManagementConfigArgs(enabled=True),
        security_posture_config=container.ClusterSecurityPostureConfigArgs(mode="BASIC"),
        addons_config=_addons(spec.model_access == "mount"),
        workload_identity_config=container.ClusterWorkloadIdentityConfigArgs(
            workload_pool=f"{here.project}.svc.id.goog"
        ),
        database_encryption=container.ClusterDatabaseEncryptionArgs(state="ENCRYPTED", key_name=key.id),
        binary_authorization=container.ClusterBinaryAuthorizationArgs(
            evaluation_mode="PROJECT_SINGLETON_POLICY_ENFORCE"
        ),
        # of the first pool, which is gone at once; a field of it that GKE fills in later must not replace the cluster.
        # Not after NAT: that pool needs nothing from outside Google, and the cluster is the longest step
        opts=here.on(net.control_plane, key.usable, *nodes.allowed, ignore=["nodeConfig"], slow=True),
    )


def _first_pool(here: Here, nodes: NodeIdentity) -> container.ClusterNodeConfigArgs:
    """GKE makes a cluster with a pool and Pulumi removes it: for those minutes it is one of ours, not the default
    service account's, which many organisations have disabled."""
    return container.ClusterNodeConfigArgs(
        machine_type=billed("system_machine", here.spec),
        service_account=nodes.email,
        oauth_scopes=[SCOPE],
        tags=[here.tag("nodes")],
        metadata={"disable-legacy-endpoints": "true"},
        workload_metadata_config=container.ClusterNodeConfigWorkloadMetadataConfigArgs(mode="GKE_METADATA"),
        shielded_instance_config=container.ClusterNodeConfigShieldedInstanceConfigArgs(
            enable_secure_boot=True, enable_integrity_monitoring=True
        ),
    )


def _private(admins: Sequence[str], net: ClusterNetwork) -> container.ClusterPrivateClusterConfigArgs:
    return container.ClusterPrivateClusterConfigArgs(
        enable_private_nodes=True,
        enable_private_endpoint=not admins,
        private_endpoint_subnetwork=net.control_plane.id,
    )


def _monitoring() -> container.ClusterMonitoringConfigArgs:
    """The system's own; the servers' metrics are the stack's Prometheus's, so that none is stored and billed twice."""
    return container.ClusterMonitoringConfigArgs(
        enable_components=["SYSTEM_COMPONENTS"],
        managed_prometheus=container.ClusterMonitoringConfigManagedPrometheusArgs(enabled=False),
    )


def _administrators(admins: Sequence[str]) -> container.ClusterMasterAuthorizedNetworksConfigArgs:
    blocks = container.ClusterMasterAuthorizedNetworksConfigCidrBlockArgs
    return container.ClusterMasterAuthorizedNetworksConfigArgs(
        cidr_blocks=[blocks(cidr_block=c, display_name=f"admins-{i}") for i, c in enumerate(admins)],
        gcp_public_cidrs_access_enabled=False,
    )


def _dns_endpoint(admins: Sequence[str]) -> container.ClusterControlPlaneEndpointsConfigArgs:
    """Without administrators' addresses the control plane has no public one, and its DNS endpoint asks IAM."""
    return container.ClusterControlPlaneEndpointsConfigArgs(
        dns_endpoint_config=container.ClusterControlPlaneEndpointsConfigDnsEndpointConfigArgs(
            allow_external_traffic=not admins
        )
    )


def _addons(mounts: bool) -> container.ClusterAddonsConfigArgs:
    """No controller that would make a load balancer of its own: it would be in no state file."""
    return container.ClusterAddonsConfigArgs(
        http_load_balancing=container.ClusterAddonsConfigHttpLoadBalancingArgs(disabled=True),
        horizontal_pod_autoscaling=container.ClusterAddonsConfigHorizontalPodAutoscalingArgs(disabled=False),
        gcs_fuse_csi_driver_config=container.ClusterAddonsConfigGcsFuseCsiDriverConfigArgs(enabled=mounts),
    )


def kubeconfig(here: Here, made: container.Cluster) -> pulumi.Output[str]:
    """Names the command that fetches a credential, never a credential: a token would be another one at every `up`."""
    server: pulumi.Output[dict[str, str | None]]
    if here.spec.admin_cidrs:
        known = pulumi.Output.all(made.endpoint, made.master_auth.cluster_ca_certificate)
        server = known.apply(lambda k: {"server": f"https://{k[0]}", "certificate-authority-data": k[1]})
    else:  # its certificate is signed by a public authority
        endpoint = made.control_plane_endpoints_config.dns_endpoint_config.endpoint
        server = endpoint.apply(lambda e: {"server": f"https://{e}"})
    return pulumi.Output.all(made.name, server).apply(lambda k: _kubeconfig(k[0], k[1]))


def _kubeconfig(name: str, server: Mapping[str, str | None]) -> str:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "gke-gcloud-auth-plugin",
        "installHint": "gcloud components install gke-gcloud-auth-plugin",
        "provideClusterInfo": True,
        "interactiveMode": "Never",
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": dict(server)}],
        "users": [{"name": name, "user": {"exec": plugin}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(config, sort_keys=True)


def kubeconfig_command(here: Here, made: container.Cluster) -> pulumi.Output[str]:
    by_name = "" if here.spec.admin_cidrs else " --dns-endpoint"
    place = f" --region {here.spec.region} --project {here.project}{by_name}"
    return pulumi.Output.concat("gcloud container clusters get-credentials ", made.name, place)


def kubernetes_provider(
    here: Here, made: container.Cluster, config: pulumi.Output[str], *after: pulumi.Resource
) -> kubernetes.Provider:
    """`cluster_identifier`: the provider, and every object with it, is replaced only with the cluster."""
    return kubernetes.Provider(
        "kubernetes",
        kubeconfig=config,
        cluster_identifier=made.id,
        opts=pulumi.ResourceOptions(depends_on=list(after)),
    )
