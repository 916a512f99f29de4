"""Triton Python model that runs the .onnx file beside it with ONNX Runtime: for a Triton without that backend.

Inputs, outputs and batching come from config.pbtxt. Parameters: intra_op_threads (1), onnx_file (model.onnx).
All requests of one call are run as one batch; if that fails, each alone, so that a bad one fails by itself.
"""

# mypy: ignore-errors
# (pb_utils exists only inside Triton's Python stub, without types)

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_threads", "1"))
        options.inter_op_num_threads = 1
        # The folder of this version, not args: Triton gives the repository's path, which may be a copy of a bucket.
        path = Path(__file__).resolve().parent / parameters.get("onnx_file", "model.onnx")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [i["name"] for i in config["input"]]
        self.outputs = [o["name"] for o in config["output"]]
        self.types = [pb_utils.triton_string_to_numpy(o["data_type"]) for o in config["output"]]
        self.batched = config["max_batch_size"] > 0

    def execute(self, requests):
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            for request in requests
        ]
        if not self.batched or len(feeds) == 1:
            return [self.alone(feed) for feed in feeds]
        try:
            whole = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
            results = self.session.run(self.outputs, whole)
        except Exception:
            return [self.alone(feed) for feed in feeds]
        sizes = [len(feed[self.inputs[0]]) for feed in feeds]
        cuts = np.cumsum(sizes)[:-1]
        parts = [np.split(result, cuts) for result in results]
        return [self.response([part[i] for part in parts]) for i in range(len(feeds))]

    def alone(self, feed):
        try:
            return self.response(self.session.run(self.outputs, feed))
        except Exception as e:
            # The caller's fault as a rule (a shape or value that the network refuses): not an error of the server,
            # which a load balancer would try again elsewhere.
            error = pb_utils.TritonError(f"ONNX Runtime: {e}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(output_tensors=[], error=error)

    def response(self, arrays):
        tensors = [
            pb_utils.Tensor(name, np.ascontiguousarray(array, dtype=dtype))
            for name, array, dtype in zip(self.outputs, arrays, self.types, strict=True)
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)
