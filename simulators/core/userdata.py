"""What a machine is told at its first start: cloud-config or a script, read for its containers and how they run."""

from __future__ import annotations

import base64
import binascii
import functools
import gzip
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from simulators.core.values import Json, strings

_RUN = re.compile(r"\b(?:docker|podman|nerdctl)\s+(?:container\s+)?(run|pull|create)\s+(.*)")
_IMAGE = re.compile(r"[a-z0-9][\w.:/@-]*")
_ALONE = frozenset(
    (
        "--rm", "-d", "--detach", "-i", "--interactive", "-t", "--tty", "-it", "-ti", "-P", "--publish-all", "--init",
        "--privileged", "--read-only", "--no-healthcheck", "--oom-kill-disable", "--sig-proxy", "-q", "--quiet",
    )
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Told:
    """`ports`: what the containers publish; None: any, on the host's network. `problem`: it cannot work at all."""

    text: str = ""
    images: tuple[str, ...] = ()
    commands: tuple[str, ...] = field(default=(), repr=False)
    ports: frozenset[int] | None = frozenset()
    problem: str = ""

    @property
    def lingers_s(self) -> float:
        """How long it goes on serving after the order to stop: a `sleep` where it leaves, drains, or is stopped."""
        lines, found = self.text.splitlines(), 0.0
        for index, line in enumerate(lines):
            if "sleep" in line and re.search(r"ExecStop|drain|leav", "\n".join(lines[max(0, index - 5) : index + 1])):
                for word in re.findall(r"\bsleep\s+[\"']?(\$?\{?\w[\w.]*\}?)", line):
                    value = _filled(word, self.text)
                    found = max(found, float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else 0.0)
        return found


def decoded(given: str) -> str:
    """User data of EC2: base64, as it is or packed; anything else is left alone."""
    try:
        raw = base64.b64decode(given, validate=True)
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (binascii.Error, ValueError, OSError, EOFError):
        return given


@functools.lru_cache(maxsize=64)  # it is looked at after every step of a phase
def read(given: str) -> Told:
    """The containers that it starts. A text that cloud-init would not take says so."""
    given = given.strip()
    if not given:
        return Told(problem="the machine is told nothing: its template has no user data")
    texts, problem = [given], ""
    if given.startswith("#cloud-config"):
        try:
            document = yaml.safe_load(given)
        except yaml.YAMLError as error:
            return Told(text=given, problem=f"cloud-init cannot read its user data: {str(error).splitlines()[0]}")
        if not isinstance(document, dict):
            return Told(text=given, problem="cloud-init cannot read its user data: it is no mapping")
        texts = [*_files(document), *strings(document)]
    elif not given.startswith("#!"):
        problem = "cloud-init ignores its user data: it begins neither with #cloud-config nor with #!"
    text = "\n".join(texts).replace("\\\n", " ")
    found = [_command(line, text) for line in text.splitlines() if _RUN.search(line)]
    runs = [c for c in found if c.image]
    if not problem and not runs:
        problem = "its user data names no container image"
    hosts = any(c.host for c in runs)
    ports = None if hosts else frozenset(p for c in runs for p in c.ports)
    images = tuple(dict.fromkeys(c.image for c in runs))
    return Told(
        text=text, images=images, commands=tuple(c.line for c in runs if c.starts), ports=ports, problem=problem
    )


def _files(document: dict[str, Json]) -> Iterator[str]:
    """Files that it writes, unpacked."""
    files = document.get("write_files")
    for one in files if isinstance(files, list) else []:
        if isinstance(one, dict) and "b" in str(one.get("encoding") or ""):
            yield decoded(str(one.get("content") or ""))


@dataclass(frozen=True, kw_only=True)
class _Command:
    line: str
    image: str = ""
    ports: tuple[int, ...] = ()
    host: bool = False
    starts: bool = False  # it runs a container and does not only pull its image


def _command(line: str, text: str) -> _Command:
    match = _RUN.search(line)
    assert match is not None
    try:
        words = shlex.split(match[2])
    except ValueError:
        words = match[2].split()
    ports: list[int] = []
    host, index = False, 0
    while index < len(words) and words[index].startswith("-"):
        name, _, value = words[index].partition("=")
        if not value and name not in _ALONE and index + 1 < len(words):
            index += 1
            value = words[index]
        if name in ("-p", "--publish"):
            ports += _published(value)
        host = host or (name in ("--network", "--net") and value == "host")
        index += 1
        while index < len(words) and words[index].startswith("$") and not _IMAGE.fullmatch(_filled(words[index], text)):
            index += 1  # more flags, out of a variable
    image = _filled(words[index], text) if index < len(words) else ""
    named = _IMAGE.fullmatch(image) is not None
    return _Command(line=line, image=image if named else "", ports=tuple(ports), host=host, starts=match[1] != "pull")


def _published(value: str) -> list[int]:
    """The host's side of `[address:]host:container[/protocol]`."""
    parts = value.partition("/")[0].split(":")
    host = parts[-2] if len(parts) > 1 else parts[0]
    first, _, last = host.partition("-")
    return list(range(int(first), int(last or first) + 1)) if first.isdigit() and (last or first).isdigit() else []


def _filled(word: str, text: str) -> str:
    """`$IMAGE` or `${IMAGE}`, from where the same text sets it."""
    match = re.fullmatch(r"\$\{?(\w+)\}?", word)
    if match is None:
        return word
    found = re.search(rf"\b{match[1]}=[\"']?([^\s\"']+)", text)
    return found[1] if found else word
