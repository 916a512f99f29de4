"""The phases of a scenario: what each one runs, with which configuration, and what it must not do."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from cli.engines.base import Command
from cli.errors import USAGE, CliError

DEFAULT = "up,noop,switch,switch-back,destroy,destroy-again,up-again"
OTHER = {"horizontal": "vertical", "vertical": "horizontal"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`config`: which configuration it runs with; `still`: it must change nothing."""

    command: Command
    config: str  # first: as given; changed: as switched; current: as the phase before left it
    still: bool = False


KINDS: Mapping[str, Kind] = {
    "up": Kind(command="up", config="first"),
    "noop": Kind(command="up", config="current", still=True),
    "switch": Kind(command="up", config="changed"),
    "switch-back": Kind(command="up", config="first"),
    "destroy": Kind(command="destroy", config="current"),
    "destroy-again": Kind(command="destroy", config="current", still=True),
    "up-again": Kind(command="up", config="first"),
}


def parse(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    problems = []
    for name in names:
        if name not in KINDS:
            near = difflib.get_close_matches(name, KINDS, 1)
            hint = f". Did you mean '{near[0]}'?" if near else ""
            problems.append(f"--scenario: no phase '{name}'; allowed: {', '.join(KINDS)}{hint}")
    if problems or not names:
        raise CliError(problems or [f"--scenario: names no phase; allowed: {', '.join(KINDS)}"], USAGE)
    return names


def pairs(option: str, settings: list[str], namespace: str) -> dict[str, str]:
    """key=value settings with the namespace of the project where they have none."""
    wrong = [
        f"{option} {s}: not of the form key=value" for s in settings if "=" not in s or not s.split("=")[0].strip()
    ]
    if wrong:
        raise CliError(wrong, USAGE)
    found = [(key.strip(), value) for key, _, value in (s.partition("=") for s in settings)]
    return {key if ":" in key else f"{namespace}:{key}": value for key, value in found}


def other_scaling(config: Mapping[str, object], key: str) -> dict[str, str]:
    """What `slipway switch` would set; nothing where the project has no such key."""
    now = config.get(key)
    return {key: OTHER[now]} if isinstance(now, str) and now in OTHER else {}
