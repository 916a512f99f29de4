"""What the program asks for, and which old resource each name means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.rows import Row, make_urn, urn_name, urn_type
from engine.values import Props


@dataclass(frozen=True, kw_only=True)
class Alias:
    urn: str = ""
    name: str = ""
    type: str = ""
    parent: str = ""
    no_parent: bool = False
    project: str = ""
    stack: str = ""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the program asks for."""

    type: str
    name: str
    custom: bool
    inputs: Props
    parent: str = ""
    provider: str = ""
    version: str = ""
    import_id: str = ""
    delete_before_replace: bool | None = None
    aliases: Sequence[Alias] = ()
    options: Row = field(default_factory=Row)  # the fields that go into the state as they are


class Names:
    """`now` leads from an old name to the new one, `was` back."""

    def __init__(self, stack: str, project: str) -> None:
        self._stack, self._project = stack, project
        self.asked: Counter[str] = Counter()  # a second request for a name is known before the first is served
        self.claimed: set[str] = set()
        self.now: dict[str, str] = {}
        self.was: dict[str, str] = {}

    def rename(self, old: str, new: str) -> bool:
        """False if the old name is taken: by a resource of this run, or by another that says it had it."""
        if old in self.claimed or old in self.now:
            return False
        self.now[old], self.was[new] = new, old
        return True

    def aliases(self, goal: Goal) -> list[str]:
        found = [self._urn(goal, a) for a in goal.aliases]
        if parent := self.was.get(goal.parent):
            for type_, name in [(goal.type, goal.name), *((urn_type(u), urn_name(u)) for u in found)]:
                prefix = urn_name(goal.parent)
                inherited = urn_name(parent) + name[len(prefix) :] if name.startswith(prefix) else name
                found.append(make_urn(self._stack, self._project, parent, type_, inherited))
        return list(dict.fromkeys(found))

    def _urn(self, goal: Goal, alias: Alias) -> str:
        if alias.urn:
            return alias.urn
        parent = "" if alias.no_parent else self.was.get(alias.parent, alias.parent) or goal.parent
        return make_urn(
            alias.stack or self._stack,
            alias.project or self._project,
            parent,
            alias.type or goal.type,
            alias.name or goal.name,
        )
