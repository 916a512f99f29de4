"""Provider `lab`: boxes whose inputs say how it treats them. Its shelf is a JSON file, its diary a line for each call.

Inputs of lab:index:Box: `content` changes in place, `shape` replaces, `slot` replaces and must be free first, `faults`
names what goes wrong (`create`, `create-partial`, `update`, `update-partial`, `delete`, `check`, `hang`). Outputs: the
inputs, `serial`, and `key`, which the program may mark as secret. lab:index:Named is the same, but its id is its input
`called`, so that it can be found without state.
"""

# ruff: noqa: N802  (method names are the protocol's)
from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import plugin_pb2, status_pb2
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import provider_pb2_grpc as pg

SIG = "4dabf18193072939515e22adb298388d"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
REPLACING = ("shape", "slot")


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return plain(value["value"]) if SIG in value and "value" in value else {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def read(struct: struct_pb2.Struct) -> dict[str, Any]:
    return json_format.MessageToDict(struct)


def pack(values: dict[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def short(urn: str) -> str:
    return urn.rsplit("::", 1)[1]


class Lab(pg.ResourceProviderServicer):
    def __init__(self, diary: Path, shelf: Path, *, keeps_secrets: bool = True) -> None:
        self.diary, self.shelf, self.keeps_secrets = diary, shelf, keeps_secrets
        self.lock = threading.Lock()

    def write(self, **row: Any) -> None:
        with self.lock, self.diary.open("a") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")

    def things(self) -> dict[str, Any]:
        return json.loads(self.shelf.read_text()) if self.shelf.exists() else {"serial": 0, "things": {}}

    def fail(self, context: grpc.ServicerContext, text: str) -> NoReturn:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        raise AssertionError

    def partial(
        self, context: grpc.ServicerContext, id_: str, inputs: dict[str, Any], outputs: dict[str, Any]
    ) -> NoReturn:
        detail = any_pb2.Any()
        detail.Pack(
            p.ErrorResourceInitFailed(id=id_, properties=pack(outputs), inputs=pack(inputs), reasons=["is not ready"])
        )
        status = status_pb2.Status(code=2, message="is not ready", details=[detail])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNKNOWN, "is not ready")
        raise AssertionError

    def Handshake(
        self, request: p.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> p.ProviderHandshakeResponse:
        return p.ProviderHandshakeResponse(
            accept_secrets=self.keeps_secrets, accept_resources=True, accept_outputs=False
        )

    def Attach(self, request: plugin_pb2.PluginAttach, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version="2.0.0")

    def GetSchema(self, request: p.GetSchemaRequest, context: grpc.ServicerContext) -> p.GetSchemaResponse:
        return p.GetSchemaResponse(schema=json.dumps({"name": "lab", "version": "2.0.0"}))

    def CheckConfig(self, request: p.CheckRequest, context: grpc.ServicerContext) -> p.CheckResponse:
        wrong = read(request.news).get("account") == "forbidden"
        failures = [p.CheckFailure(property="account", reason="is forbidden")] if wrong else []
        return p.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: p.DiffRequest, context: grpc.ServicerContext) -> p.DiffResponse:
        changed = self._changed(request)
        self.write(call="DiffConfig", name=short(request.urn), changed=changed)
        return p.DiffResponse(
            changes=2 if changed else 1, diffs=changed, replaces=[k for k in changed if k == "account"]
        )

    def Configure(self, request: p.ConfigureRequest, context: grpc.ServicerContext) -> p.ConfigureResponse:
        return p.ConfigureResponse(acceptSecrets=self.keeps_secrets, supportsPreview=True, acceptResources=True)

    def Check(self, request: p.CheckRequest, context: grpc.ServicerContext) -> p.CheckResponse:
        news = read(request.news)
        if "check" in (plain(news).get("faults") or []):
            self.write(call="Check", name=short(request.urn), failed=True)
            return p.CheckResponse(
                inputs=request.news, failures=[p.CheckFailure(property="content", reason="is not allowed")]
            )
        return p.CheckResponse(inputs=pack({"size": "medium", **news} if "Sized" in request.urn else news))

    def _changed(self, request: p.DiffRequest) -> list[str]:
        olds, news = plain(read(request.old_inputs)), plain(read(request.news))
        return sorted(k for k in {*olds, *news} if olds.get(k) != news.get(k) and k != "version")

    def Diff(self, request: p.DiffRequest, context: grpc.ServicerContext) -> p.DiffResponse:
        changed = self._changed(request)
        replaces = [k for k in changed if k in REPLACING]
        self.write(call="Diff", name=short(request.urn), changed=changed, replaces=replaces)
        return p.DiffResponse(
            changes=2 if changed else 1, diffs=changed, replaces=replaces, deleteBeforeReplace="slot" in replaces
        )

    def Create(self, request: p.CreateRequest, context: grpc.ServicerContext) -> p.CreateResponse:
        name, inputs = short(request.urn), read(request.properties)
        if request.preview:
            self.write(call="Create", name=name, preview=True)
            return p.CreateResponse(properties=pack(inputs))
        self.write(call="Create", name=name, timeout=request.timeout)
        faults = plain(inputs).get("faults") or []
        if "create" in faults:
            self.fail(context, "creating was refused")
        time.sleep(plain(inputs).get("wait", 0))
        with self.lock:
            world = self.things()
            world["serial"] += 1
            id_ = plain(inputs)["called"] if ":Named::" in request.urn else f"id-{world['serial']}"
            made = world["things"].get(id_, {}).get("made", 0) + 1
            outputs = {**inputs, "serial": f"{name}/{world['serial']}", "key": f"key of {name}"}
            world["things"][id_] = {"name": name, "inputs": plain(inputs), "serial": outputs["serial"], "made": made}
            self.shelf.write_text(json.dumps(world))
        if "hang" in faults:
            time.sleep(600)
        if "create-partial" in faults:
            self.partial(context, id_, inputs, outputs)
        return p.CreateResponse(id=id_, properties=pack(outputs))

    def Update(self, request: p.UpdateRequest, context: grpc.ServicerContext) -> p.UpdateResponse:
        name, inputs, olds = short(request.urn), read(request.news), read(request.olds)
        outputs = {**inputs, "serial": plain(olds).get("serial"), "key": f"key of {name}"}
        if request.preview:
            return p.UpdateResponse(properties=pack(outputs))
        self.write(call="Update", name=name, timeout=request.timeout)
        faults = plain(inputs).get("faults") or []
        if "update" in faults:
            self.fail(context, "updating was refused")
        with self.lock:
            world = self.things()
            world["things"][request.id]["inputs"] = plain(inputs)
            self.shelf.write_text(json.dumps(world))
        if "update-partial" in faults:
            self.partial(context, request.id, inputs, outputs)
        return p.UpdateResponse(properties=pack(outputs))

    def Delete(self, request: p.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.write(call="Delete", name=short(request.urn), timeout=request.timeout)
        if "delete" in (plain(read(request.properties)).get("faults") or []):
            self.fail(context, "deleting was refused")
        with self.lock:
            world = self.things()
            world["things"].pop(request.id, None)
            self.shelf.write_text(json.dumps(world))
        return empty_pb2.Empty()

    def Read(self, request: p.ReadRequest, context: grpc.ServicerContext) -> p.ReadResponse:
        self.write(call="Read", name=short(request.urn))
        thing = self.things()["things"].get(request.id)
        if thing is None:
            return p.ReadResponse()
        outputs = {**thing["inputs"], "serial": thing["serial"], "key": f"key of {short(request.urn)}"}
        return p.ReadResponse(id=request.id, properties=pack(outputs), inputs=pack(thing["inputs"]))

    def Invoke(self, request: p.InvokeRequest, context: grpc.ServicerContext) -> p.InvokeResponse:
        args = plain(read(request.args))
        self.write(call="Invoke", name="", token=request.tok)
        if request.tok == "lab:index:locate":
            found = [i for i, t in self.things()["things"].items() if t["name"] == args["name"]]
            return p.InvokeResponse(**{"return": pack({"id": found[0] if found else ""})})
        if args.get("word") == "bad":
            return p.InvokeResponse(failures=[p.CheckFailure(property="word", reason="is bad")])
        return p.InvokeResponse(**{"return": pack({"answer": f"{args.get('word')}!"})})


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(32))
    pg.add_ResourceProviderServicer_to_server(Lab(Path(os.environ["LAB_DIARY"]), Path(os.environ["LAB_SHELF"])), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    sys.exit(main())
