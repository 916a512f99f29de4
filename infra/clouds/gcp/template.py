"""The template of a group's machines: shielded, without an address of its own, started by cloud-config."""

from __future__ import annotations

from collections.abc import Mapping

from pulumi_gcp import compute

from infra.catalog import load
from infra.clouds.gcp.boot import disk_type, image, is_tpu
from infra.clouds.gcp.here import SCOPE, Here
from infra.clouds.gcp.network import Network
from infra.clouds.machine_site import Boot, MachineIdentity
from infra.plan import Plan, Pool

TAG = "servers"
# Nobody logs in: operators come through IAP by IAM, and the serial console is read, not typed into.
METADATA: Mapping[str, str] = {
    "block-project-ssh-keys": "true",
    "enable-oslogin": "TRUE",
    "serial-port-enable": "FALSE",
    "serial-port-logging-enable": "true",  # why a machine does not start is there
    "google-logging-enabled": "true",
    "google-monitoring-enabled": "true",
}
# A template is what its digest says: it is made once and never replaced under its name.
FINAL = (
    *("metadata", "disks", "machineType", "networkInterfaces", "serviceAccount", "scheduling", "guestAccelerators"),
    *("shieldedInstanceConfig", "tags", "labels", "canIpForward"),
)


def template(
    here: Here, net: Network, plan: Plan, pool: Pool, generation: str, boot: Boot, identity: MachineIdentity
) -> compute.InstanceTemplate:
    role = f"{pool.role}-{generation}"
    labels = {**here.labels(pool.role), "slipway-generation": generation}
    return compute.InstanceTemplate(
        role,
        name=here.name("compute/instanceTemplate:InstanceTemplate", pool.role, generation),
        machine_type=pool.machine_type,
        can_ip_forward=False,
        disks=[
            compute.InstanceTemplateDiskArgs(
                boot=True,
                auto_delete=True,
                source_image=plan.spec.pins.get(image(pool), image(pool)),
                disk_size_gb=pool.disk_gib,
                disk_type=disk_type(pool),
                labels=labels,
            )
        ],
        network_interfaces=[
            compute.InstanceTemplateNetworkInterfaceArgs(subnetwork=net.nodes.id, nic_type="GVNIC")  # no accessConfigs
        ],
        service_account=compute.InstanceTemplateServiceAccountArgs(email=identity.principal, scopes=[SCOPE]),
        metadata={**METADATA, "user-data": boot.user_data},
        guest_accelerators=_gpus(pool),
        scheduling=_scheduling(pool),
        shielded_instance_config=compute.InstanceTemplateShieldedInstanceConfigArgs(
            enable_secure_boot=True, enable_vtpm=True, enable_integrity_monitoring=True
        ),
        tags=[here.tag(TAG)],
        labels=labels,
        opts=here.on(ignore=FINAL),
    )


def _gpus(pool: Pool) -> list[compute.InstanceTemplateGuestAcceleratorArgs] | None:
    """Also where they are part of the machine type: Google wants the same number then. TPUs are never stated."""
    if pool.accelerator == "none" or is_tpu(pool):
        return None
    name = load().accelerator(pool.accelerator).gke_label  # Compute Engine's name of it
    if name is None:
        raise ValueError(f"{pool.accelerator}: Google Cloud does not sell it")
    return [compute.InstanceTemplateGuestAcceleratorArgs(type=name, count=pool.accelerator_count)]


def _scheduling(pool: Pool) -> compute.InstanceTemplateSchedulingArgs:
    """Machines with accelerators cannot move to another host; what is taken back is deleted, and the group makes
    another where there is one."""
    spot = pool.capacity_type == "spot"
    stays = not spot and pool.accelerator == "none"
    return compute.InstanceTemplateSchedulingArgs(
        provisioning_model="SPOT" if spot else "STANDARD",
        preemptible=spot,
        automatic_restart=not spot,
        on_host_maintenance="MIGRATE" if stays else "TERMINATE",
        instance_termination_action="DELETE" if spot else None,
    )
