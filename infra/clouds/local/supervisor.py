"""Supervisor: one supervisord a stack and the watch beside it; the folder of the stack comes and goes with it."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from infra.clouds.local import supervision
from infra.clouds.local.kind import Checked, LocalError, check_fields
from infra.clouds.local.machine import alive, end, remove_shared_memory, running
from infra.clouds.local.preflight import machine_faults, port_faults, root_faults
from infra.clouds.local.root import Inputs, Root, write_json, write_text

STOP_SECONDS = 60.0
WATCH = "watch"
_WATCH = """\
[program:watch]
command="{python}" -I -m infra.clouds.local.watch "{root}" "{stack}"
autorestart=true
startsecs=1
startretries=1000000
stopwaitsecs=5
stdout_logfile=NONE
stderr_logfile=NONE
"""


class Supervisor:
    """slipway:local:Supervisor. After `kill -9` its servers serve on, and the watch starts it again.

    `ports` are the stack's fixed ports by what they are for: checked here, first, so that nothing starts in vain.
    """

    token = "slipway:local:Supervisor"
    required: Mapping[str, type] = {"name": str}
    optional: Mapping[str, object] = {"ports": {}}
    replaces = frozenset({"name"})

    def check(self, root: Root, inputs: Inputs, olds: Inputs) -> Checked:
        checked = check_fields(self, inputs)
        ports = checked.inputs.get("ports", {})
        assert isinstance(ports, dict)
        faults = [] if olds else [*root_faults(root), *machine_faults(root)]
        if ports != olds.get("ports"):
            faults += port_faults(root, ports)
        return Checked(inputs=checked.inputs, faults=[*checked.faults, *faults])

    def outputs(self, root: Root, inputs: Inputs) -> Inputs:
        return {**inputs, "root": str(root.path), "socket": str(root.socket)}

    def files(self, root: Root) -> dict[str, str]:
        watch = _WATCH.format(python=sys.executable, root=root.path, stack=root.stack)
        return {"supervisord.conf": supervision.configuration(root), f"conf.d/{WATCH}.conf": watch}

    def drift(self, root: Root, inputs: Inputs) -> list[str]:
        if supervision.pid(root) is None:
            return ["supervisord does not run"]
        found = [
            f"{name} was changed or removed" for name, text in self.files(root).items() if _read(root, name) != text
        ]
        if supervision.states(root).get(WATCH) not in ("RUNNING", "STARTING"):
            found.append("the watch does not run")
        return found

    def apply(self, root: Root, inputs: Inputs, olds: Inputs | None) -> Inputs:
        root.claim()
        write_json(root.record("Supervisor", str(inputs["name"])), inputs)
        changed = [name for name, text in self.files(root).items() if _read(root, name) != text]
        for name in changed:
            write_text(root.path / name, self.files(root)[name])
        old = supervision.pid(root)
        if "supervisord.conf" in changed and old is not None:
            with suppress(ProcessLookupError):
                os.kill(old, signal.SIGKILL)  # on purpose: the servers serve on and the next one takes them over
            while alive(old):
                time.sleep(0.02)
        supervision.start(root)
        with root.lock():
            supervision.call(root, "reloadConfig")
            state = supervision.states(root).get(WATCH)
            if state is not None and f"conf.d/{WATCH}.conf" in changed:
                supervision.stop(root, WATCH)
                supervision.call(root, "removeProcessGroup", WATCH)
                state = None
            if state is None:
                supervision.call(root, "addProcessGroup", WATCH)
            elif state not in ("RUNNING", "STARTING", "BACKOFF"):
                supervision.call(root, "startProcess", WATCH, False)
        return self.outputs(root, inputs)

    def read(self, root: Root, name: str) -> tuple[Inputs, Inputs] | None:
        records = root.records("Supervisor")
        if not root.ours or (records and name not in records):
            return None
        inputs = records.get(name, {"name": name, "ports": {}})  # none: a delete was cut off before the folder was gone
        return inputs, self.outputs(root, inputs)

    def delete(self, root: Root, name: str, inputs: Inputs) -> None:
        """Everything of the stack that still stands goes with it."""
        pid = supervision.pid(root)
        if pid is not None:
            with suppress(OSError, http.client.HTTPException):
                supervision.call(root, "shutdown")
            deadline = time.monotonic() + STOP_SECONDS
            while alive(pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            if alive(pid):
                raise LocalError(f"supervisord (process {pid}) does not end within {STOP_SECONDS:.0f} s")
        for program in sorted((root.path / "programs").glob("*.json")):
            left = running(root, program.stem)
            if left is not None:
                end(left, STOP_SECONDS / 2, group=True)
        remove_shared_memory(root.shm_prefix)
        root.remove()


def _read(root: Root, name: str) -> str | None:
    path = root.path / name
    return path.read_text() if path.is_file() else None
