"""The `slipway` provider: Pulumi's provider protocol over the kinds of this package."""

# ruff: noqa: N802  (method names are the protocol's)
from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import plugin_pb2, status_pb2
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import provider_pb2_grpc as pg

from infra.clouds.local.endpoints import Endpoints
from infra.clouds.local.envoy import Envoy
from infra.clouds.local.features import FeatureSet
from infra.clouds.local.kind import Fault, Kind, LocalError, UnreadyError
from infra.clouds.local.model_server import ModelServer
from infra.clouds.local.preflight import root_faults
from infra.clouds.local.redis_server import Redis
from infra.clouds.local.repository import ModelRepository
from infra.clouds.local.root import Inputs, Root
from infra.clouds.local.supervisor import Supervisor
from infra.clouds.local.values import from_struct, to_struct, unknown

T = TypeVar("T")
PACKAGE, VERSION = "slipway", "0.1.0"
AS_ASKED = "as asked"  # `status` of every resource: what a read found different from what was asked
KINDS: tuple[Kind, ...] = (Supervisor(), Redis(), FeatureSet(), ModelRepository(), ModelServer(), Envoy(), Endpoints())


class _Status(grpc.Status):
    def __init__(self, code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, bytes], ...]) -> None:
        self.code, self.details, self.trailing_metadata = code, details, metadata


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort returned")


