"""The pins of a stack: what it uses, and what each name means today."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.pins import registry
from cli.pins.registry import PinError

if TYPE_CHECKING:
    from infra.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Looked:
    """`pins` is what the configuration should say; `failed` is why the others are not in it."""

    pins: Mapping[str, str]
    read: tuple[str, ...]  # names that were looked up now
    dropped: tuple[str, ...]  # pinned before, and no longer used
    failed: tuple[str, ...]


def names(plan: Plan) -> dict[str, Callable[[], str]]:
    """Everything that a stack of this plan takes under a name that may move, and how to read what it means."""
    from serving.images import used

    found: dict[str, Callable[[], str]] = {image: _image(image) for image in used(plan)}
    if plan.spec.cloud == "aws" and plan.spec.shape == "vm":
        from infra.clouds.aws.images import image as boot

        for parameter in {boot(pool).parameter for pool in plan.pools}:
            found[parameter] = _boot(parameter, plan.spec.region)
    if plan.spec.cloud == "gcp" and plan.spec.shape == "vm":
        from infra.clouds.gcp.boot import image as family

        for name in {family(pool) for pool in plan.pools}:
            found[name] = _family(name)
    return found


def look(plan: Plan, *, update: bool) -> Looked:
    """What was pinned and is still used stays, unless `update`: a pin never changes by itself."""
    wanted, before = names(plan), plan.spec.pins
    pins = {name: value for name, value in before.items() if name in wanted and not update}
    read, failed = [], []
    for name in sorted(wanted.keys() - pins.keys()):
        try:
            pins[name] = wanted[name]()
            read.append(name)
        except PinError as e:
            failed.append(str(e))
            if name in before:
                pins[name] = before[name]
    return Looked(
        pins=dict(sorted(pins.items())),
        read=tuple(read),
        dropped=tuple(sorted(before.keys() - wanted.keys())),
        failed=tuple(failed),
    )


def _image(image: str) -> Callable[[], str]:
    return lambda: registry.digest(image)


def _family(name: str) -> Callable[[], str]:
    def read() -> str:
        from cli.pins.families import asking, newest

        return newest(name, asking())

    return read


def _boot(parameter: str, region: str) -> Callable[[], str]:
    def read() -> str:
        from cli.pins.parameters import image_id

        return image_id(parameter, region)

    return read
