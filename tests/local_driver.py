"""Drives the provider over real gRPC as an engine does: check, create, diff, read, update, delete."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import provider_pb2_grpc as pg
from pulumi.runtime.proto import status_pb2

from infra.clouds.local.values import from_struct, to_struct
from serving.envoy import Entry, bootstrap

Values = dict[str, Any]


class CheckError(Exception):
    """The provider refused the inputs."""


class PartialError(Exception):
    """Created but not ready."""


@dataclass
class Driver:
    """One plugin process, configured with a root, and the state that an engine would keep."""

    root: Path
    stack: str = "test"
    state: dict[str, tuple[str, Values, Values]] = field(default_factory=dict)

    def __enter__(self) -> Driver:
        command = [sys.executable, "-u", "-m", "infra.clouds.local.plugin"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub = pg.ResourceProviderStub(self.channel)
        args = to_struct({"root": str(self.root), "stack": self.stack})
        checked = self.stub.CheckConfig(p.CheckRequest(urn="u", news=args))
        if checked.failures:
            raise CheckError("\n".join(f.reason for f in checked.failures))
        self.stub.Configure(p.ConfigureRequest(args=args))
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @staticmethod
    def urn(kind: str, name: str) -> str:
        return f"urn:pulumi:test::slipway::slipway:local:{kind}::{name}"

    def check(self, kind: str, name: str, inputs: Values, olds: Values | None = None) -> Values:
        request = p.CheckRequest(urn=self.urn(kind, name), news=to_struct(inputs), olds=to_struct(olds or {}))
        answer = self.stub.Check(request)
        if answer.failures:
            raise CheckError("\n".join(f"{f.property}: {f.reason}" for f in answer.failures))
        return from_struct(answer.inputs)

    def up(self, kind: str, name: str, inputs: Values) -> str:
        """One registration as an engine handles it: create, same or update."""
        urn = self.urn(kind, name)
        inputs = {"name": name, **inputs}
        if urn not in self.state:
            news = self.check(kind, name, inputs)
            try:
                made = self.stub.Create(p.CreateRequest(urn=urn, properties=to_struct(news)))
            except grpc.RpcError as e:
                raise partial(e) from e
            self.state[urn] = (made.id, news, from_struct(made.properties))
            return "create"
        ident, old, outputs = self.state[urn]
        news = self.check(kind, name, inputs, old)
        request = p.DiffRequest(
            id=ident, urn=urn, olds=to_struct(outputs), old_inputs=to_struct(old), news=to_struct(news)
        )
        difference = self.stub.Diff(request)
        if difference.changes == p.DiffResponse.DIFF_NONE:
            return "same"
        assert not difference.replaces, difference
        updated = self.stub.Update(
            p.UpdateRequest(id=ident, urn=urn, olds=to_struct(outputs), old_inputs=to_struct(old), news=to_struct(news))
        )
        self.state[urn] = (ident, news, from_struct(updated.properties))
        return "update"

    def read(self, kind: str, name: str) -> tuple[Values, Values] | None:
        answer = self.stub.Read(p.ReadRequest(id=name, urn=self.urn(kind, name)))
        return (from_struct(answer.inputs), from_struct(answer.properties)) if answer.id else None

    def outputs(self, kind: str, name: str) -> Values:
        return self.state[self.urn(kind, name)][2]

    def delete(self, kind: str, name: str) -> None:
        urn = self.urn(kind, name)
        ident, old, outputs = self.state.pop(urn, (name, {}, {}))
        self.stub.Delete(p.DeleteRequest(id=ident, urn=urn, properties=to_struct(outputs), old_inputs=to_struct(old)))


def partial(error: grpc.RpcError) -> Exception:
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if not packed:
        return error
    failed = p.ErrorResourceInitFailed()
    status_pb2.Status.FromString(packed).details[0].Unpack(failed)
    return PartialError("; ".join(failed.reasons))


MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "A").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("C", a + np.float32(1))]))
        return answers
"""
CONFIG = """
name: "add"
backend: "python"
max_batch_size: 8
input [ { name: "A" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "C" data_type: TYPE_FP32 dims: [ 2 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
FILES = {"add/config.pbtxt": {"text": CONFIG}, "add/1/model.py": {"text": MODEL}}
COMMAND = [
    "${triton}/bin/tritonserver",
    "--model-repository=${repository}",
    "--backend-directory=${triton}/backends",
    "--cache-directory=${triton}/caches",
    *(f"--{p}-address=127.0.0.1" for p in ("http", "grpc", "metrics")),
    *(f"--{p}-port=${{{p}}}" for p in ("http", "grpc", "metrics")),
    "--disable-auto-complete-config",
    "--exit-timeout-secs=6",
    "--backend-config=python,shm-region-prefix-name=${shm}-",
]
BODY = {"inputs": [{"name": "A", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
PROBE = {
    "name": "add",
    "path": "/v2/models/add/infer",
    "body": BODY,
    "outputs": [{"name": "C", "datatype": "FP32", "shape": [1, 2], "data": [2, 3]}],
}


@dataclass
class Stack:
    """A small stack (one model that adds one) as a program would declare it, resource by resource."""

    driver: Driver
    base: int

    def supervisor(self) -> str:
        return self.driver.up("Supervisor", "supervisor", {})

    def redis(self) -> str:
        return self.driver.up("Redis", "redis", {"port": self.base + 2})

    def features(self, source: Path) -> str:
        return self.driver.up("FeatureSet", "features", {"port": self.base + 2, "prefix": "t:", "source": str(source)})

    def models(self, generation: str, files: Values = FILES) -> str:
        return self.driver.up("ModelRepository", f"models-{generation}", {"files": files})

    def server(self, generation: str, index: int = 0, **changes: Any) -> str:
        inputs = {
            "command": COMMAND,
            "env": {"PATH": "${bin}:/usr/bin:/bin"},
            "repository": self.driver.outputs("ModelRepository", f"models-{generation}")["path"],
            "probes": [PROBE],
            "base_port": self.base,
            "generation": generation,
            "index": index,
            "stop_seconds": 11,
            **changes,
        }
        return self.driver.up("ModelServer", f"server-{index}-{generation}", inputs)

    def envoy(self) -> str:
        ports = {"http": self.base, "grpc": self.base + 1, "admin": self.base + 9}
        entry = Entry(
            address="127.0.0.1",
            http_port=ports["http"],
            grpc_port=ports["grpc"],
            admin_port=ports["admin"],
            endpoints_folder="${endpoints}",
            max_request_s=5,
            node="test",
        )
        inputs = {"config": bootstrap(entry), "ports": ports, "clusters": ["http", "grpc"]}
        return self.driver.up("Envoy", "envoy", inputs)

    def endpoints(self, *servers: str) -> str:
        outputs = {s: self.driver.outputs("ModelServer", s) for s in servers}
        targets = [{"name": s, "http": o["http_port"], "grpc": o["grpc_port"]} for s, o in outputs.items()]
        inputs = {"admin_port": self.base + 9, "clusters": ["http", "grpc"], "targets": targets, "drain_seconds": 6}
        return self.driver.up("Endpoints", "endpoints", inputs)

    def down(self) -> None:
        """In the order of an engine: dependents first."""
        order = ("Endpoints", "ModelServer", "Envoy", "FeatureSet", "Redis", "ModelRepository", "Supervisor")
        for kind in order:
            for urn in [u for u in self.driver.state if u.split("::")[2] == f"slipway:local:{kind}"]:
                self.driver.delete(kind, urn.split("::")[3])
