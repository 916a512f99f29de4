"""Generations of machines beside the wanted one: recorded by an update, so that the next declares them as they are.

A record is one line of text: the plan, and what each pool's machines were told. It keeps whole numbers and absent
values, which a stack's outputs do not, and nothing in it is made anew: a later version of the renderer, or a model file
that is another by then, changes no machine of a generation that is about to go.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.plan import Plan
from infra.plan.transition import one_list
from infra.spec import SpecError


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the machines of one pool were told: `infra.clouds.machine_site.Boot` without its resources."""

    user_data: str
    ports: Mapping[str, int]
    ready_path: str
    startup_s: int
    drain_s: int
    spot_notice_s: int


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One that was declared, with all that declares it."""

    digest: str
    plan: Plan
    told: Mapping[str, Told]  # by role of the pool
    uploaded: bool = False  # its files are in the stack's own bucket


def digest(plan: Plan, texts: Sequence[str], images: Sequence[str], uploaded: str = "") -> str:
    """The plan's digest with what else makes another machine: what it is told at its start, its boot image, its zones
    (a group's cannot change), and uploaded files' digest."""
    zones = [",".join(pool.zones) for pool in plan.pools]
    text = "\0".join([plan.generation, uploaded, *texts, *images, *zones])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def pack(generation: Generation) -> str:
    plain = {
        "digest": generation.digest,
        "plan": generation.plan.to_json(),
        "told": {role: asdict(told) for role, told in generation.told.items()},
        "uploaded": generation.uploaded,
    }
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def unpack(record: str) -> Generation:
    """Raises ValueError for what this version cannot read."""
    try:
        plain: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(record, validate=True)))
        return Generation(
            digest=plain["digest"],
            plan=Plan.from_json(plain["plan"]),
            told={role: Told(**told) for role, told in plain["told"].items()},
            uploaded=plain["uploaded"],
        )
    except (SpecError, ValueError, KeyError, TypeError, OSError, EOFError) as e:
        raise ValueError(f"the record of a generation of machines cannot be read: {e}") from e


def beside(plan: Plan, digest: str, recorded: Sequence[Generation]) -> list[Generation]:
    """The old generations that this update declares beside the wanted one; `recorded`: what the last update that ended
    well declared, its own first. An update that wants the same generation as that one retires all others."""
    if not one_list(plan.spec) or not recorded or recorded[0].digest == digest:
        return []
    return [g for g in recorded if g.digest != digest]


def shared_path(own: Sequence[str], others: Sequence[Sequence[str]]) -> str:
    """A ready path that every generation answers: the entry's health check is one for all. The servers open their ports
    when all models are loaded, so each model's path says the same. Without a common model the wanted ones count."""
    common = [path for path in own if all(path in paths for paths in others)]
    return (common or list(own))[-1]


def still_costs(others: Sequence[Generation]) -> tuple[float, float]:
    """USD an hour of their machines, at the least and at the most."""
    pools = [pool for g in others for pool in g.plan.pools]
    return sum(p.min_nodes * p.usd_per_hour for p in pools), sum(p.max_nodes * p.usd_per_hour for p in pools)


def in_words(others: Sequence[Generation], stack: str) -> str:
    """What a person has to know between the two updates."""
    least, most = still_costs(others)
    price = f"${most:,.2f}" if most - least < 0.005 else f"${least:,.2f} to ${most:,.2f}"
    names = ", ".join(g.digest for g in others)
    return (
        f"still there and serving beside the new generation: {names}, at {price} an hour. A second `pulumi up` "
        f"(slipway up {stack}) takes it out of the entry and deletes it"
    )
