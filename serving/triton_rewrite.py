"""The rewrite `onnx-on-cpu`: a cloud's configuration as the local Triton can load it, and what that leaves out.

The local Triton has the Python backend alone and this machine no GPU: the configuration's batching, queue policy,
instances, versions, warm-up, inputs and outputs are tried for real, what computes is not.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb

from serving.container import FileContent
from serving.facts import facts
from serving.triton import SHIM

NAME = "onnx-on-cpu"


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """The configurations, the files that stand beside each model's own, and what their loading does not prove."""

    configs: tuple[Mapping[str, object], ...]
    files: Mapping[str, FileContent]
    unproven: tuple[str, ...]


def rewrite(configs: Sequence[Mapping[str, object]]) -> Rewritten:
    """For ONNX models alone: others have no shim, and raise ValueError."""
    rewritten, files, unproven = [], {}, []
    for config in configs:
        message = json_format.ParseDict(copy.deepcopy(dict(config)), pb.ModelConfig())
        name = message.name
        if message.backend != "onnxruntime":
            raise ValueError(f"{name}: the rewrite {NAME} is for the backend onnxruntime, not {message.backend}")
        unproven.append(f"{name}: backend onnxruntime of the image (the Python shim ran the same file in its place)")
        message.backend = "python"
        message.parameters["intra_op_threads"].string_value = str(facts("triton")["intra_op_threads"])
        for group in message.instance_group:
            if group.kind == pb.ModelInstanceGroup.KIND_GPU:
                group.kind = pb.ModelInstanceGroup.KIND_CPU
                unproven.append(f"{name}: {group.count} instances on each GPU, and that the model fits its memory")
        if message.HasField("optimization"):
            unproven.append(f"{name}: execution accelerators")
            message.ClearField("optimization")
        if not message.input:
            unproven.append(f"{name}: inputs and outputs, which the image's backend completes from the file")
        for version in message.version_policy.specific.versions:
            files[f"{name}/{version}/model.py"] = FileContent.of_text(SHIM.read_text())
        rewritten.append(json_format.MessageToDict(message, preserving_proto_field_name=True))
    return Rewritten(configs=tuple(rewritten), files=files, unproven=tuple(unproven))
