"""Models in buckets: what is not there is said before anything is declared, and who serves may read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from infra.clouds.site import Grant, ModelFiles
from infra.plan import Plan
from infra.spec import Problem
from infra.spec.problems import problem


class Looks(Protocol):
    def model_missing(self, storage_uri: str) -> str | None: ...


def absent(site: Looks, plan: Plan, stack: str) -> list[Problem]:
    """Models whose bucket does not have them, each with the way to put it there."""
    found = []
    for model in plan.models:
        if "://" not in model.storage_uri:
            continue
        why = site.model_missing(model.storage_uri)
        if why is not None:
            index = plan.spec.models.index(model)
            way = f"run `slipway models push {stack} {model.name}=PATH`, or set storage_uri to a local path"
            found.append(problem(("models", index, "storage_uri"), f"{model.storage_uri}: {why}", to_fix=way))
    return found


def reads(plan: Plan, models: ModelFiles | None, others: Sequence[Plan] = ()) -> list[Grant]:
    """Each bucket that a model is read from; `others` are plans whose machines still stand and may start again."""
    found = [m for p in (plan, *others) for m in p.models]
    buckets = {m.storage_uri.split("/")[2] for m in found if "://" in m.storage_uri}
    own = [] if models is None else [Grant(kind="read_bucket", target=models.bucket)]
    return [*own, *(Grant(kind="read_bucket", target=b) for b in sorted(buckets))]
