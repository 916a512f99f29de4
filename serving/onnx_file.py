"""What an .onnx file takes and gives, and its answer to a fixed input: the standard for a server's answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from serving.container import Tensor
from serving.signature import NotServable, Port, Signature

# ONNX Runtime's name -> V2 datatype, numpy type. Others (sequences, maps, complex) have no V2 form.
TYPES: dict[str, tuple[str, type[np.generic]]] = {
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(uint16)": ("UINT16", np.uint16),
    "tensor(uint32)": ("UINT32", np.uint32),
    "tensor(uint64)": ("UINT64", np.uint64),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(int16)": ("INT16", np.int16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(string)": ("BYTES", np.object_),
}
Array = npt.NDArray[np.generic]
LONGEST_ANSWER = 4096  # values of an output that a probe compares; of a longer one only the shape
FILL = 1


@cache
def read(path: Path, sha256: str) -> Signature:
    """Loads the file, which has this digest, and runs it on a fixed input; once for each content."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # the runtime's own exception types share no base but this
        raise NotServable(f"ONNX Runtime cannot load it: {str(e).splitlines()[0]:.200}") from e
    raw_inputs, raw_outputs = session.get_inputs(), session.get_outputs()
    batched = all(p.shape and not isinstance(p.shape[0], int) for p in (*raw_inputs, *raw_outputs))
    inputs, outputs = (tuple(_port(p, batched) for p in ports) for ports in (raw_inputs, raw_outputs))
    feed = {p.name: _fixed_input(p, batched) for p in inputs}
    try:
        answers = session.run([p.name for p in outputs], feed)
    except Exception as e:
        raise NotServable(f"it fails on an input of its own shape: {str(e).splitlines()[0]:.200}") from e
    return Signature(
        inputs=inputs,
        outputs=outputs,
        batched=batched,
        probe_inputs=tuple(_probe_input(p, feed[p.name]) for p in inputs),
        probe_outputs=tuple(_probe_output(p, a) for p, a in zip(outputs, answers, strict=True)),
    )


def _port(raw: onnxruntime.NodeArg, batched: bool) -> Port:
    if raw.type not in TYPES:
        raise NotServable(f"'{raw.name}' is a {raw.type}, which the V2 protocol cannot carry")
    dims: Sequence[object] = raw.shape[1:] if batched else raw.shape
    return Port(name=raw.name, datatype=TYPES[raw.type][0], dims=tuple(d if isinstance(d, int) else -1 for d in dims))


def _fixed_input(port: Port, batched: bool) -> Array:
    shape = tuple(1 if d == -1 else d for d in port.dims)
    dtype = next(t for name, t in TYPES.values() if name == port.datatype)
    return np.full((1, *shape) if batched else shape, _fill(port), dtype=dtype)


def _fill(port: Port) -> int | str:
    return "" if port.datatype == "BYTES" else FILL


def _served_shape(port: Port, array: Array) -> tuple[int, ...]:
    return (*array.shape, *port.no_dims)


def _probe_input(port: Port, array: Array) -> Tensor:
    return Tensor(name=port.name, datatype=port.datatype, shape=_served_shape(port, array), fill=_fill(port))


def _probe_output(port: Port, answer: Array) -> Tensor:
    comparable = answer.size <= LONGEST_ANSWER and (answer.dtype.kind != "f" or bool(np.isfinite(answer).all()))
    data = tuple(answer.ravel().tolist()) if comparable else None
    return Tensor(name=port.name, datatype=port.datatype, shape=_served_shape(port, answer), data=data)
