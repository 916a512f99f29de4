"""Puts a measured profile into a stack's configuration file: two numbers change, and every other character stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from cli.errors import USAGE, CliError

MODELS = "slipway:models"


def with_profile(text: str, model: str, processor: str, numbers: Mapping[str, float]) -> str:
    """The text with these numbers in that model's profile on that processor, which must stand there already."""
    places = []
    for key, value in numbers.items():
        node = _node(text, model, processor, key)
        places.append((node.start_mark.index, node.end_mark.index, f"{value:g}"))
    changed = text
    for start, end, said in sorted(places, reverse=True):
        changed = changed[:start] + said + changed[end:]
    before, after = yaml.safe_load(text), yaml.safe_load(changed)
    (one,) = [m for m in before["config"][MODELS] if m["name"] == model]
    block = {**one["profile"][processor], **{k: float(f"{v:g}") for k, v in numbers.items()}}
    wanted = {**one, "profile": {**one["profile"], processor: block}}
    before["config"][MODELS] = [wanted if m is one else m for m in before["config"][MODELS]]
    if before != after:  # e.g. an anchor: a change here is a change elsewhere
        raise _by_hand(model, processor)
    return changed


def _node(text: str, model: str, processor: str, key: str) -> yaml.ScalarNode:
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as e:
        raise CliError(f"the stack's configuration file is not readable as YAML: {e}", USAGE) from None
    models = _get(_get(root, "config"), MODELS)
    named = [m for m in getattr(models, "value", ()) if getattr(_get(m, "name"), "value", None) == model]
    found = _get(_get(_get(named[0], "profile"), processor), key) if len(named) == 1 else None
    if not isinstance(found, yaml.ScalarNode):
        raise _by_hand(model, processor)
    return found


def _get(node: Any, key: str) -> Any:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _by_hand(model: str, processor: str) -> CliError:
    return CliError(
        f"{MODELS}: no single profile of {model} on {processor} stands in the stack's configuration file in a form "
        "that can be changed in place. To fix: put the printed block there by hand",
        USAGE,
    )
