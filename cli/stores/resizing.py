"""Another size of a store, by the configuration's own numbers: what it is, what it costs, and whether it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cli import plans
from cli.configfile import write_text
from cli.errors import REFUSED, USAGE, CliError
from cli.models.edit import set_number
from cli.session import Session
from cli.stores import costs, sizes
from cli.stores.remote import Standing
from infra.catalog import load
from infra.stores import protect

KEY = "slipway:features"


@dataclass(frozen=True, kw_only=True)
class Change:
    text: str  # of the configuration file, changed
    sizes: Mapping[str, Any]  # what the cloud can be asked for at once; none: the store grows by itself
    lines: tuple[str, ...]


def change(session: Session, its: Standing, numbers: Mapping[str, float]) -> Change:
    """Nothing is written yet. What would shrink a store below its data is refused, as `up` refuses it."""
    if not numbers:
        raise CliError("nothing to change; allowed: --keys, --value-bytes, --reads, --writes", USAGE)
    file = session.project.config_file(session.stack)
    text = file.read_text()
    before = plans.specification(session.project, session.stack, {})
    whole = session.project.config(session.stack).get(KEY)
    whole = dict(whole) if isinstance(whole, Mapping) else {}
    for name, number in numbers.items():
        text = set_number(text, (KEY, name), number)
    plan = plans.plan(session.project, session.stack, {KEY: {**whole, **numbers}})  # type: ignore[dict-item]
    recorded = session.outputs().get("store")
    held = protect.hold(plan.spec, recorded).spec
    module = import_module(f"infra.stores.{held.feature_store}")
    verdict = protect.verdict(module.KIND.name, recorded, module.fields(plan, session.stack), held)
    if verdict.refused:
        raise CliError([str(p) for p in verdict.refused], REFUSED)
    old, new, catalog = sizes.planned(its.store, before), sizes.planned(its.store, held), load()
    usd = [costs.month(x, catalog) for x in (before, held)]
    told = ["no price in the catalogue" if u is None else f"${u} a month" for u in usd]
    lines = [f"{name}: {number:g}" for name, number in numbers.items()]
    lines.append(f"size: {_text(old)} -> {_text(new)}" if new else "the store grows by itself: no size changes")
    lines.append(f"bill of the store: {told[0]} -> {told[1]}")
    return Change(text=text, sizes=new, lines=tuple(lines))


def write(session: Session, change: Change) -> None:
    write_text(session.project.config_file(session.stack), change.text)


def _text(planned: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {'..'.join(map(str, v)) if isinstance(v, list) else v}" for k, v in planned.items())
