"""A configured provider: the calls of Pulumi's provider protocol, with what the engine itself answers for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import grpc
from google.protobuf import struct_pb2
from pulumi.runtime.proto import provider_pb2 as p

from engine import values as v
from engine.answers import Diff, Found, Partial, ProviderError, own_diff, read_diff, read_error
from engine.plugins import Plugin
from engine.rows import Row, urn_name, urn_type
from engine.values import Props

T = TypeVar("T")
INTERNAL = "__internal"  # the engine's own part of a provider's inputs, never shown to the plugin


def config_of(inputs: Mapping[str, object]) -> Props:
    return {k: x for k, x in inputs.items() if k != INTERNAL}


class Client:
    """`ready` is false while a value of the configuration is unknown: then the plugin is not asked (preview only)."""

    def __init__(self, plugin: Plugin, *, preview: bool) -> None:
        self.plugin, self.stub, self.preview = plugin, plugin.stub, preview
        self.accept_secrets = plugin.handshake.accept_secrets
        self.accept_resources = plugin.handshake.accept_resources
        self.supports_preview, self.ready = False, False

    # The provider's own configuration.

    def check_config(self, urn: str, olds: Props | None, news: Props) -> tuple[Props, list[str]]:
        request = p.CheckRequest(
            urn=urn,
            olds=v.to_struct(config_of(olds or {})),
            news=self._pack(config_of(news)),
            name=urn_name(urn),
            type=urn_type(urn),
        )
        try:
            reply = self.stub.CheckConfig(request)
        except grpc.RpcError as e:
            if e.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise read_error(e) from e
            return news, []
        checked = v.from_struct(reply.inputs)
        if INTERNAL in news:
            checked[INTERNAL] = news[INTERNAL]
        return checked, [f"{f.property}: {f.reason}" if f.property else f.reason for f in reply.failures]

    def diff_config(self, urn: str, old_inputs: Props, old_outputs: Props, news: Props) -> Diff:
        request = p.DiffRequest(
            urn=urn,
            name=urn_name(urn),
            type=urn_type(urn),
            olds=self._pack(config_of(old_outputs)),
            old_inputs=self._pack(config_of(old_inputs)),
            news=self._pack(config_of(news)),
        )
        try:
            return read_diff(self.stub.DiffConfig(request), config_of(old_inputs), config_of(news))
        except grpc.RpcError as e:
            if e.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise read_error(e) from e
            return own_diff(config_of(old_inputs), config_of(news))

    def configure(self, urn: str, id_: str, inputs: Props) -> None:
        config = config_of(inputs)
        if v.has_unknown(config):
            return
        request = p.ConfigureRequest(
            args=self._pack(config),
            acceptSecrets=True,
            acceptResources=True,
            sends_old_inputs=True,
            sends_old_inputs_to_delete=True,
            id=id_,
            urn=urn,
            name=urn_name(urn),
            type=urn_type(urn),
            variables={f"{self.plugin.name}:config:{k}": str(v.plain(x)) for k, x in config.items()},
        )
        reply = self._call(lambda: self.stub.Configure(request))
        self.accept_secrets = self.accept_secrets or reply.acceptSecrets
        self.accept_resources = self.accept_resources or reply.acceptResources
        self.supports_preview, self.ready = reply.supportsPreview, True

    # Resources.

    def check(self, urn: str, olds: Props | None, news: Props) -> tuple[Props, list[str]]:
        if not self.ready:
            return news, []
        request = p.CheckRequest(
            urn=urn,
            olds=self._pack(olds or {}),
            news=self._pack(news),
            randomSeed=os.urandom(32),
            name=urn_name(urn),
            type=urn_type(urn),
        )
        reply = self._call(lambda: self.stub.Check(request))
        checked = self._unpack(reply.inputs, news)
        return checked, [f"property {f.property}: {f.reason}" if f.property else f.reason for f in reply.failures]

    def diff(self, row: Row, news: Props, ignored: list[str], *, id_: str | None = None) -> Diff:
        """Of an unconfigured provider nothing is known: it counts as an update."""
        if not self.ready:
            return Diff(changes=True)
        request = p.DiffRequest(
            id=id_ or row["id"],
            urn=row["urn"],
            name=urn_name(row["urn"]),
            type=row["type"],
            ignoreChanges=ignored,
            olds=self._pack(row.get("outputs", {})),
            old_inputs=self._pack(row.get("inputs", {})),
            news=self._pack(news),
        )
        return read_diff(self._call(lambda: self.stub.Diff(request)), row.get("inputs", {}), news)

    def create(self, row: Row) -> tuple[str, Props]:
        inputs = row.get("inputs", {})
        if self.preview and not (self.ready and self.supports_preview):
            return "", inputs if self.ready else {}
        request = p.CreateRequest(
            urn=row["urn"],
            name=urn_name(row["urn"]),
            type=row["type"],
            properties=self._pack(inputs),
            timeout=_timeout(row, "create"),
            preview=self.preview,
        )
        reply = self._call(lambda: self.stub.Create(request), row)
        if not reply.id and not self.preview:
            raise ProviderError(f"provider '{self.plugin.name}' returned no id for {row['urn']}")
        return reply.id, self._outputs(reply.properties, row)

    def update(self, row: Row, old: Row, ignored: list[str]) -> Props:
        inputs = row.get("inputs", {})
        if self.preview and not (self.ready and self.supports_preview):
            return inputs if self.ready else {}
        request = p.UpdateRequest(
            id=old["id"],
            urn=row["urn"],
            name=urn_name(row["urn"]),
            type=row["type"],
            ignoreChanges=ignored,
            olds=self._pack(old.get("outputs", {})),
            old_inputs=self._pack(old.get("inputs", {})),
            news=self._pack(inputs),
            timeout=_timeout(row, "update"),
            preview=self.preview,
        )
        return self._outputs(self._call(lambda: self.stub.Update(request), row).properties, row)

    def delete(self, row: Row) -> None:
        request = p.DeleteRequest(
            id=row["id"],
            urn=row["urn"],
            name=urn_name(row["urn"]),
            type=row["type"],
            timeout=_timeout(row, "delete"),
            properties=self._pack(row.get("outputs", {})),
            old_inputs=self._pack(row.get("inputs", {})),
        )
        self._call(lambda: self.stub.Delete(request), row)

    def read(self, row: Row, id_: str, inputs: Props, state: Props) -> Found | None:
        """None if there is no such thing."""
        if not self.ready:
            return Found(id=id_, inputs=inputs, outputs={})
        request = p.ReadRequest(
            id=id_,
            urn=row["urn"],
            name=urn_name(row["urn"]),
            type=row["type"],
            timeout=_timeout(row, "read"),
            properties=self._pack(state),
            inputs=self._pack(inputs),
        )
        try:
            reply = self._call(lambda: self.stub.Read(request), row)
        except ProviderError as e:
            if e.partial is None:
                raise
            return Found(
                id=e.partial.id or id_,
                inputs=e.partial.inputs,
                outputs=e.partial.outputs,
                reasons=tuple(e.partial.reasons),
            )
        if not reply.id:
            return None
        found = self._unpack(reply.inputs, inputs) if reply.HasField("inputs") else None
        marks: Row = cast(Row, {**row, "inputs": found if found is not None else inputs})
        return Found(id=reply.id, inputs=found, outputs=self._outputs(reply.properties, marks))

    def invoke(self, token: str, args: Props) -> tuple[Props | None, list[tuple[str, str]]]:
        """None: unknown, as the provider is not configured yet."""
        if not self.ready:
            return None, []
        request = p.InvokeRequest(tok=token, args=self._pack(args), preview=self.preview)
        reply = self._call(lambda: self.stub.Invoke(request))
        answer = v.from_struct(getattr(reply, "return"))
        if not self.accept_secrets and v.has_secret(args):
            answer = {k: v.secret(x) for k, x in answer.items()}
        return answer, [(f.property, f.reason) for f in reply.failures]

    # The wire.

    def _pack(self, props: Mapping[str, object]) -> struct_pb2.Struct:
        sent: Mapping[str, object] = props
        if not self.accept_secrets:
            sent = v.plain_props(sent)
        if not self.accept_resources:
            sent = {k: v.without_refs(x) for k, x in sent.items()}
        return v.to_struct(sent)

    def _unpack(self, struct: struct_pb2.Struct, like: Props) -> Props:
        got = v.from_struct(struct)
        return got if self.accept_secrets else v.mark_secrets(got, like, ())

    def _outputs(self, struct: struct_pb2.Struct, row: Row) -> Props:
        """Secret stays what the inputs say is secret if the provider does not track it, and what the program names."""
        got = v.from_struct(struct)
        like = {} if self.accept_secrets else row.get("inputs", {})
        return v.mark_secrets(got, like, row.get("additionalSecretOutputs", ()))

    def _call(self, call: Callable[[], T], row: Row | None = None) -> T:
        try:
            return call()
        except grpc.RpcError as e:
            raise self._explain(e, row) from e

    def _explain(self, e: grpc.RpcError, row: Row | None) -> ProviderError:
        error = read_error(e)
        if error.partial is not None and row is not None:
            outputs = self._outputs(v.to_struct(error.partial.outputs), row)
            partial = Partial(
                id=error.partial.id, outputs=outputs, inputs=error.partial.inputs, reasons=error.partial.reasons
            )
            reasons = "".join(f"\n  * {r}" for r in partial.reasons)
            return ProviderError(f"{error}{reasons}", partial)
        return error


def _timeout(row: Row, what: str) -> float:
    return row.get("customTimeouts", {}).get(what, 0.0)
