"""The V2 inference protocol on both wires: tensors to bytes, answers to tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
FORMATS = {  # datatype -> struct code of one element (KServe V2: little-endian, row-major)
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
FLOATS = ("FP16", "FP32", "FP64", "BF16")


class BadAnswerError(Exception):
    """An answer that is not what the protocol or the request calls for."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]  # flat, row-major; text for BYTES


Outputs = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prediction, encoded once; `expected` is what a right answer holds."""

    http: bytes
    grpc: bytes
    expected: Outputs | None = None


def request(model: str, inputs: Sequence[Tensor], expected: Outputs | None = None) -> Request:
    return Request(http=to_json(inputs), grpc=to_proto(model, inputs), expected=expected)


def to_json(inputs: Sequence[Tensor]) -> bytes:
    rows = [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape), "data": list(t.data)} for t in inputs]
    return json.dumps({"inputs": rows}).encode()


def from_json(body: bytes) -> Outputs:
    try:
        outputs = json.loads(body)["outputs"]
        return {
            o["name"]: Tensor(name=o["name"], datatype=o["datatype"], shape=tuple(o["shape"]), data=o["data"])
            for o in outputs
        }
    except (ValueError, KeyError, TypeError) as e:
        raise BadAnswerError(f"not an answer of the V2 protocol ({type(e).__name__}: {e}): {body[:200]!r}") from None


def to_proto(model: str, inputs: Sequence[Tensor]) -> bytes:
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest(model_name=model)
    for t in inputs:
        message.inputs.add(name=t.name, datatype=t.datatype, shape=list(t.shape))
        message.raw_input_contents.append(_packed(t))
    encoded: bytes = message.SerializeToString()
    return encoded


def from_proto(body: bytes) -> Outputs:
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2

    try:
        message = service_pb2.ModelInferResponse.FromString(body)
        raw = message.raw_output_contents
        return {
            o.name: Tensor(name=o.name, datatype=o.datatype, shape=tuple(o.shape), data=_unpacked(o.datatype, data))
            for o, data in zip(message.outputs, raw, strict=True)
        }
    except (DecodeError, ValueError, KeyError, struct.error) as e:
        raise BadAnswerError(f"not an answer of the V2 protocol ({type(e).__name__}: {e}): {body[:60]!r}") from None


def difference(expected: Outputs, got: Outputs) -> str | None:
    """What is wrong with an answer, or None. Floats may differ as batches of other sizes make them differ."""
    if expected.keys() != got.keys():
        return f"outputs {sorted(got)} instead of {sorted(expected)}"
    for name, right in expected.items():
        answer = got[name]
        if (answer.datatype, answer.shape) != (right.datatype, right.shape):
            return f"{name} is {answer.datatype} {answer.shape} instead of {right.datatype} {right.shape}"
        if len(answer.data) != len(right.data):
            return f"{name} has {len(answer.data)} values instead of {len(right.data)}"
        if right.datatype in FLOATS:
            same = all(abs(a - b) <= 1e-3 + 1e-2 * abs(b) for a, b in zip(answer.data, right.data, strict=True))
        else:
            same = list(answer.data) == list(right.data)
        if not same:
            return f"{name} is {_short(answer.data)} instead of {_short(right.data)}"
    return None


def _short(data: Sequence[Any]) -> str:
    shown = ", ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in data[:10])
    return f"[{shown}{', …' if len(data) > 10 else ''}]"


def _packed(t: Tensor) -> bytes:
    if t.datatype == "BYTES":
        encoded = [str(x).encode() for x in t.data]
        return b"".join(struct.pack("<I", len(x)) + x for x in encoded)
    return struct.pack(f"<{len(t.data)}{FORMATS[t.datatype]}", *t.data)


def _unpacked(datatype: str, raw: bytes) -> list[Any]:
    if datatype == "BYTES":
        found, at = [], 0
        while at < len(raw):
            (length,) = struct.unpack_from("<I", raw, at)
            found.append(raw[at + 4 : at + 4 + length].decode())
            at += 4 + length
        return found
    code = FORMATS[datatype]
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))
