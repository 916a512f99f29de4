"""From a load balancer to the machines of a group: firewall rules, security groups, ports and health checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from simulators.core import firewalls, groups, health, lifecycle, paths
from simulators.core.checks import text
from simulators.core.entries import Entry
from simulators.core.groups import Group
from simulators.core.stores import CLOUD_API, STORES, store_port
from simulators.core.values import plain_properties
from simulators.core.world import Thing, World

if TYPE_CHECKING:
    from simulators.core.flows import Serving


def into(world: World, entry: Entry, thing: Thing, found: Serving) -> None:
    """Adds a group behind an entry. It is cut off where no entry's requests get to it."""
    group = groups.of(world, thing)
    places = [a for a in health.attached(world, group) if a.service is entry.service]
    if not places:
        return
    place = places[0]
    reached = thing.key in found.servers and thing.key not in found.cut
    found.servers[thing.key] = thing.name
    why = _refused(world, entry, group, place, found)
    if not why:
        why = health.why_unseen(world, group, place.check, place)
        found.says("health checks", f"machines of {thing.name}", place.check.port or place.port, why)
    programmed = lifecycle.limit(group.cloud, "balancer_programs_s")
    found.seen_s[thing.key] = max(found.seen_s.get(thing.key, 0.0), place.check.sees_s)
    found.joins_s[thing.key] = found.seen_s[thing.key] + programmed
    found.lost_s[thing.key] = max(found.lost_s.get(thing.key, 0.0), place.check.misses_s)
    found.refused_s[thing.key] = max(found.refused_s.get(thing.key, 0.0), place.check.refused_s)
    if not why or reached:
        found.cut.pop(thing.key, None)
    else:
        found.cut[thing.key] = why


def _refused(world: World, entry: Entry, group: Group, place: health.Attached, found: Serving) -> str:
    """Why requests, as the balancer passes them on, do not get to the machines."""
    what = f"machines of {group.name}"
    port = place.port or (0 if _named(entry) else entry.node_port)
    if not port:
        why = f"{group.name} has no named port '{_named(entry)}'"
        found.says(f"entry {entry.name}", what, "", why)
        return why
    told = group.machine.told
    if told.ports is not None and told.images and port not in told.ports:
        why = f"nothing listens on port {port} of {what}"
        found.says(f"entry {entry.name}", what, port, why)
        return why
    for caller in entry.callers:
        if caller.what == "health checks":
            continue  # by their own port
        if group.cloud == "gcp":
            network = entry.network or health.network_of(world, group)
            why = firewalls.gcp_refused(world, network, health.target_of(group), caller, port)
        else:
            why = firewalls.aws_refused(world, caller, group.machine.security_groups, what, port)
        if not found.says(caller.what, what, port, why):
            return why
    return ""


def beside(world: World, keys: Iterable[str]) -> Iterator[tuple[str, str, int, str]]:
    """(source, target, port, why it does not arrive): models and features of the machines behind an entry."""
    for thing in [t for t in world.things.values() if t.token in groups.GROUPS and t.key in set(keys)]:
        group = groups.of(world, thing)
        what = f"machines of {group.name}"
        if re.search(r"\b(gs|s3)://", group.machine.told.text):
            yield what, "storage", 443, _leaves(world, group, CLOUD_API[group.cloud], 443)
        for store in [t for t in world.things.values() if t.token in STORES and t.cloud == group.cloud]:
            port = store_port(store)
            yield what, f"store {store.name}", port, _to_store(world, group, store, port)


def _leaves(world: World, group: Group, to: str, port: int) -> str:
    if group.cloud == "gcp":
        return firewalls.gcp_kept(world, health.network_of(world, group), health.target_of(group), (to,), port)
    caller = firewalls.From(what=f"machines of {group.name}", groups=group.machine.security_groups)
    return firewalls.aws_kept(world, caller, firewalls.From(what=to, ranges=(to,)), port)


def _to_store(world: World, group: Group, store: Thing, port: int) -> str:
    outputs = plain_properties(store.outputs)
    address = text(paths.get(outputs, paths.parse(STORES[store.token][0])))
    if group.cloud == "gcp":
        known = bool(re.fullmatch(r"[0-9.]+", address))
        return _leaves(world, group, f"{address}/32", port) if known else ""
    theirs = outputs.get("securityGroupIds")
    caller = firewalls.From(what=f"machines of {group.name}", groups=group.machine.security_groups)
    targets = frozenset(text(g) for g in theirs) if isinstance(theirs, list) else frozenset()
    return firewalls.aws_refused(world, caller, targets, f"store {store.name}", port) if targets else ""


def _named(entry: Entry) -> str:
    value = entry.service.outputs.get("portName") if entry.service is not None else None
    return value if isinstance(value, str) else ""
