"""The two services that a Pulumi program talks to: the resource monitor and the engine's log."""

# ruff: noqa: N802  (method names are the protocol's)
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import NoReturn, TypeVar, cast

import grpc
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from pulumi.runtime.proto import alias_pb2, engine_pb2, engine_pb2_grpc, provider_pb2, resource_pb2, resource_pb2_grpc

from engine import existing
from engine import values as v
from engine.answers import ProviderError
from engine.api import EngineError
from engine.goals import Alias, Goal
from engine.project import HOW_TO_INSTALL
from engine.providers import BUILTIN
from engine.register import Registry
from engine.rows import STACK, Row, is_provider, make_urn, package
from engine.steps import StepFailed, Steps, StepSkipped, Stopped

FEATURES = [
    resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
    resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
    # What follows is refused by name when it is used; without the feature the SDK would blame an old Pulumi.
    resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACE_WITH,
    resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACEMENT_TRIGGER,
    resource_pb2.RESOURCE_MONITOR_FEATURE_TRANSFORMS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_INVOKE_TRANSFORMS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_PARAMETERIZATION,
    resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_ERROR_HOOKS,
]
UNSUPPORTED = {  # field of a registration -> the option in the program
    "remote": "remote components",
    "transforms": "transforms",
    "hooks": "hooks",
    "replace_with": "replace_with",
    "replacement_trigger": "replacement_trigger",
    "envVarMappings": "env_var_mappings",
    "state_migrations": "state_migrations",
    "packageRef": "parameterised packages",
}
SEVERITIES = {
    engine_pb2.INFO: "info",
    engine_pb2.WARNING: "warning",
    engine_pb2.ERROR: "error",
    engine_pb2.DEBUG: "debug",
}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
M = TypeVar("M", bound=Callable[..., object])


