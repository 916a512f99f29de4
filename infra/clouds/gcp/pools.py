"""Node pools: one for the system that no mode replaces, and those of the plan, each of one generation."""

from __future__ import annotations

from pulumi_gcp import container

from infra.catalog import load
from infra.clouds.gcp.facts import text
from infra.clouds.gcp.here import Here
from infra.clouds.gcp.nodes import NodeIdentity, node_config
from infra.clouds.site import Placement, Toleration
from infra.plan import Plan, Pool
from infra.plan.cost_facts import amount
from infra.plan.cost_facts import text as billed
from infra.plan.facts import fact
from infra.plan.partitions import MIG, partition

TAINT = "slipway-serving"  # pods that no server is stay away from serving nodes
# what the autoscaler owns: stated at creation, never again
AUTOSCALED = ("initialNodeCount", "nodeCount")
GKE = "cloud.google.com"  # prefix of labels that GKE puts on nodes
MANAGED = container.NodePoolManagementArgs


def system_zones(region: str, asked: tuple[str, ...], count: int) -> tuple[str, ...]:
    """As many zones as there are system nodes, or fewer: they depend on region and configuration, on no mode."""
    return (asked or load().zones_of("gcp", region, None))[:count]


def system_pool(here: Here, cluster: container.Cluster, nodes: NodeIdentity) -> container.NodePool:
    each = -(-int(amount("system_nodes", here.spec)) // len(here.zones))
    return container.NodePool(
        "system",
        name=here.name("container/nodePool:NodePool", "system"),
        cluster=cluster.name,
        location=here.spec.region,
        node_locations=list(here.zones),
        node_count=each,
        node_config=node_config(
            here,
            nodes,
            role="system",
            machine_type=billed("system_machine", here.spec),
            disk_gib=int(fact("boot_disk", here.spec)),
            disk_type=text("boot_disk"),
            labels={"slipway-role": "system"},
        ),
        management=MANAGED(auto_repair=True, auto_upgrade=True),
        upgrade_settings=container.NodePoolUpgradeSettingsArgs(max_surge=1, max_unavailable=0),
        network_config=container.NodePoolNetworkConfigArgs(enable_private_nodes=True),
        opts=here.on(*nodes.needs, slow=True),
    )


SYSTEM = {"slipway-role": "system"}


def serving_pool(
    here: Here, cluster: container.Cluster, nodes: NodeIdentity, plan: Plan, pool: Pool, generation: str
) -> Placement:
    labels = {"slipway-role": pool.role, "slipway-generation": generation}
    spot = pool.capacity_type == "spot"
    zones = _zones(pool)
    made = container.NodePool(
        f"{pool.role}-{generation}",
        name=here.name("container/nodePool:NodePool", pool.role, generation),
        cluster=cluster.name,
        location=here.spec.region,
        node_locations=list(zones),
        # a number for each zone: what is left over, the autoscaler adds for the pods that wait
        initial_node_count=pool.start_nodes // len(zones),
        autoscaling=container.NodePoolAutoscalingArgs(
            total_min_node_count=pool.min_nodes,
            total_max_node_count=max(pool.max_nodes, 1),
            location_policy="ANY" if spot else "BALANCED",  # spot: where there is capacity
        ),
        node_config=node_config(
            here,
            nodes,
            role=pool.role,
            machine_type=pool.machine_type,
            disk_gib=pool.disk_gib,
            disk_type=None if _is_tpu(pool) else text("boot_disk"),  # some TPU hosts take another: GKE picks it
            labels=labels,
            taints=[container.NodePoolNodeConfigTaintArgs(key=TAINT, value="true", effect="NO_SCHEDULE")],
            spot=spot,
            gpus=gpus(pool, plan),
        ),
        management=MANAGED(auto_repair=True, auto_upgrade=True),
        upgrade_settings=container.NodePoolUpgradeSettingsArgs(max_surge=1, max_unavailable=0),
        network_config=container.NodePoolNetworkConfigArgs(enable_private_nodes=True),
        opts=here.on(*nodes.needs, ignore=AUTOSCALED, slow=True),
    )
    device, devices = _device(pool, plan)
    tolerations = [Toleration(key=TAINT, value="true", effect="NoSchedule")]
    if device is not None:  # GKE taints nodes with devices by itself
        tolerations.append(Toleration(key=device, value=None, effect="NoSchedule"))
    selector = {**labels, **_selector(pool)}
    return Placement(
        node_selector=selector, tolerations=tuple(tolerations), device=device, devices=devices, after=[made]
    )


def _zones(pool: Pool) -> tuple[str, ...]:
    """On demand no more zones than first nodes, so that each gets one at once. Spot keeps them all: there the
    autoscaler looks for the zone that has some."""
    if pool.capacity_type == "spot" or pool.start_nodes == 0:
        return pool.zones
    return pool.zones[: pool.start_nodes]


def _is_tpu(pool: Pool) -> bool:
    return pool.tpu_topology is not None


def gpus(pool: Pool, plan: Plan) -> container.NodePoolNodeConfigGuestAcceleratorArgs | None:
    """A TPU comes with its machine type: no accelerator is stated, and on one host no placement policy either, or GKE
    refuses the pool."""
    if pool.accelerator == "none" or _is_tpu(pool):
        return None
    label = load().accelerator(pool.accelerator).gke_label
    if label is None:
        raise ValueError(f"{pool.accelerator}: Google Cloud does not sell it")
    sharing, clients = plan.serving.gpu_sharing, plan.serving.gpu_clients
    part = partition(pool.accelerator, clients) if sharing == MIG else None
    turns = container.NodePoolNodeConfigGuestAcceleratorGpuSharingConfigArgs
    return container.NodePoolNodeConfigGuestAcceleratorArgs(
        type=label,
        count=pool.accelerator_count,
        gpu_partition_size=part.profile if part else None,
        gpu_driver_installation_config=container.NodePoolNodeConfigGuestAcceleratorGpuDriverInstallationConfigArgs(
            gpu_driver_version=text("gpu_driver")
        ),
        gpu_sharing_config=None
        if sharing in ("none", MIG)
        else turns(gpu_sharing_strategy=text(f"sharing_{sharing}"), max_shared_clients_per_gpu=clients),
    )


def _selector(pool: Pool) -> dict[str, str]:
    """GKE wants a pod that asks for TPU chips to say which, and in which shape."""
    if pool.tpu_topology is None:
        return {}
    label = load().accelerator(pool.accelerator).gke_label
    return {f"{GKE}/gke-tpu-accelerator": str(label), f"{GKE}/gke-tpu-topology": pool.tpu_topology}


def _device(pool: Pool, plan: Plan) -> tuple[str | None, int]:
    """What a replica asks for. A pod takes all chips of a TPU machine; of a shared GPU it may ask for one share."""
    if pool.accelerator == "none":
        return None, 0
    if _is_tpu(pool):
        return "google.com/tpu", pool.accelerator_count
    shared = plan.serving.gpu_sharing != "none"
    return "nvidia.com/gpu", 1 if shared else max(1, pool.accelerator_count // pool.replicas_per_node)
