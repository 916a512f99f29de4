"""Where a project and its stacks lie: the folder of Pulumi.yaml, the stack's configuration file, its folder here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.errors import USAGE, CliError

NAME = "slipway"
RESERVED = "state"  # .slipway/state is the embedded engine's
STACK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")  # pulumi: letters, digits, hyphens, underscores, periods


@dataclass(frozen=True, kw_only=True)
class Project:
    folder: Path
    config_folder: Path

    def config_file(self, stack: str) -> Path:
        return self.config_folder / f"Pulumi.{stack}.yaml"

    def stacks(self) -> list[str]:
        return sorted(p.name[len("Pulumi.") : -len(".yaml")] for p in self.config_folder.glob("Pulumi.*.yaml"))

    def place(self, stack: str) -> Path:
        """What runs on this machine for a stack keeps its files here."""
        return self.folder / ".slipway" / stack

    def config(self, stack: str) -> dict[str, object]:
        """The keys of the stack's file as Pulumi reads them, with their namespace."""
        import yaml

        path = self.config_file(stack)
        try:
            data = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            return {}
        except (yaml.YAMLError, UnicodeDecodeError) as e:
            raise CliError(f"{path}: not readable as YAML: {e}", USAGE) from None
        config = {} if data is None else data.get("config", {}) if isinstance(data, dict) else None
        if not isinstance(config, dict | None):
            raise CliError(f"{path}: `config:` is not a mapping of keys to values. To fix: see {NAME} --help", USAGE)
        return {str(key): value for key, value in (config or {}).items()}

    def must_exist(self, stack: str) -> None:
        """A stack has a configuration file; a name with a typing error must not build an empty one."""
        if STACK_NAME.fullmatch(stack) is None:
            raise CliError(f"stack '{stack}': a name has letters, digits, '-', '_' and '.', at most 100", USAGE)
        if stack == RESERVED:
            raise CliError(
                f"stack '{stack}': that folder of .slipway holds the engine's state; choose another name", USAGE
            )
        if self.config_file(stack).is_file():
            return
        known = self.stacks()
        near = difflib.get_close_matches(stack, known, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise CliError(
            f"stack '{stack}': no {self.config_file(stack).relative_to(self.folder)}; allowed: "
            f"{', '.join(known) or 'none yet'}.{hint} To fix: write that file, or name another stack.",
            USAGE,
        )


def find(start: Path | None) -> Project:
    """The project in `start`, or the nearest one at or above the current folder."""
    here = (start or Path.cwd()).resolve()
    for folder in [here] if start is not None else [here, *here.parents]:
        data = _read(folder / "Pulumi.yaml")
        if data is not None and data.get("name") == NAME:
            return Project(folder=folder, config_folder=folder / str(data.get("stackConfigDir", ".")))
    where = f"in {here}" if start is not None else f"in {here} or above"
    raise CliError(
        f"no Pulumi.yaml with `name: {NAME}` {where}. To fix: go to the project, or give --project DIR", USAGE
    )


def _read(path: Path) -> Mapping[str, object] | None:
    import yaml

    if not path.is_file():
        return None
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as e:
        raise CliError(f"{path}: not readable as YAML: {e}", USAGE) from None
    return data if isinstance(data, dict) else None
