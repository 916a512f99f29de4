"""Pulumi's own CLI as the engine: its backend, login and secrets are the user's; its event log is our progress."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from cli.configfile import overridden
from cli.engines.base import Command, Deployment, Event, OnEvent, Outcome, outputs, unsettled
from cli.errors import FAILED, INTERRUPTED, LOCKED, USAGE, CliError
from cli.project import Project

INSTALL = "https://www.pulumi.com/docs/install/"
LOGIN = re.compile(r"PULUMI_ACCESS_TOKEN must be set for login|not logged in")
PASSPHRASE = re.compile(r"passphrase must be set")
NO_STACK = re.compile(r"no stack named|no previous deployment|unknown stack")
LOCK = re.compile(r"stack is currently locked|another update is currently in progress", re.IGNORECASE)
HOLDER = re.compile(r"created by \S+@(\S+) \(pid (\d+)\)")
MARKUP = re.compile(r"<\{%[a-z ]+%\}>")
COMMANDS: Mapping[Command, list[str]] = {
    "preview": ["preview"],
    "up": ["up", "--yes", "--skip-preview"],
    "destroy": ["destroy", "--yes", "--skip-preview"],
    "refresh": ["refresh", "--yes", "--skip-preview"],
}
POLL_S = 0.1


class PulumiEngine:
    """Runs `pulumi` as a child; nothing of it is configured here."""

    name = "pulumi"

    def __init__(self, project: Project, binary: str) -> None:
        self.project, self.binary = project, binary

    def export(self, stack: str) -> Deployment | None:
        done = self._call("stack", "export", "--stack", stack)
        if done.returncode == 0:
            found: Deployment = json.loads(done.stdout)
            return found
        if NO_STACK.search(done.stderr):
            return None
        raise self._error(done.stderr)

    def replace(self, stack: str, deployment: Deployment) -> None:
        done = self._call("stack", "import", "--stack", stack, stdin=json.dumps(deployment))
        if done.returncode != 0:
            raise self._error(done.stderr)

    def run(self, command: Command, stack: str, config: Mapping[str, str], on_event: OnEvent) -> Outcome:
        if self.export(stack) is None:
            if command not in ("preview", "up"):
                return Outcome(ok=True)
            done = self._call("stack", "init", "--stack", stack)
            if done.returncode != 0:
                raise self._error(done.stderr)
            on_event(Event(kind="message", text=f"pulumi stack init {stack}"))
        with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
            args = [*COMMANDS[command], "--stack", stack, "--event-log", f"{folder}/events"]
            if config:
                path = Path(folder) / f"Pulumi.{stack}.yaml"
                path.write_text(overridden(self.project.config_file(stack).read_text(), config))
                args += ["--config-file", str(path)]
            outcomes: list[Outcome] = []
            for line in self._retried(stack, lambda: outcomes.append(self._watch(args, Path(folder), stack, on_event))):
                on_event(Event(kind="message", text=line))
            return outcomes[-1]

    def settle(self, stack: str) -> list[str]:
        """Pulumi itself would make an interrupted create a second time; the providers know what became of it."""
        if not unsettled(self.export(stack)):
            return []
        from engine.settlement import clients, settle_deployment

        done = self._call("stack", "export", "--stack", stack, "--show-secrets")
        if done.returncode != 0:
            raise self._error(done.stderr)
        deployment = json.loads(done.stdout)
        with clients(self.project.folder, stack, deployment) as client_for:
            settled, report = settle_deployment(deployment, client_for)
        freed = self._retried(stack, lambda: self.replace(stack, settled))
        return [*freed, *(str(line) for line in report)]

    def forget(self, stack: str) -> None:
        """The empty stack stays in the user's backend, with its history: `pulumi stack rm` removes it."""

    def _retried(self, stack: str, work: Callable[[], None]) -> list[str]:
        """Does it again without a lock whose process is dead: with a file backend a killed Pulumi leaves its lock."""
        try:
            work()
        except CliError as e:
            holders = HOLDER.findall(str(e))
            if e.code != LOCKED or not holders or any(_lives(host, int(pid)) for host, pid in holders):
                raise
            done = self._call("cancel", stack, "--yes")
            if done.returncode != 0:
                raise self._error(done.stderr) from None
            work()
            return [f"removed the lock of pid {pid}, which is dead" for _, pid in holders]
        return []

    def _watch(self, args: list[str], folder: Path, stack: str, on_event: OnEvent) -> Outcome:
        with open(folder / "out", "w+") as out, open(folder / "err", "w+") as err:
            process = subprocess.Popen(
                self._command(args),
                cwd=self.project.folder,
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,  # the terminal's Ctrl-C comes through us, once
            )
            log = _EventLog(folder / "events", on_event)
            interrupted = False
            while process.poll() is None:
                try:
                    log.read()
                    time.sleep(POLL_S)
                except KeyboardInterrupt:  # Pulumi ends the running steps after the first, gives up after the second
                    process.send_signal(signal.SIGINT)
                    interrupted = True
            log.read()
            log.close()
            err.seek(0)
            said = err.read().strip()
        if interrupted:
            raise CliError(f"interrupted. To go on: slipway up {stack}", INTERRUPTED)
        if process.returncode == 0:
            return Outcome(ok=True, changes=log.changes, outputs=outputs(self.export(stack)))
        if known := self._known(said):
            raise known
        errors = tuple(log.errors) or (said or f"pulumi ended with code {process.returncode}",)
        return Outcome(ok=False, changes=log.changes, errors=errors, exit_code=FAILED)

    def _call(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(list(args)),
            cwd=self.project.folder,
            env=self._env(),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
        )

    def _command(self, args: list[str]) -> list[str]:
        return [self.binary, *args, "--non-interactive", "--color", "never"]

    def _env(self) -> dict[str, str]:
        """PULUMI_DEBUG_COMMANDS opens --event-log (the Automation API sets it as well)."""
        return {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true", "PULUMI_DEBUG_COMMANDS": "true"}

    def _error(self, said: str) -> CliError:
        return self._known(said) or CliError(said.strip(), FAILED)

    def _known(self, said: str) -> CliError | None:
        text = said.strip()
        if LOGIN.search(said):
            return CliError(
                "pulumi is not logged in to a backend. To fix: `pulumi login --local` keeps the state in ~/.pulumi "
                "(or PULUMI_BACKEND_URL=file://DIR for one run); or go without Pulumi: --engine embedded",
                USAGE,
            )
        if PASSPHRASE.search(said):
            return CliError(
                "pulumi encrypts this stack's secrets with a passphrase that it was not given. To fix: set "
                "PULUMI_CONFIG_PASSPHRASE (it may be empty) or PULUMI_CONFIG_PASSPHRASE_FILE",
                USAGE,
            )
        if LOCK.search(said):
            return CliError(text.removeprefix("error: "), LOCKED)
        return None


def _lives(host: str, pid: int) -> bool:
    """Whether the holder of a lock may still run; of another machine nobody can say here that it does not."""
    import psutil

    if host != socket.gethostname():
        return True
    try:
        return "pulumi" in psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return False


class _EventLog:
    """Reads what Pulumi has appended to its event log since the last time."""

    def __init__(self, path: Path, on_event: OnEvent) -> None:
        self.path, self.on_event = path, on_event
        self.file: IO[str] | None = None
        self.rest = ""
        self.changes: dict[str, int] = {}
        self.errors: list[str] = []

    def read(self) -> None:
        if self.file is None and self.path.exists():
            self.file = open(self.path)  # noqa: SIM115  (read on until the run ends)
        if self.file is None:
            return
        *lines, self.rest = (self.rest + self.file.read()).split("\n")
        for line in lines:
            for event in self._events(json.loads(line)):
                self.on_event(event)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _events(self, data: Mapping[str, Any]) -> Iterator[Event]:
        for key, kind in (("resourcePreEvent", "start"), ("resOutputsEvent", "done"), ("resOpFailedEvent", "failed")):
            if key in data:
                about = data[key]["metadata"]
                yield Event(kind=kind, op=about["op"], urn=about["urn"])
        if "summaryEvent" in data:
            self.changes = dict(data["summaryEvent"].get("resourceChanges") or {})
        said = data.get("diagnosticEvent")
        if said and said["severity"] != "debug":
            text = MARKUP.sub("", said["message"]).strip()
            if said["severity"] == "error":
                self.errors.append(text)
            yield Event(kind="message", urn=said.get("urn", ""), text=text, severity=said["severity"])
