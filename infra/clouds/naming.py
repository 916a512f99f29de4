"""Physical names: `<stack>-<role>[-<digest>]`, shortened to what a type allows; the limits are rows of names.csv."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

HASH = 8  # hex digits
LABEL = 63  # characters of a label's value


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a type's name may be; `kind` is Pulumi's token of the type, or a pattern over tokens."""

    kind: str
    max_length: int
    pattern: re.Pattern[str]
    form: str  # with {} for the name
    is_global: bool  # taken by whoever asks first, over all accounts


@cache
def rules() -> tuple[Rule, ...]:
    with Path(__file__).with_name("names.csv").open(newline="", encoding="utf-8") as file:
        return tuple(
            Rule(
                kind=r["kind"],
                max_length=int(r["max_length"]),
                pattern=re.compile(r["pattern"]),
                form=r["form"] or "{}",
                is_global=r["global"] == "yes",
            )
            for r in csv.DictReader(file)
        )


@cache
def rule(kind: str) -> Rule:
    """The row of a type: its own, or the first pattern that fits it."""
    fitting = [r for r in rules() if r.kind == kind] or [r for r in rules() if fnmatchcase(kind, r.kind)]
    if not fitting:
        raise KeyError(f"{kind}: no row of infra/clouds/names.csv says what its names may be")
    return fitting[0]


def physical(kind: str, stack: str, role: str, digest: str | None = None, *, account: str | None = None) -> str:
    """The name of a resource in its cloud.

    It reads as its parts joined by dashes. Where that is too long or has characters that the type refuses, it is cut
    and ends in a hash over every part, so that two names that were cut alike stay two. The digest is never cut. Names
    that all accounts share always carry the hash, over the account as well.
    """
    limits = rule(kind)
    if limits.is_global and not account:
        raise ValueError(f"{kind}: its names are shared by all accounts: state the account")
    parts = [stack, role, *([digest] if digest else [])]
    plain = [_plain(p) for p in parts]
    mark = hashlib.sha256(json.dumps([*parts, account if limits.is_global else ""]).encode()).hexdigest()[:HASH]
    tail = [*plain[2:], mark]
    room = limits.max_length - len(limits.form.replace("{}", "")) - sum(len(t) + 1 for t in tail)
    short = _fitted(plain[0], plain[1], room)
    tries = [] if limits.is_global or plain != parts else ["-".join(plain)]
    # a letter in front, where a name may not begin with a digit; without words, where one of them is reserved
    tries += ["-".join([*short, *tail]), "-".join(["s", *_fitted(plain[0], plain[1], room - 2), *tail])]
    tries += ["-".join(["s", *tail])]
    for one in (limits.form.format(t) for t in tries):
        if len(one) <= limits.max_length and limits.pattern.fullmatch(one):
            return one
    raise ValueError(f"{kind}: no name of '{stack}' and '{role}' fits {limits.pattern.pattern}")


def label(text: str) -> str:
    """A label's value, on Google Cloud and in Kubernetes: the text itself, or what is left of it with a hash."""
    plain = _plain(text)
    if plain == text and len(text) <= LABEL:
        return text
    return "-".join([*_fitted(plain, "", LABEL - HASH - 1), hashlib.sha256(text.encode()).hexdigest()[:HASH]])


def _plain(text: str) -> str:
    """The characters that every type takes: small letters, digits, single dashes between them."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _fitted(stack: str, role: str, room: int) -> list[str]:
    """Both words within so many characters: the role tells resources of a stack apart, so the stack is cut first."""
    role = role[: max(room, 0)].strip("-")
    stack = stack[: max(room - len(role) - 1, 0)].strip("-")
    return [word for word in (stack, role) if word]
