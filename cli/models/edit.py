"""Sets the version of one model in a stack's configuration file, and leaves every other character as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cli.configfile import write_text
from cli.errors import USAGE, CliError

KEY = "slipway:models"


def write_version(path: Path, index: int, version: int) -> None:
    write_text(path, set_version(path.read_text(), index, version))


def set_version(text: str, index: int, version: int) -> str:
    """The text with models[index].version changed, or put in front of the model's first key."""
    node = _model(yaml.compose(text), index)
    if node is None:
        _refuse(index, version)
    assert node is not None
    known = next((v for k, v in node.value if k.value == "version"), None)
    if known is not None:
        changed = text[: known.start_mark.index] + str(version) + text[known.end_mark.index :]
    else:
        at = node.value[0][0].start_mark
        between = ", " if node.flow_style else "\n" + " " * at.column
        changed = f"{text[: at.index]}version: {version}{between}{text[at.index :]}"
    wanted = yaml.safe_load(text)
    wanted["config"][KEY][index]["version"] = version
    try:
        if yaml.safe_load(changed) == wanted:
            return changed
    except yaml.YAMLError:
        pass  # told below, as every form that this edit does not know
    _refuse(index, version)
    raise AssertionError("refused")


def _model(root: Any, index: int) -> Any:
    """The mapping of one model, where the models stand as YAML."""
    for key in ("config", KEY):
        if not isinstance(root, yaml.MappingNode):
            return None
        root = next((v for k, v in root.value if k.value == key), None)
    if not isinstance(root, yaml.SequenceNode) or index >= len(root.value):
        return None
    node = root.value[index]
    return node if isinstance(node, yaml.MappingNode) and node.value else None


def _refuse(index: int, version: int) -> None:
    raise CliError(
        f"models[{index}].version: the stack's configuration file is written in a form that is not edited here. "
        f"To fix: set models[{index}].version to {version} in it by hand",
        USAGE,
    )
