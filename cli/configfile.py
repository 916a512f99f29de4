"""Sets one key in a stack's configuration file as `pulumi config set` does, and leaves every other line as it was."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from cli.errors import USAGE, CliError

Value = str | Mapping[str, str]
PLAIN = re.compile(r"[A-Za-z0-9_./+-]+( [A-Za-z0-9_./+-]+)*")  # needs no quotes, unless it reads as a number or so
LINE = re.compile(r"[^\n]*\n|[^\n]+")


def set_key(text: str, key: str, value: Value) -> str:
    """The text with `key` under `config:` set to a plain string or a mapping; comments, order and line ends stay."""
    before = _config(text)
    lines = LINE.findall(text)
    at = _header(lines)
    if at is None:
        _refuse_if(before is not None, key)
        start = text if not text or text.endswith("\n") else text + "\n"
        changed = f"{start}config:\n  {key}: {_scalar(value)}\n"
    else:
        changed = "".join(_with(lines, at, key, value))
    try:
        after = _config(changed)
    except CliError:
        after = None  # e.g. an anchor that is gone, or a file that is a list
    _refuse_if(after != {**(before or {}), key: value}, key)
    return changed


def write_key(path: Path, key: str, value: Value) -> None:
    """Sets the key on disk in one step: a crash leaves the old file or the new one."""
    write_text(path, set_key(path.read_text(), key, value))


def write_text(path: Path, changed: str) -> None:
    """Replaces the file in one step."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(changed)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def overridden(text: str, values: Mapping[str, str]) -> str:
    """The text with several keys set, for one run."""
    for key, value in values.items():
        text = set_key(text, key, value)
    return text


def _with(lines: list[str], at: int, key: str, value: Value) -> list[str]:
    end = _block_end(lines, at)
    indent = _indent(lines[at + 1 : end])
    ending = "\r\n" if lines[at].endswith("\r\n") else "\n"
    name = re.compile(rf"{re.escape(indent)}(?P<q>[\"']?){re.escape(key)}(?P=q)\s*:(?=\s|$)")
    for i in range(at + 1, end):
        found = name.match(lines[i])
        if found is None:
            continue
        stop = i + 1
        while stop < end and _continues(lines[stop], indent):
            stop += 1
        while stop > i + 1 and not lines[stop - 1].strip():
            stop -= 1  # blank lines before the next key belong to nobody
        comment = _comment(lines[i][found.end() :]) if stop == i + 1 else ""
        return [*lines[:i], f"{found.group()} {_scalar(value)}{comment}{ending}", *lines[stop:]]
    if not lines[end - 1].endswith(("\n", "\r")):
        lines[end - 1] += ending
    head = lines[at]
    if end == at + 1:  # `config:` alone, or `config: {}`
        head = re.sub(r":\s*\{\s*\}", ":", head)
    return [*lines[:at], head, *lines[at + 1 : end], f"{indent}{key}: {_scalar(value)}{ending}", *lines[end:]]


def _header(lines: list[str]) -> int | None:
    return next((i for i, line in enumerate(lines) if re.match(r"config\s*:\s*(\{\s*\})?\s*(#.*)?$", line)), None)


def _block_end(lines: list[str], at: int) -> int:
    """Behind the last line of the block that is not blank or a comment at the left edge."""
    end = at + 1
    for i in range(at + 1, len(lines)):
        if lines[i].strip() and not lines[i].startswith((" ", "\t", "#")):
            break
        if lines[i].startswith((" ", "\t")) and lines[i].strip():
            end = i + 1
    return end


def _indent(block: list[str]) -> str:
    for line in block:
        if line.strip() and not line.lstrip().startswith("#"):
            return line[: len(line) - len(line.lstrip(" "))]
    return "  "


def _continues(line: str, indent: str) -> bool:
    """A nested line, or a list item at the key's own depth."""
    if not line.strip():
        return True
    depth = len(line) - len(line.lstrip(" "))
    return depth > len(indent) or (depth == len(indent) and line.lstrip().startswith("- "))


def _comment(rest: str) -> str:
    """A comment behind a one-line value; the value itself may hold a '#'."""
    value_end = 0
    with contextlib.suppress(yaml.YAMLError):  # a value that no scanner knows has no comment worth keeping
        for token in yaml.scan(rest):
            if isinstance(token, yaml.ScalarToken | yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken):
                value_end = token.end_mark.index
    found = re.search(r"\s#.*", rest[value_end:])
    return "  " + found.group().strip() if found else ""


def _scalar(value: Value) -> str:
    """The value as YAML writes a string: quoted where it would be read as something else; a mapping as JSON does."""
    if not isinstance(value, str):
        return json.dumps(dict(value))
    if PLAIN.fullmatch(value) and yaml.safe_load(value) == value:
        return value
    return yaml.safe_dump(value, default_style='"', width=10**9, allow_unicode=True).strip()


def _config(text: str) -> dict[str, object] | None:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise CliError(f"the stack's configuration file is not readable as YAML: {e}", USAGE) from None
    config = data.get("config") if isinstance(data, dict) else None
    return {str(k): v for k, v in config.items()} if isinstance(config, dict) else None


def _refuse_if(wrong: bool, key: str) -> None:
    if wrong:
        raise CliError(
            f"{key}: the stack's configuration file is written in a form that cannot be edited line by line. "
            f"To fix: set {key} in it by hand",
            USAGE,
        )
