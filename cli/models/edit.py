"""Sets one number of a list or mapping in a stack's configuration file, and leaves every other character as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cli.configfile import write_text
from cli.errors import USAGE, CliError

KEY = "slipway:models"
Way = Sequence[str | int]


def write_version(path: Path, index: int, version: int) -> None:
    write_text(path, set_version(path.read_text(), index, version))


def set_version(text: str, index: int, version: int) -> str:
    """The text with models[index].version changed, or put in front of the model's first key."""
    return set_number(text, (KEY, index, "version"), version)


def set_number(text: str, way: Way, number: float) -> str:
    """The text with one number below `config:` changed, or put in front of the first key of its mapping."""
    *outer, name = way
    node = _mapping(yaml.compose(text), outer)
    if node is None:
        _refuse(way, number)
    assert node is not None
    known = next((v for k, v in node.value if k.value == name), None)
    if known is not None:
        changed = text[: known.start_mark.index] + str(number) + text[known.end_mark.index :]
    else:
        at = node.value[0][0].start_mark
        between = ", " if node.flow_style else "\n" + " " * at.column
        changed = f"{text[: at.index]}{name}: {number}{between}{text[at.index :]}"
    wanted = yaml.safe_load(text)
    below = wanted["config"]
    for step in outer:
        below = below[step]
    below[name] = number
    try:
        if yaml.safe_load(changed) == wanted:
            return changed
    except yaml.YAMLError:
        pass  # told below, as every form that this edit does not know
    _refuse(way, number)
    raise AssertionError("refused")


def _mapping(root: Any, way: Way) -> Any:
    """The mapping at that place, where it stands as YAML and has a key."""
    for step in ("config", *way):
        if isinstance(root, yaml.MappingNode):
            root = next((v for k, v in root.value if k.value == step), None)
        elif isinstance(root, yaml.SequenceNode) and isinstance(step, int) and step < len(root.value):
            root = root.value[step]
        else:
            return None
    return root if isinstance(root, yaml.MappingNode) and root.value else None


def _refuse(way: Way, number: float) -> None:
    first, *rest = way
    named = str(first).removeprefix("slipway:") + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in rest)
    raise CliError(
        f"{named}: the stack's configuration file is written in a form that is not edited here. "
        f"To fix: set {named} to {number} in it by hand",
        USAGE,
    )
