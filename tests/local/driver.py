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

Values = dict[str, Any]


class CheckError(Exception):
    """The provider refused the inputs."""


class Partial(Exception):
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
    return Partial("; ".join(failed.reasons))
