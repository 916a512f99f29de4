"""The Pulumi provider over gRPC that stands in for a real one: every cloud is this class with other tables."""

# ruff: noqa: N802  (method names are the protocol's)
from __future__ import annotations

import copy
import json
import os
import signal
from typing import NoReturn

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import plugin_pb2, status_pb2
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import provider_pb2_grpc as pg

from simulators.core import configuration, diff, events, invokes, naming, operations, planning, tables
from simulators.core.lifecycle import CloudError, Made
from simulators.core.operations import Call, KilledError
from simulators.core.values import Properties, from_struct, plain_properties, to_struct
from simulators.core.world import World

VERSIONS = {"gcp": "10.2.0", "aws": "7.51.1", "kubernetes": "4.34.2"}


class _Status(grpc.Status):
    def __init__(self, code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, bytes], ...]) -> None:
        self.code, self.details, self.trailing_metadata = code, details, metadata


class Simulator(pg.ResourceProviderServicer):
    """One provider: its configuration is its own, the world is shared."""

    def __init__(self, cloud: str, world: World, engine_pid: int | None = None) -> None:
        self.cloud, self.world = cloud, world
        self.engine_pid = engine_pid or os.getpid()
        self.target = configuration.target(cloud, {}, world)

    def Handshake(
        self, request: p.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> p.ProviderHandshakeResponse:
        return p.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True, accept_outputs=False)

    def Attach(self, request: plugin_pb2.PluginAttach, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=VERSIONS[self.cloud])

    def GetSchema(self, request: p.GetSchemaRequest, context: grpc.ServicerContext) -> p.GetSchemaResponse:
        return p.GetSchemaResponse(schema=json.dumps({"name": self.cloud, "version": VERSIONS[self.cloud]}))

    def CheckConfig(self, request: p.CheckRequest, context: grpc.ServicerContext) -> p.CheckResponse:
        failures = [
            p.CheckFailure(property=problem.path, reason=problem.reason)
            for problem in planning.config_problems(self.cloud, from_struct(request.news))
        ]
        return p.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: p.DiffRequest, context: grpc.ServicerContext) -> p.DiffResponse:
        old, new = from_struct(request.old_inputs or request.olds), from_struct(request.news)
        changed, replaces = planning.config_changes(self.cloud, old, new)
        some = p.DiffResponse.DIFF_SOME if changed else p.DiffResponse.DIFF_NONE
        return p.DiffResponse(changes=some, diffs=changed, replaces=replaces)

    def Configure(self, request: p.ConfigureRequest, context: grpc.ServicerContext) -> p.ConfigureResponse:
        with self.world.transaction():
            self.target = configuration.target(self.cloud, from_struct(request.args), self.world)
            events.at_start(self.world)
        return p.ConfigureResponse(acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=False)

    def Check(self, request: p.CheckRequest, context: grpc.ServicerContext) -> p.CheckResponse:
        token = self._known(request.urn, context)
        logical = request.urn.rpartition("::")[2]
        old, new = from_struct(request.olds), from_struct(request.news)
        naming.autoname(tables.kinds(self.cloud)[token], logical, request.randomSeed, old, new)
        planning.fill_defaults(self.target, token, new)
        problems = planning.check(token, new)
        failures = [p.CheckFailure(property=problem.path, reason=problem.reason) for problem in problems]
        return p.CheckResponse(inputs=to_struct(new), failures=failures)

    def Diff(self, request: p.DiffRequest, context: grpc.ServicerContext) -> p.DiffResponse:
        token = self._known(request.urn, context)
        old, new = from_struct(request.old_inputs), from_struct(request.news)
        verdict = diff.compare(token, plain_properties(old), plain_properties(new), self.target.config)
        kinds = {"added": p.PropertyDiff.ADD, "removed": p.PropertyDiff.DELETE, "changed": p.PropertyDiff.UPDATE}
        detailed: dict[str, p.PropertyDiff] = {}
        for path, kind, replaces in verdict.changes:
            if not any(path == i or path.startswith((f"{i}.", f"{i}[")) for i in request.ignoreChanges):
                value = kinds[kind] + (1 if replaces else 0)  # each kind's _REPLACE follows it in the protocol
                detailed[path] = p.PropertyDiff(kind=value, inputDiff=True)  # type: ignore[arg-type]
        replaces_by = [path for path, d in detailed.items() if d.kind % 2]
        first = bool(replaces_by) and naming.delete_first(tables.kinds(self.cloud)[token], old, new)
        return p.DiffResponse(
            changes=p.DiffResponse.DIFF_SOME if detailed else p.DiffResponse.DIFF_NONE,
            diffs=sorted({planning.top(path) for path in detailed}),
            replaces=sorted({planning.top(path) for path in replaces_by}),
            detailedDiff=detailed,
            hasDetailedDiff=True,
            deleteBeforeReplace=first,
        )

    def Create(self, request: p.CreateRequest, context: grpc.ServicerContext) -> p.CreateResponse:
        token, inputs = self._known(request.urn, context), from_struct(request.properties)
        self._refuse_unplanned(token, inputs, context)
        if request.preview:  # computed outputs are left out: the SDK takes them for unknown
            return p.CreateResponse(properties=request.properties)
        call = Call(op="create", token=token, urn=request.urn, inputs=inputs, timeout=request.timeout)
        made = self._run(call, context)
        return p.CreateResponse(id=made.id, properties=to_struct(made.outputs))

    def Update(self, request: p.UpdateRequest, context: grpc.ServicerContext) -> p.UpdateResponse:
        token, inputs = self._known(request.urn, context), from_struct(request.news)
        self._refuse_unplanned(token, inputs, context)
        if request.preview:
            return p.UpdateResponse(properties=to_struct({**from_struct(request.olds), **inputs}))
        call = Call(
            op="update", token=token, urn=request.urn, id=request.id, inputs=inputs, timeout=request.timeout,
            ignored=tuple(request.ignoreChanges), recorded=from_struct(request.olds),
        )  # fmt: skip
        made = self._run(call, context)
        return p.UpdateResponse(properties=to_struct(made.outputs))

    def Delete(self, request: p.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        token = self._known(request.urn, context)
        self._run(Call(op="delete", token=token, urn=request.urn, id=request.id, timeout=request.timeout), context)
        return empty_pb2.Empty()

    def Read(self, request: p.ReadRequest, context: grpc.ServicerContext) -> p.ReadResponse:
        token = self._known(request.urn, context)
        try:
            thing = operations.read(self.world, self.target, token, request.id)
        except CloudError as error:
            _abort(context, grpc.StatusCode.UNAVAILABLE, str(error))
        if thing is None:
            return p.ReadResponse()  # no id: it is gone
        inputs = copy.deepcopy(thing.inputs)
        return p.ReadResponse(id=thing.id, properties=to_struct(thing.outputs), inputs=to_struct(inputs))

    def Invoke(self, request: p.InvokeRequest, context: grpc.ServicerContext) -> p.InvokeResponse:
        try:
            found = invokes.call(self.world, self.target, request.tok, plain_properties(from_struct(request.args)))
        except CloudError as error:
            return p.InvokeResponse(failures=[p.CheckFailure(property="", reason=str(error))])
        response = p.InvokeResponse()
        getattr(response, "return").CopyFrom(to_struct(found))  # the field's name is a keyword
        return response

    def _known(self, urn: str, context: grpc.ServicerContext) -> str:
        token = urn.split("::")[2].rpartition("$")[2]
        if token not in tables.kinds(self.cloud):
            text = f"{token}: this type is not simulated; {len(tables.kinds(self.cloud))} types of {self.cloud} are."
            file = f"simulators/tables/types_{tables.CLOUD_FILES[self.cloud]}.csv"
            _abort(context, grpc.StatusCode.UNIMPLEMENTED, f"{text} To fix: add its row to {file}.")
        return token

    def _refuse_unplanned(self, token: str, inputs: Properties, context: grpc.ServicerContext) -> None:
        problems = planning.preview(token, inputs)
        if problems:
            name = token.rpartition(":")[2]
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"{name} is invalid: " + "; ".join(map(str, problems)))

    def _run(self, call: Call, context: grpc.ServicerContext) -> Made:
        try:
            made = operations.run(self.world, self.target, call)
        except KilledError:
            with self.world.transaction():  # nothing else ends between what is written and the kill
                if self.world.private:
                    self.world.keep()
                os.kill(self.engine_pid, signal.SIGKILL)
            _abort(context, grpc.StatusCode.UNAVAILABLE, "the engine was killed by a fault rule")
        except CloudError as error:
            _abort(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        if made.not_ready:
            self._half_made(call, made, context)
        return made

    def _half_made(self, call: Call, made: Made, context: grpc.ServicerContext) -> NoReturn:
        """It exists and is not ready: the engine keeps it with its reasons, the next run updates it."""
        failed = p.ErrorResourceInitFailed(
            id=made.id,
            properties=to_struct(made.outputs),
            inputs=to_struct(call.inputs or {}),
            reasons=made.not_ready.split("\n"),
        )
        detail = any_pb2.Any()
        detail.Pack(failed)
        text = f"{call.urn.rpartition('::')[2]} failed to become ready: {made.not_ready}"
        code = grpc.StatusCode.UNKNOWN
        status = status_pb2.Status(code=code.value[0], message=text, details=[detail])
        context.abort_with_status(_Status(code, text, (("grpc-status-details-bin", status.SerializeToString()),)))
        raise AssertionError("abort returned")


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort returned")
