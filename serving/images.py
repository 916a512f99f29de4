"""Images: tags by server and processor, from images.csv; a stack's own image and its pins go before them."""

from __future__ import annotations

from infra.plan import Plan, Pool
from serving.facts import rows


def stock(plan: Plan, name: str, accelerator: str = "none") -> str:
    """The catalogue's image of a server on a processor: its tag, with a digest where stack or catalogue has one."""
    return _pinned(plan, *_row(name, accelerator))


def server_image(plan: Plan, pool: Pool) -> str:
    """The image of the stack's server in a pool: the stack's own where it names one."""
    return _pinned(plan, *_server(plan, pool))


def used(plan: Plan) -> tuple[str, ...]:
    """Every image that a stack of this plan may run under a tag that is not pinned by the catalogue or the stack's own
    `image`. Python copies models and runs batch jobs, Envoy is the entry of a cluster, and stands before a
    server that cannot look features up."""
    found = [_server(plan, pool) for pool in plan.pools] + [_row("python", "none")]
    before = plan.spec.server == "tf-serving" and plan.spec.feature_store != "none"  # on each machine
    if plan.spec.shape == "kubernetes" or before:
        found.append(_row("envoy", "none"))
    return tuple(dict.fromkeys(image for image, digest in found if not digest and "@" not in image))


def _server(plan: Plan, pool: Pool) -> tuple[str, str]:
    return (plan.spec.image, "") if plan.spec.image else _row(plan.spec.server, pool.accelerator)


def _row(name: str, accelerator: str) -> tuple[str, str]:
    kinds = ("*", "none" if accelerator == "none" else "gpu")
    row = next(r for r in rows("images.csv") if r["server"] == name and r["accelerator"] in kinds)
    return row["image"], row["digest"]


def _pinned(plan: Plan, image: str, digest: str) -> str:
    """The tag stays before the digest: it says to a person what the digest is of."""
    pin = plan.spec.pins.get(image) or digest
    return f"{image}@{pin}" if pin else image
