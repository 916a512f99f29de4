"""The kinds of values a key can hold: how each is read, described in the docs, and written as a JSON schema."""

from __future__ import annotations

import ipaddress
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from infra.spec.problems import Fix, Problem, Step, nearest, problem

T = TypeVar("T")
Schema = dict[str, object]
Steps = tuple[Step, ...]


class Kind(ABC, Generic[T]):
    """One kind of value. `read` gives the typed value, or None after reporting why not."""

    @abstractmethod
    def read(self, raw: object, steps: Steps, found: list[Problem]) -> T | None: ...

    @abstractmethod
    def describe(self) -> str: ...

    @abstractmethod
    def schema(self) -> Schema: ...

    @abstractmethod
    def example(self) -> object:
        """A value that reads without a problem: what a fix proposes where nothing nearer is known."""

    def allowed(self) -> tuple[str, ...]:
        """What an error lists as allowed."""
        return (self.describe(),)

    def refuse(self, raw: object, steps: Steps, found: list[Problem], why: str, value: object = None) -> T | None:
        """Reports a value that is not of this kind."""
        fix = Fix(steps=steps, value=self.example() if value is None else value)
        found.append(problem(steps, f"{why}, not {shown(raw)}", allowed=self.allowed(), fix=fix))
        return None


def shown(raw: object) -> str:
    """A value as an error quotes it, never longer than a line."""
    text = repr(raw)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, kw_only=True)
class Text(Kind[str]):
    """Text that matches a pattern in full."""

    pattern: str = r"[^\x00-\x1f]+"
    form: str = "text"
    sample: str = "text"

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> str | None:
        if isinstance(raw, int) and not isinstance(raw, bool) and re.fullmatch(self.pattern, str(raw)):
            return str(raw)
        if isinstance(raw, str) and re.fullmatch(self.pattern, raw):
            return raw
        return self.refuse(raw, steps, found, f"must be {self.form}")

    def describe(self) -> str:
        return self.form

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}

    def example(self) -> object:
        return self.sample


@dataclass(frozen=True, kw_only=True)
class Choice(Kind[str]):
    """One word of a short list."""

    words: tuple[str, ...]

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> str | None:
        if isinstance(raw, str) and raw in self.words:
            return raw
        near = nearest(raw, self.words)
        fix = Fix(steps=steps, value=near or self.words[0])
        found.append(
            problem(steps, f"{shown(raw)} is not one of its values", allowed=self.words, nearest=near, fix=fix)
        )
        return None

    def describe(self) -> str:
        return " | ".join(self.words)

    def allowed(self) -> tuple[str, ...]:
        return self.words

    def schema(self) -> Schema:
        return {"enum": list(self.words)}

    def example(self) -> object:
        return self.words[0]


def number(raw: object) -> float | None:
    """A finite number from a number or its text."""
    if isinstance(raw, bool):
        return None
    try:
        value = float(raw) if isinstance(raw, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True, kw_only=True)
class Number(Kind[float]):
    """A finite number in a closed range."""

    low: float
    high: float
    unit: str = ""

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> float | None:
        value = number(raw)
        if value is None:
            return self.refuse(raw, steps, found, "must be a number")
        if not self.low <= value <= self.high:
            return self.refuse(raw, steps, found, "out of range", min(max(value, self.low), self.high))
        return value

    def describe(self) -> str:
        return f"{self.low:g} to {self.high:g}{' ' + self.unit if self.unit else ''}"

    def schema(self) -> Schema:
        return {"type": "number", "minimum": self.low, "maximum": self.high}

    def example(self) -> object:
        return self.low


@dataclass(frozen=True, kw_only=True)
class Whole(Kind[int]):
    """A whole number in a closed range."""

    low: int
    high: int
    unit: str = ""

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> int | None:
        value = number(raw)
        if value is None or value != int(value):
            return self.refuse(raw, steps, found, "must be a whole number")
        if not self.low <= value <= self.high:
            return self.refuse(raw, steps, found, "out of range", int(min(max(value, self.low), self.high)))
        return int(value)

    def describe(self) -> str:
        return f"whole number, {self.low} to {self.high}{' ' + self.unit if self.unit else ''}"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}

    def example(self) -> object:
        return self.low


class Flag(Kind[bool]):
    """True or false; Pulumi's flat configuration gives them as text."""

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> bool | None:
        if isinstance(raw, bool):
            return raw
        if raw in ("true", "false"):
            return raw == "true"
        word = str(raw).strip().lower()
        guess = "true" if word in ("1", "yes", "on", "y", "true", "t") else "false"
        fix = Fix(steps=steps, value=guess)
        found.append(
            problem(
                steps, f"must be true or false, not {shown(raw)}", allowed=("true", "false"), nearest=guess, fix=fix
            )
        )
        return None

    def describe(self) -> str:
        return "true | false"

    def schema(self) -> Schema:
        return {"type": "boolean"}

    def example(self) -> object:
        return "false"


class Cidr(Kind[str]):
    """A block of addresses in CIDR form, without host bits."""

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> str | None:
        try:
            if isinstance(raw, str) and "/" in raw:
                return str(ipaddress.ip_network(raw))
        except ValueError:
            return self.refuse(raw, steps, found, "must be a block of addresses without host bits", _network_of(raw))
        return self.refuse(raw, steps, found, "must be a block of addresses with its length")

    def describe(self) -> str:
        return "CIDR block, such as 203.0.113.0/24"

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"}

    def example(self) -> object:
        return "203.0.113.0/24"


def _network_of(raw: object) -> str | None:
    """The block that an address with host bits lies in."""
    try:
        return str(ipaddress.ip_network(raw, strict=False)) if isinstance(raw, str) else None
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class Parsed(Kind[T]):
    """Text with a grammar of its own: `parse` gives the value, or raises ValueError with the reason."""

    parse: Callable[[str], T]
    form: str
    sample: str
    words: Sequence[str] = ()  # what a misspelt one is compared with
    listed: Sequence[str] = ()  # what an error lists

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> T | None:
        try:
            if isinstance(raw, str):
                return self.parse(raw)
        except ValueError as error:
            near = nearest(raw, self.words)
            fix = Fix(steps=steps, value=near or self.sample)
            found.append(problem(steps, str(error), allowed=self.listed, nearest=near, fix=fix))
            return None
        return self.refuse(raw, steps, found, f"must be {self.form}")

    def describe(self) -> str:
        return self.form

    def schema(self) -> Schema:
        return {"type": "string"}

    def example(self) -> object:
        return self.sample
