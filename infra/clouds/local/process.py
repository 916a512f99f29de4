"""What every kind that is one server process shares: start it, wait until it answers, take it away if it never does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from infra.clouds.local import supervision
from infra.clouds.local.kind import Checked, LocalError, check_fields
from infra.clouds.local.machine import running, tail
from infra.clouds.local.root import Inputs, Root, write_json
from infra.clouds.local.supervision import Program

REFUSAL_SECONDS = 5.0  # a server that answers, but not as expected, for so long will not change its mind


class RefusedError(Exception):
    """The server answers, and not as it should."""


class ProcessKind:
    """A resource that is a process. Subclasses say which program it is and when it is ready."""

    token: str
    required: Mapping[str, type]
    optional: Mapping[str, object]
    replaces = frozenset({"name"})
    record_kind: str
    start_seconds: float

    def program(self, root: Root, inputs: Inputs) -> Program:
        raise NotImplementedError

    def prepare(self, root: Root, inputs: Inputs) -> None:
        """Files that the program needs before it starts."""

    def unready(self, root: Root, inputs: Inputs) -> str:
        """Why it is not ready yet, '' when it is. RefusedError: it answers, and not as it should."""
        raise NotImplementedError

    def file_drift(self, root: Root, inputs: Inputs) -> list[str]:
        return []

    def remove_files(self, root: Root, name: str) -> None:
        """What is left of it on disk beside its program."""

    def check(self, root: Root, inputs: Inputs, olds: Inputs) -> Checked:
        return check_fields(self, inputs)

    def outputs(self, root: Root, inputs: Inputs) -> Inputs:
        return dict(inputs)

    def drift(self, root: Root, inputs: Inputs) -> list[str]:
        program = self.program(root, inputs)
        found = [*supervision.stale(root, program), *self.file_drift(root, inputs)]
        if supervision.pid(root) is not None:
            state = supervision.states(root).get(program.name, "not there")
            if state not in ("RUNNING", "STARTING"):
                found.append(f"the process is {state.lower()}")
        if not found and running(root, program.name) is None:
            found.append("the process does not run")
        return found

    def apply(self, root: Root, inputs: Inputs, olds: Inputs | None) -> Inputs:
        program = self.program(root, inputs)
        write_json(root.record(self.record_kind, program.name), inputs)
        try:
            self.prepare(root, inputs)
            supervision.supervise(root, program)
            await_ready(root, program, lambda: self.unready(root, inputs), self.seconds(inputs))
        except LocalError:
            if olds is None:  # nothing half-started is left behind
                self.delete(root, program.name, inputs)
            raise
        return self.outputs(root, inputs)

    def seconds(self, inputs: Inputs) -> float:
        return self.start_seconds

    # A record is written before anything starts and removed when all is gone: where it is, there may be something.
    def read(self, root: Root, name: str) -> tuple[Inputs, Inputs] | None:
        inputs = root.records(self.record_kind).get(name)
        return None if inputs is None else (inputs, self.outputs(root, inputs))

    def delete(self, root: Root, name: str, inputs: Inputs) -> None:
        supervision.unsupervise(root, name)
        self.remove_files(root, name)
        root.record(self.record_kind, name).unlink(missing_ok=True)


def await_ready(root: Root, program: Program, unready: Callable[[], str], seconds: float) -> None:
    """Until it is ready; LocalError when it ends by itself, refuses, or takes too long, with the end of its log."""
    began = time.monotonic()
    refused_since: float | None = None
    while True:
        try:
            reason = unready()
            refused_since = None
        except RefusedError as refusal:
            reason = str(refusal)
            refused_since = refused_since or time.monotonic()
        if not reason:
            return
        ended = supervision.exits(root, program.name)
        if ended:
            raise LocalError(
                f"{program.name} ended by itself ({ended[-1]}). The end of its log:\n{_log(root, program)}"
            )
        if refused_since is not None and time.monotonic() - refused_since > REFUSAL_SECONDS:
            raise LocalError(f"{program.name}: {reason}")
        if time.monotonic() - began > seconds:
            message = f"{program.name} is not ready after {seconds:.0f} s: {reason}. The end of its log:"
            raise LocalError(f"{message}\n{_log(root, program)}")
        time.sleep(0.05)


def _log(root: Root, program: Program) -> str:
    return tail(root.log(program.name))
