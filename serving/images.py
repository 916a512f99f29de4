"""Images: tags by server and processor, from images.csv; a stack's own image or pinned digest goes before them."""

from __future__ import annotations

from infra.plan import Plan, Pool
from serving.facts import rows


def stock(name: str, accelerator: str = "none") -> str:
    """The catalogue's image of a server on a processor: its tag, or its digest where that was read."""
    kinds = ("*", "none" if accelerator == "none" else "gpu")
    row = next(r for r in rows("images.csv") if r["server"] == name and r["accelerator"] in kinds)
    return f"{row['image']}@{row['digest']}" if row["digest"] else row["image"]


def server_image(plan: Plan, pool: Pool) -> str:
    """The image of the stack's server in a pool: the stack's own where it names one."""
    return plan.spec.image or stock(plan.spec.server, pool.accelerator)
