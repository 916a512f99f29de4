"""Runs the project's program in its own Python, as Pulumi's language host does."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engine.project import Project
from engine.warm import Fork, free

SHIM = Path(__file__).with_name("shim.py")


def environment(
    base: Mapping[str, str], project: Project, stack: str, config: Mapping[str, str], secret_keys: Sequence[str]
) -> dict[str, str]:
    """Of the program and of the plugins; the virtual environment is activated as a shell would do it."""
    folder = Path(project.python).parent
    env = {
        k: x
        for k, x in base.items()
        if k not in ("PYTHONHOME", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
    }
    env |= {
        "PULUMI_CONFIG": json.dumps(dict(config)),
        "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(secret_keys)),
        "PULUMI_PROJECT": project.name,
        "PULUMI_STACK": stack,
        "PATH": f"{folder}{os.pathsep}{base.get('PATH', os.defpath)}",
    }
    if (folder.parent / "pyvenv.cfg").exists():
        env["VIRTUAL_ENV"] = str(folder.parent)
    return env


class Program:
    """Start it from a thread that outlives it: the kernel kills it when that thread ends."""

    def __init__(
        self,
        project: Project,
        arguments: Mapping[str, str],
        env: Mapping[str, str],
        on_line: Callable[[str], None],
        *,
        warm: bool = False,
    ) -> None:
        given = ["--root", str(project.root), "--program", project.program]
        given += [part for name, value in arguments.items() for part in (f"--{name}", value)]
        read, write = os.pipe()
        self._out = open(read, encoding="utf-8", errors="replace")  # noqa: SIM115  (closed by its reader)
        try:
            fork = _fork(project, given, env, write) if warm else None
            self._process = fork or _start(project, given, env, write)
        finally:
            os.close(write)
        self._reader = threading.Thread(target=self._read, args=(on_line,), daemon=True)
        self._reader.start()

    def _read(self, on_line: Callable[[str], None]) -> None:
        with self._out as lines:
            for line in lines:
                on_line(line.rstrip("\n"))

    def wait(self) -> int:
        code = self._process.wait()
        self._reader.join(timeout=2)  # a child of the program may hold the pipe open
        return code

    def kill(self) -> None:
        self._process.kill()


def _start(project: Project, arguments: Sequence[str], env: Mapping[str, str], out: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [project.python, "-u", str(SHIM), "--parent", str(os.getpid()), *arguments],
        cwd=project.folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for the engine, which ends its steps in order
        stdout=out,
        stderr=out,
    )


def _fork(project: Project, arguments: Sequence[str], env: Mapping[str, str], out: int) -> Fork | None:
    nest = free(project.python, project.folder, env)
    return None if nest is None else nest.start(arguments, project.folder, env, out)
