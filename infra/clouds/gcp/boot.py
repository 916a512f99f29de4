"""What a machine of a group starts from: image, disk, scheduling, as rows of facts.csv; no SDK is loaded for it."""

from __future__ import annotations

from infra.clouds.gcp.facts import known, text
from infra.plan import Pool


def is_tpu(pool: Pool) -> bool:
    return pool.tpu_topology is not None


def image(pool: Pool) -> str:
    """Container-Optimized OS; on TPU machines Google's Ubuntu with their drivers. A family: each machine takes the
    newest image of it when it is made, and no template changes by that; `slipway pin` holds it."""
    return text("tpu_image" if is_tpu(pool) else "cos_image")


def disk_type(pool: Pool) -> str:
    """What the machine's series boots from: not every one takes a persistent disk."""
    series = pool.machine_type.partition("-")[0]
    return known(f"disk_{series}") or text("boot_disk")
