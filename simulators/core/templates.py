"""Names, ids and computed outputs out of a row's template: `projects/{project}/global/networks/{name}`."""

from __future__ import annotations

import hashlib
import json
import re
import uuid

from simulators.core import paths
from simulators.core.values import Json, Properties

ACCOUNT, NUMBER = "123456789012", "123456789012"  # the example account of AWS's own documentation
_SLOT = re.compile(r"\{([A-Za-z][\w.\[\]]*)(?:\|(\w+))?\}")


def fill(template: str, inputs: Properties, context: dict[str, str], seed: str) -> str:
    """`seed` makes made-up parts (hex, numbers) stable: the same run gives the same ids."""
    count = 0

    def value(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        name, how = match.groups()
        made = _made(name, f"{seed}#{template}#{count}")
        if made is not None:
            return made
        found = paths.get(inputs, paths.parse(name))
        text = context.get(name, "") if found is None else found if isinstance(found, str) else json.dumps(found)
        return _how(text, how)

    return _SLOT.sub(value, template)


def each_zone(template: str, inputs: Properties) -> str:
    """A list with one item that names {each_zone}: an item for each zone of a node pool."""
    if "{each_zone}" not in template:
        return template
    given, place = inputs.get("nodeLocations"), str(inputs.get("location") or "")
    zones = given if isinstance(given, list) and given else [f"{place}-{z}" for z in "abc"]
    if place.count("-") > 1:
        zones = [place]
    item = template.strip("[]")
    return "[" + ", ".join(item.replace("{each_zone}", str(zone)) for zone in zones) + "]"


def _how(text: str, how: str | None) -> str:
    if how == "last":
        return text.rstrip("/").rpartition("/")[2]
    if how == "nohttps":
        return text.removeprefix("https://")
    if how == "plain":
        return text.removeprefix("https://www.googleapis.com/compute/v1/")
    return text


def _made(name: str, seed: str) -> str | None:
    digest = hashlib.sha256(seed.encode()).hexdigest()
    if match := re.fullmatch(r"hex(\d+)", name):
        return digest[: int(match[1])]
    if match := re.fullmatch(r"n(\d+)", name):
        return str(int(digest, 16))[: int(match[1])]
    if name == "b":
        return str(int(digest[:2], 16) % 254 + 1)
    if name == "uuid":
        return str(uuid.UUID(digest[:32]))
    return None


def typed(text: str) -> Json:
    """A table's text as the value that it stands for."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?\d{1,15}", text):
        return int(text)
    if text.startswith(("[", "{")):
        value: Json = json.loads(text)
        return value
    return text
