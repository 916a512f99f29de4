"""Names that a provider makes when the program gave none: logical name, dash, a few hex digits."""

from __future__ import annotations

import hashlib

from simulators.core import paths
from simulators.core.edits import put
from simulators.core.tables import Kind
from simulators.core.values import DEFAULTS, Json, Properties, plain

AUTONAMED = "pulumi.com/autonamed"  # the annotation of pulumi-kubernetes


def autoname(kind: Kind, logical: str, seed: bytes, old: Properties, new: Properties) -> None:
    """Fills in the name in place; the old one stays as long as the program gives none."""
    if not kind.autoname or not kind.name or paths.get(new, paths.parse(kind.name)) is not None:
        return
    if any(isinstance(new.get(k), str) for k in (f"{kind.name}Prefix", "namePrefix", "bucketPrefix")):
        return
    digits = 8 if kind.token.startswith("kubernetes:") else 7
    made = hashlib.sha256(seed or logical.encode()).hexdigest()[:digits]
    room = kind.autoname - len(made) - len(kind.separator) - len(kind.prefix)
    name: Json = f"{kind.prefix}{logical[:room]}{kind.separator}{made}"
    if is_autonamed(kind, old):
        name = paths.get(old, paths.parse(kind.name)) or name
    put(new, kind.name, name)
    if kind.name == "metadata.name":
        put(new, f'metadata.annotations["{AUTONAMED}"]', "true")
    else:
        defaults = new.get(DEFAULTS)
        new[DEFAULTS] = [*(defaults if isinstance(defaults, list) else []), kind.name]


def from_prefix(kind: Kind, asked: Properties, seed: str) -> Properties:
    """The name that the cloud makes where the program gave a prefix only."""
    if not kind.name or "." in kind.name or asked.get(kind.name):
        return {}
    for field in (f"{kind.name}Prefix", "namePrefix"):
        prefix = plain(asked.get(field))
        if isinstance(prefix, str):
            return {kind.name: prefix + hashlib.sha256(seed.encode()).hexdigest()[:26]}
    return {}


def is_autonamed(kind: Kind, inputs: Properties) -> bool:
    if kind.token.startswith("kubernetes:") and kind.name == "metadata.name":
        return paths.get(inputs, ("metadata", "annotations", AUTONAMED)) is not None
    defaults = inputs.get(DEFAULTS)
    return isinstance(defaults, list) and kind.name in defaults


def delete_first(kind: Kind, old: Properties, new: Properties) -> bool:
    """Whether a replacement deletes first: the name was given (Terraform bridge), or stays (Kubernetes)."""
    if not kind.autoname or is_autonamed(kind, new):
        return False
    if kind.token.startswith("kubernetes:"):
        place = [(p, paths.parse(p)) for p in (kind.name, "metadata.namespace", "namespace")]
        return all(plain(paths.get(old, s)) == plain(paths.get(new, s)) for _, s in place)
    return paths.get(new, paths.parse(kind.name)) is not None
