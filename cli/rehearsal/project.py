"""Finds what is rehearsed: a project of Slipway, or any other Pulumi project in Python that is named by its folder."""

from __future__ import annotations

from pathlib import Path

import yaml

from cli.errors import USAGE, CliError
from cli.project import NAME, STACK_NAME, Project, find


def open_project(folder: Path | None, stack: str) -> tuple[Project, str]:
    """The project and its name. A stack needs its file where the project has any: a typing error builds nothing."""
    file = None if folder is None else folder.resolve() / "Pulumi.yaml"
    if file is None or not file.is_file():
        project, name = find(folder), NAME
    else:
        project, name = _any(file)
    if project.stacks() or name == NAME:
        project.must_exist(stack)
    elif STACK_NAME.fullmatch(stack) is None:
        raise CliError(f"stack '{stack}': a name has letters, digits, '-', '_' and '.', at most 100", USAGE)
    return project, name


def _any(file: Path) -> tuple[Project, str]:
    try:
        data = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise CliError(f"{file}: not readable as YAML: {e}", USAGE) from None
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise CliError(f"{file}: has no `name:`. To fix: give the folder of a Pulumi project", USAGE)
    folder = file.parent
    return Project(folder=folder, config_folder=folder / str(data.get("stackConfigDir", "."))), str(data["name"])