class LocalProvider(pg.ResourceProviderServicer):
    """Knows nothing but its root; everything else is read from there and from the machine at each call."""

    def __init__(self) -> None:
        self.root: Root | None = None
        self.kinds = {kind.token: kind for kind in KINDS}

    def Handshake(
        self, request: p.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> p.ProviderHandshakeResponse:
        return p.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True, accept_outputs=False)

    def Attach(self, request: plugin_pb2.PluginAttach, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetSchema(self, request: p.GetSchemaRequest, context: grpc.ServicerContext) -> p.GetSchemaResponse:
        return p.GetSchemaResponse(schema=json.dumps(schema()))

    def CheckConfig(self, request: p.CheckRequest, context: grpc.ServicerContext) -> p.CheckResponse:
        news = from_struct(request.news)
        faults = []
        path, stack = news.get("root"), news.get("stack")
        if not isinstance(path, str) or not Path(path).is_absolute():
            faults.append(Fault(path="root", reason="must be the absolute path of the stack's folder."))
        elif not isinstance(stack, str) or not stack:
            faults.append(Fault(path="stack", reason="must be the name of the stack."))
        else:
            faults = root_faults(Root(path=Path(path), stack=stack))
        return p.CheckResponse(inputs=request.news, failures=_failures(faults, {"root", "stack"}))

    def DiffConfig(self, request: p.DiffRequest, context: grpc.ServicerContext) -> p.DiffResponse:
        changed = _changed(from_struct(request.old_inputs), from_struct(request.news), set(request.ignoreChanges))
        return _diff([c for c in changed if c != "version"], {"root", "stack"})

    def Configure(self, request: p.ConfigureRequest, context: grpc.ServicerContext) -> p.ConfigureResponse:
        args = from_struct(request.args)
        self.root = Root(path=Path(str(args["root"])), stack=str(args["stack"]))
        return p.ConfigureResponse(acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=False)

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def Check(self, request: p.CheckRequest, context: grpc.ServicerContext) -> p.CheckResponse:
        kind, root = self._of(request.urn, context)
        news = from_struct(request.news)
        if unknown(news):  # a preview before what it refers to exists: nothing can be said yet
            return p.CheckResponse(inputs=request.news)
        checked = self._try(context, lambda: kind.check(root, news, from_struct(request.olds)))
        fields = {*kind.required, *kind.optional}
        return p.CheckResponse(inputs=to_struct(checked.inputs), failures=_failures(checked.faults, fields))

    def Diff(self, request: p.DiffRequest, context: grpc.ServicerContext) -> p.DiffResponse:
        """Differs when the inputs changed, or when what runs is not what was asked for: so a plain `up` repairs."""
        kind, root = self._of(request.urn, context)
        news = from_struct(request.news)
        changed = _changed(from_struct(request.old_inputs), news, set(request.ignoreChanges))
        if not changed and not unknown(news) and self._try(context, lambda: kind.drift(root, news)):
            changed = ["status"]
        return _diff(changed, set(kind.replaces))

    def Create(self, request: p.CreateRequest, context: grpc.ServicerContext) -> p.CreateResponse:
        kind, root = self._of(request.urn, context)
        inputs = from_struct(request.properties)
        if request.preview:
            known = {} if unknown(inputs) else kind.outputs(root, inputs)
            return p.CreateResponse(properties=to_struct({**inputs, **known}))
        name = str(inputs["name"])
        outputs = self._try(context, lambda: kind.apply(root, inputs, None), name, inputs)
        return p.CreateResponse(id=name, properties=to_struct({**outputs, "status": AS_ASKED}))

    def Read(self, request: p.ReadRequest, context: grpc.ServicerContext) -> p.ReadResponse:
        kind, root = self._of(request.urn, context)
        found = self._try(context, lambda: kind.read(root, request.id))
        if found is None:
            return p.ReadResponse()
        inputs, outputs = found
        drift = self._try(context, lambda: kind.drift(root, inputs))
        outputs = {**outputs, "status": "; ".join(drift) or AS_ASKED}
        return p.ReadResponse(id=request.id, inputs=to_struct(inputs), properties=to_struct(outputs))

    def Update(self, request: p.UpdateRequest, context: grpc.ServicerContext) -> p.UpdateResponse:
        kind, root = self._of(request.urn, context)
        inputs = from_struct(request.news)
        if request.preview:
            known = {} if unknown(inputs) else kind.outputs(root, inputs)
            return p.UpdateResponse(properties=to_struct({**inputs, **known}))
        olds = from_struct(request.olds)
        outputs = self._try(context, lambda: kind.apply(root, inputs, olds), request.id, inputs)
        return p.UpdateResponse(properties=to_struct({**outputs, "status": AS_ASKED}))

    def Delete(self, request: p.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        kind, root = self._of(request.urn, context)
        inputs = from_struct(request.old_inputs) or from_struct(request.properties)
        self._try(context, lambda: kind.delete(root, request.id, inputs))
        return empty_pb2.Empty()

    def _of(self, urn: str, context: grpc.ServicerContext) -> tuple[Kind, Root]:
        token = urn.split("::")[2].split("$")[-1]
        kind = self.kinds.get(token)
        if kind is None:
            allowed = ", ".join(sorted(self.kinds))
            _abort(context, grpc.StatusCode.NOT_FOUND, f"{token}: no such resource type; allowed: {allowed}")
        if self.root is None:
            _abort(context, grpc.StatusCode.FAILED_PRECONDITION, "the provider was not configured with a root")
        return kind, self.root

    def _try(
        self, context: grpc.ServicerContext, work: Callable[[], T], name: str = "", inputs: Inputs | None = None
    ) -> T:
        """User-facing failures as their text, partial ones as Pulumi's InitFailed, our own mistakes with a trace."""
        try:
            return work()
        except UnreadyError as unready:
            context.abort_with_status(_partial(name, unready.outputs, inputs or {}, unready.reasons))
        except (LocalError, OSError) as failure:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(failure))
        except Exception:
            context.abort(grpc.StatusCode.INTERNAL, traceback.format_exc())
        raise AssertionError("abort returned")


def schema() -> Inputs:
    """The package schema: the types and their properties."""
    resources = {}
    for kind in KINDS:
        properties = {f: {"$ref": "pulumi.json#/Any"} for f in (*kind.required, *kind.optional)}
        resources[kind.token] = {"inputProperties": properties, "requiredInputs": sorted(kind.required)}
    config = {"root": {"type": "string"}, "stack": {"type": "string"}}
    return {"name": PACKAGE, "version": VERSION, "resources": resources, "provider": {"inputProperties": config}}


def _failures(faults: list[Fault], fields: set[str]) -> list[p.CheckFailure]:
    """With the property where the fault is one's; what is wrong with the machine has no property."""
    found = []
    for fault in faults:
        named = re.split(r"[.\[]", fault.path)[0] in fields
        text = str(fault).removeprefix(f"{fault.path}: ") if named else str(fault)
        found.append(p.CheckFailure(property=fault.path if named else "", reason=text))
    return found


def _changed(old: Inputs, new: Inputs, ignored: set[str]) -> list[str]:
    return sorted(k for k in {*old, *new} if old.get(k) != new.get(k) and k not in ignored and not k.startswith("__"))


def _diff(changed: list[str], replaces: set[str]) -> p.DiffResponse:
    changes = p.DiffResponse.DIFF_SOME if changed else p.DiffResponse.DIFF_NONE
    replacing = [c for c in changed if c in replaces]
    return p.DiffResponse(changes=changes, diffs=changed, replaces=replacing, deleteBeforeReplace=bool(replacing))


def _partial(name: str, outputs: Inputs, inputs: Inputs, reasons: list[str]) -> _Status:
    detail = any_pb2.Any()
    detail.Pack(
        p.ErrorResourceInitFailed(id=name, properties=to_struct(outputs), inputs=to_struct(inputs), reasons=reasons)
    )
    code = grpc.StatusCode.UNKNOWN
    text = "; ".join(reasons)
    status = status_pb2.Status(code=code.value[0], message=text, details=[detail])
    return _Status(code, text, (("grpc-status-details-bin", status.SerializeToString()),))
