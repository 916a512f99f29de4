"""Resources as rows of Pulumi's deployment format, their URNs, and what depends on what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypedDict, cast

from engine.values import Props


class Row(TypedDict, total=False):
    urn: str
    custom: bool
    id: str
    type: str
    inputs: Props
    outputs: Props
    parent: str
    protect: bool
    external: bool
    dependencies: list[str]
    propertyDependencies: dict[str, list[str]]
    provider: str
    delete: bool
    pendingReplacement: bool
    initErrors: list[str]
    additionalSecretOutputs: list[str]
    aliases: list[str]
    customTimeouts: dict[str, float]
    importID: str
    retainOnDelete: bool
    deletedWith: str
    ignoreChanges: list[str]
    replaceOnChanges: list[str]
    created: str
    modified: str


STACK = "pulumi:pulumi:Stack"
PROVIDERS = "pulumi:providers:"


def make_urn(stack: str, project: str, parent: str | None, type_: str, name: str) -> str:
    above = parent.split("::")[2] if parent else ""
    chain = "" if above in ("", STACK) else above + "$"
    return f"urn:pulumi:{stack}::{project}::{chain}{type_}::{name}"


def urn_name(urn: str) -> str:
    return urn.split("::", 3)[3]


def urn_type(urn: str) -> str:
    return urn.split("::")[2].rsplit("$", 1)[-1]


def is_provider(type_: str) -> bool:
    return type_.startswith(PROVIDERS)


def is_default_provider(row: Row) -> bool:
    return is_provider(row["type"]) and (urn_name(row["urn"]) + "_").startswith("default_")


def package(type_: str) -> str:
    return type_[len(PROVIDERS) :] if is_provider(type_) else type_.split(":")[0]


def split_ref(ref: str) -> tuple[str, str]:
    """A provider reference is `urn::id`."""
    urn, _, id_ = ref.rpartition("::")
    return urn, id_


def needs(row: Row) -> Iterator[str]:
    """Every URN that a row refers to."""
    if parent := row.get("parent"):
        yield parent
    if provider := row.get("provider"):
        yield split_ref(provider)[0]
    yield from row.get("dependencies", ())
    for urns in row.get("propertyDependencies", {}).values():
        yield from urns
    if with_ := row.get("deletedWith"):
        yield with_


def edges(rows: Sequence[Row]) -> list[set[int]]:
    """For each row the places of those it needs. Where a URN stands twice it means the nearest one before."""
    latest: dict[str, int] = {}
    result = []
    for place, row in enumerate(rows):
        result.append({latest[urn] for urn in needs(row) if urn in latest})
        latest[row["urn"]] = place
    return result


def layers(rows: Sequence[Row], condemned: set[int]) -> list[list[int]]:
    """Which rows can be deleted together, dependants first (Pulumi's antichains)."""
    below = edges(rows)
    depth: dict[int, int] = {}
    for place in sorted(condemned):  # a row stands after all that it needs
        depth[place] = 1 + max((depth[d] for d in below[place] if d in depth), default=0)
    top = max(depth.values(), default=0)
    return [[p for p, d in depth.items() if d == level] for level in range(top, 0, -1)]


def dependants(rows: Sequence[Row], root: int) -> list[int]:
    """Rows that need the root, directly or not, in order."""
    below, found = edges(rows), {root}
    for place in range(root + 1, len(rows)):
        if below[place] & found:
            found.add(place)
    return sorted(found - {root})


def rename(rows: Iterable[Row], names: Mapping[str, str]) -> list[Row]:
    """The rows with every reference to a renamed URN following the name."""

    def now(urn: str) -> str:
        return names.get(urn, urn)

    result = []
    for row in rows:
        new = cast(Row, dict(row))
        if "parent" in row:
            new["parent"] = now(row["parent"])
        if "provider" in row:
            urn, id_ = split_ref(row["provider"])
            new["provider"] = f"{now(urn)}::{id_}"
        if "dependencies" in row:
            new["dependencies"] = [now(u) for u in row["dependencies"]]
        if "propertyDependencies" in row:
            new["propertyDependencies"] = {k: [now(u) for u in v] for k, v in row["propertyDependencies"].items()}
        if "deletedWith" in row:
            new["deletedWith"] = now(row["deletedWith"])
        result.append(new)
    return result


def compact(row: Row) -> Row:
    """Without the fields that say nothing, as Pulumi writes it."""
    kept = {k: v for k, v in row.items() if v not in (None, "", [], {}, False) or k in ("custom", "urn", "type")}
    return cast(Row, kept)
