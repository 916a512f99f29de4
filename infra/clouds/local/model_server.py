"""ModelServer: one process that serves models; it is ready when real inferences come back right."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from string import Template

from infra.clouds.local import servers, slots
from infra.clouds.local.kind import Checked, Fault, LocalError, check_fields
from infra.clouds.local.machine import dead_worker, running, tail, workers
from infra.clouds.local.probe import ask
from infra.clouds.local.process import ProcessKind, RefusedError
from infra.clouds.local.root import Inputs, Root
from infra.clouds.local.supervision import Program


class ModelServer(ProcessKind):
    """slipway:local:ModelServer.

    `command` and `env` may name ${http} ${grpc} ${metrics} (its ports), ${repository}, ${triton} (the server's home),
    ${bin} (the virtual environment's programs) and ${shm} (what its shared memory is named after).
    """

    token = "slipway:local:ModelServer"
    required: Mapping[str, type] = {
        "name": str,
        "command": list,
        "repository": str,
        "probes": list,
        "base_port": int,
        "generation": str,
        "index": int,
    }
    optional: Mapping[str, object] = {
        "env": {},
        "ports": None,
        "startup_seconds": 60,
        "stop_seconds": 35,
    }
    replaces = frozenset({"name", "base_port"})
    record_kind = "ModelServer"

    def check(self, root: Root, inputs: Inputs, olds: Inputs) -> Checked:
        checked = check_fields(self, inputs)
        faults = list(checked.faults)
        probes = checked.inputs.get("probes")
        if probes == []:
            faults.append(Fault(path="probes", reason="is empty: nothing would say whether the models answer."))
        if not faults and "ports" not in checked.inputs:
            ports = self._ports(root, checked.inputs, olds)
            if isinstance(ports, Fault):
                faults.append(ports)
            else:
                checked.inputs["ports"] = ports
        return Checked(inputs=checked.inputs, faults=faults)

    def _ports(self, root: Root, inputs: Inputs, olds: Inputs) -> dict[str, int] | Fault:
        """Assigned once, then kept: by the state, or by what stands on this machine."""
        records = root.records(self.record_kind)
        for known in (olds, records.get(str(inputs["name"]), {})):
            ports = known.get("ports")
            if known.get("base_port") == inputs["base_port"] and isinstance(ports, dict):
                return ports
        base, index = inputs["base_port"], inputs["index"]
        assert isinstance(base, int)
        assert isinstance(index, int)
        return slots.assign(root, base, str(inputs["generation"]), index, records)

    def outputs(self, root: Root, inputs: Inputs) -> Inputs:
        ports = inputs["ports"]
        assert isinstance(ports, dict)
        return {**inputs, **{f"{name}_port": port for name, port in ports.items()}}

    def program(self, root: Root, inputs: Inputs) -> Program:
        ports, command, env = (inputs[f] for f in ("ports", "command", "env"))
        assert isinstance(ports, dict)
        assert isinstance(command, list)
        assert isinstance(env, dict)
        stop_seconds = inputs["stop_seconds"]
        assert isinstance(stop_seconds, int | float)
        name = str(inputs["name"])
        words = {
            **ports,
            "repository": inputs["repository"],
            "triton": str(self._home(root)),
            "bin": str(servers.binaries()),
            "shm": self._shm(root, name),
        }

        def fill(text: object) -> str:
            return Template(str(text)).substitute(words)

        return Program(
            name=name,
            command=[fill(word) for word in command],
            env={key: fill(value) for key, value in env.items()},
            cwd=str(root.path),
            stop_seconds=stop_seconds,
            shm_prefix=f"{self._shm(root, name)}-",
            ports=ports,
        )

    def prepare(self, root: Root, inputs: Inputs) -> None:
        servers.lay_out_triton(self._home(root))

    def seconds(self, inputs: Inputs) -> float:
        seconds = inputs["startup_seconds"]
        assert isinstance(seconds, int | float)
        return seconds

    def unready(self, root: Root, inputs: Inputs) -> str:
        ports, probes = inputs["ports"], inputs["probes"]
        assert isinstance(ports, dict)
        assert isinstance(probes, list)
        for probe in probes:
            answer = ask(ports["http"], probe)
            if answer.dead:
                self._still_whole(root, str(inputs["name"]))
                return answer.reason
            if not answer.ok:
                raise RefusedError(answer.reason)
        return ""

    @staticmethod
    def _still_whole(root: Root, name: str) -> None:
        """A server one of whose workers died while it loads will never answer, and does not say so."""
        pid = running(root, name)
        died = dead_worker(workers(pid)) if pid is not None else ""
        if died:
            raise LocalError(f"{name} does not load its models: {died}. Its log ends:\n{tail(root.log(name))}")

    def remove_files(self, root: Root, name: str) -> None:
        if not root.records(self.record_kind).keys() - {name}:
            shutil.rmtree(self._home(root), ignore_errors=True)

    @staticmethod
    def _home(root: Root) -> Path:
        return root.path / "triton"

    @staticmethod
    def _shm(root: Root, name: str) -> str:
        return f"{root.shm_prefix}{name}"