def guarded(method: M) -> M:
    """Ends of the run are UNAVAILABLE, on which the SDK falls silent; the faults of a request are told as such."""

    @wraps(method)
    def call(self: Monitor, request: object, context: grpc.ServicerContext) -> object:
        try:
            return method(self, request, context)
        except Stopped:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the run is ending")
        except (StepFailed, StepSkipped) as e:
            context.abort(grpc.StatusCode.UNKNOWN, str(e))
        except (EngineError, ProviderError) as e:
            self.steps.say("error", str(e))
            self.steps.failed = True
            self.steps.stop()
            context.abort(grpc.StatusCode.UNAVAILABLE, str(e))

    return cast(M, call)


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    def __init__(self, registry: Registry, steps: Steps, info: resource_pb2.DeploymentInfo) -> None:
        self.registry, self.steps, self.info = registry, steps, info

    def GetDeploymentInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> resource_pb2.DeploymentInfo:
        return self.info

    def SupportsFeature(
        self, request: resource_pb2.SupportsFeatureRequest, context: grpc.ServicerContext
    ) -> resource_pb2.SupportsFeatureResponse:
        return resource_pb2.SupportsFeatureResponse(
            hasSupport=request.id in ("secrets", "resourceReferences", "aliasSpecs", "deletedWith")
        )

    @guarded
    def RegisterResource(
        self, request: resource_pb2.RegisterResourceRequest, context: grpc.ServicerContext
    ) -> resource_pb2.RegisterResourceResponse:
        said = {field.name for field, x in request.ListFields() if not isinstance(x, Message) or x.ByteSize()}
        for name, option in UNSUPPORTED.items():
            if name in said:
                _refuse(f"{request.type} '{request.name}': {option}")
        goal = self._goal(request)
        if self.steps.request.on_goal is not None:
            self.steps.request.on_goal(goal)
        try:
            row = self.registry.register(goal)
        except (StepFailed, StepSkipped):
            if not request.supportsResultReporting:
                raise
            urn = make_urn(
                self.registry.stack, self.registry.project, request.parent or None, request.type, request.name
            )
            return resource_pb2.RegisterResourceResponse(urn=urn, result=resource_pb2.FAIL)
        outputs = row.get("outputs", {}) if row["custom"] else {}
        return resource_pb2.RegisterResourceResponse(urn=row["urn"], id=row.get("id", ""), object=v.to_struct(outputs))

    def _goal(self, request: resource_pb2.RegisterResourceRequest) -> Goal:
        parent = self.registry.seen.get(request.parent, cast(Row, {}))
        options: Row = {
            "protect": request.protect if request.HasField("protect") else bool(parent.get("protect")),
            "retainOnDelete": request.retainOnDelete
            if request.HasField("retainOnDelete")
            else bool(parent.get("retainOnDelete")),
            "dependencies": sorted(request.dependencies),
            "propertyDependencies": {k: sorted(d.urns) for k, d in request.propertyDependencies.items()},
            "ignoreChanges": list(request.ignoreChanges),
            "replaceOnChanges": list(request.replaceOnChanges),
            "additionalSecretOutputs": list(request.additionalSecretOutputs),
            "customTimeouts": _timeouts(request.customTimeouts),
            "deletedWith": request.deletedWith,
        }
        inputs = v.from_struct(request.object)
        if not self.steps.preview and v.has_unknown(inputs):  # what it needs failed: the step will be skipped
            inputs = {k: x for k, x in inputs.items() if not v.has_unknown(x)}
        if is_provider(request.type):
            inputs = _provider_inputs(inputs, request.version)
        return Goal(
            type=request.type,
            name=request.name,
            custom=request.custom,
            inputs=inputs,
            parent=request.parent,
            provider=request.provider,
            version=request.version,
            import_id=request.importId,
            delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
            aliases=[_alias(a) for a in request.aliases] + [Alias(urn=u) for u in request.aliasURNs],
            options=options,
        )

    @guarded
    def RegisterResourceOutputs(
        self, request: resource_pb2.RegisterResourceOutputsRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        row = self.registry.seen.get(request.urn)
        if row is None:
            raise EngineError(f"{request.urn}: outputs of a resource that was not registered")
        outputs = v.from_struct(request.outputs)
        if (
            row["type"] == STACK
        ):  # a program that fails may end before it exported all: what is not new stays (measured)
            self.registry.exported = (request.urn, outputs)
            outputs = {**row.get("outputs", {}), **outputs}
        if outputs != row.get("outputs", {}):
            self.registry.state.set_outputs(request.urn, outputs, sync=row["type"] == STACK)
        return empty_pb2.Empty()

    @guarded
    def ReadResource(
        self, request: resource_pb2.ReadResourceRequest, context: grpc.ServicerContext
    ) -> resource_pb2.ReadResourceResponse:
        urn = make_urn(self.registry.stack, self.registry.project, request.parent or None, request.type, request.name)
        row: Row = {
            "urn": urn,
            "custom": True,
            "type": request.type,
            "id": request.id,
            "parent": request.parent,
            "external": True,
            "provider": request.provider,
            "dependencies": sorted(request.dependencies),
            "additionalSecretOutputs": list(request.additionalSecretOutputs),
        }
        done = existing.read(self.registry, row, v.from_struct(request.properties), request.version)
        return resource_pb2.ReadResourceResponse(
            urn=urn, id=done["id"], properties=v.to_struct(done.get("outputs", {}))
        )

    @guarded
    def Invoke(
        self, request: resource_pb2.ResourceInvokeRequest, context: grpc.ServicerContext
    ) -> resource_pb2.ResourceInvokeResponse:
        if package(request.tok) == BUILTIN:
            _refuse(f"the function {request.tok}")
        ref = request.provider or self.registry.default(package(request.tok), request.version)
        answer, failures = self.registry.providers.get(ref).invoke(request.tok, v.from_struct(request.args))
        if answer is None:
            return resource_pb2.ResourceInvokeResponse(unknown=True)
        response = resource_pb2.ResourceInvokeResponse(
            failures=[provider_pb2.CheckFailure(property=p, reason=r) for p, r in failures]
        )
        getattr(response, "return").CopyFrom(v.to_struct(answer))
        return response

    @guarded
    def Call(self, request: resource_pb2.ResourceCallRequest, context: grpc.ServicerContext) -> NoReturn:
        _refuse(f"the method {request.tok}")

    @guarded
    def ExistsResource(self, request: resource_pb2.ExistsResourceRequest, context: grpc.ServicerContext) -> NoReturn:
        _refuse(f"the question whether {request.type} exists")

    @guarded
    def RegisterStackTransform(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        _refuse("stack transforms")

    @guarded
    def RegisterStackInvokeTransform(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        _refuse("invoke transforms")

    @guarded
    def RegisterResourceHook(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        _refuse("resource hooks")

    @guarded
    def RegisterErrorHook(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        _refuse("error hooks")

    @guarded
    def RegisterPackage(self, request: resource_pb2.RegisterPackageRequest, context: grpc.ServicerContext) -> NoReturn:
        _refuse(f"the parameterised package {request.name}")

    def SignalAndWaitForShutdown(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """At once: nothing that comes after the program asks it anything (there are no hooks)."""
        return empty_pb2.Empty()


class Log(engine_pb2_grpc.EngineServicer):
    def __init__(self, steps: Steps) -> None:
        self.steps, self.root = steps, ""

    def Log(self, request: engine_pb2.LogRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        severity = SEVERITIES[request.severity]
        if severity == "error" and self.steps.stopped.is_set():
            severity = "debug"  # an echo of the failure that is already told
        if severity != "debug":
            self.steps.say(severity, request.message, request.urn)
        return empty_pb2.Empty()

    def GetRootResource(
        self, request: engine_pb2.GetRootResourceRequest, context: grpc.ServicerContext
    ) -> engine_pb2.GetRootResourceResponse:
        return engine_pb2.GetRootResourceResponse(urn=self.root)

    def SetRootResource(
        self, request: engine_pb2.SetRootResourceRequest, context: grpc.ServicerContext
    ) -> engine_pb2.SetRootResourceResponse:
        self.root = request.urn
        return engine_pb2.SetRootResourceResponse()

    def RequirePulumiVersion(
        self, request: engine_pb2.RequirePulumiVersionRequest, context: grpc.ServicerContext
    ) -> engine_pb2.RequirePulumiVersionResponse:
        return engine_pb2.RequirePulumiVersionResponse()


def _refuse(what: str) -> NoReturn:
    raise EngineError(f"{what}: not supported by the embedded engine. {HOW_TO_INSTALL}")


def _provider_inputs(inputs: v.Props, version: str) -> v.Props:
    """Pulumi keeps the plugin's version among a provider's inputs, and its own marks under `__internal`."""
    return {**inputs, "__internal": {}, "version": version} if version else inputs


def _alias(alias: alias_pb2.Alias) -> Alias:
    if alias.HasField("urn"):
        return Alias(urn=alias.urn)
    s = alias.spec
    return Alias(name=s.name, type=s.type, parent=s.parentUrn, no_parent=s.noParent, project=s.project, stack=s.stack)


def _timeouts(given: resource_pb2.RegisterResourceRequest.CustomTimeouts) -> dict[str, float]:
    texts: Mapping[str, str] = {"create": given.create, "update": given.update, "delete": given.delete}
    seconds = {
        k: sum(float(n) * _UNITS[u] for n, u in re.findall(r"([\d.]+)(ms|s|m|h)", t)) for k, t in texts.items() if t
    }
    return {k: int(s) if float(s).is_integer() else s for k, s in seconds.items()}
