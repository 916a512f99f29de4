"""Triton Python model that predicts by entity id: features from the store, then the network in the same server.

One look-up and one inner inference for all requests of a call. Parameters in config.pbtxt: model (whom to ask),
model_input, feature_datatype, feature_shape, store_url ($NAME is read from the environment), key_prefix, on_failure
(error: a request whose features are missing fails; default: it goes on with zeros), deadline_ms, pause_ms,
cache_entries, cache_ttl_s. Needs a package `serving` beside it: features.py, features_types.py, the store's module.
"""

# mypy: ignore-errors
# (pb_utils exists only inside Triton's Python stub, without types)

import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


def unpacked(bundle):
    """The store's own client out of its wheels: unpacked once for all instances of a server."""
    with zipfile.ZipFile(bundle) as wheels:
        digest = hashlib.sha256(repr(sorted(wheels.namelist())).encode()).hexdigest()[:12]
        target = Path(tempfile.gettempdir()) / f"slipway-{digest}"
        if not target.is_dir():
            part = Path(tempfile.mkdtemp(prefix="slipway-"))
            for name in wheels.namelist():
                with wheels.open(name) as wheel, zipfile.ZipFile(wheel) as files:
                    files.extractall(part)
            try:
                part.rename(target)
            except OSError:
                shutil.rmtree(part)  # another instance was faster
    return str(target)


HERE = Path(__file__).resolve().parent
WHEELS = HERE / "wheels.zip"
sys.path[:0] = [str(HERE), *([unpacked(WHEELS)] if WHEELS.exists() else [])]
from serving.features import Schema, connect  # noqa: E402  -- the package beside this file

SECRETS = {"password": "SLIPWAY_STORE_PASSWORD", "ca": "SLIPWAY_STORE_CA"}  # what the stack gives to its servers
COUNTERS = {
    "hits": ("slipway_feature_cache_hits_total", "Look-ups answered by the cache inside the server"),
    "misses": ("slipway_feature_cache_misses_total", "Look-ups that went to the feature store"),
    "unknown": ("slipway_feature_unknown_total", "Ids that the feature store does not have"),
    "store_errors": ("slipway_feature_store_errors_total", "Look-ups that the feature store did not answer"),
    "throttled": ("slipway_feature_store_throttled_total", "Requests refused for being too many"),
    "retries": ("slipway_feature_store_retries_total", "Requests that were made once more"),
    "store_calls": ("slipway_feature_store_requests_total", "Requests to the feature store"),
    "store_seconds": ("slipway_feature_store_request_seconds_total", "Time of all requests to the feature store"),
}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {k: v["string_value"] for k, v in config["parameters"].items()}
        self.model, self.model_input = parameters["model"], parameters["model_input"]
        self.outputs = [o["name"] for o in config["output"]]
        self.defaults = parameters["on_failure"] == "default"
        shape = tuple(int(n) for n in parameters["feature_shape"].split(","))
        self.schema = Schema(datatype=parameters["feature_datatype"], shape=shape)
        self.client = connect(
            os.path.expandvars(parameters["store_url"]),
            parameters["key_prefix"],
            self.schema,
            secrets={name: os.environ[key] for name, key in SECRETS.items() if key in os.environ},
            deadline_ms=float(parameters["deadline_ms"]),
            pause_ms=float(parameters["pause_ms"]),
            cache_entries=int(parameters["cache_entries"]),
            cache_ttl_s=float(parameters["cache_ttl_s"]),
        )
        self.told = dict.fromkeys(COUNTERS, 0)
        self.families = {
            key: pb_utils.MetricFamily(name=name, description=text, kind=pb_utils.MetricFamily.COUNTER)
            for key, (name, text) in COUNTERS.items()
        }
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self.metrics = {key: family.Metric(labels=labels) for key, family in self.families.items()}

    async def execute(self, requests):
        asked = [self.ids(request) for request in requests]
        lookup = self.client.get_many(i for ids in asked if isinstance(ids, list) for i in ids)
        self.count()
        answers = [self.rows(ids, lookup) if isinstance(ids, list) else ids for ids in asked]
        ready = [i for i, answer in enumerate(answers) if isinstance(answer, np.ndarray)]
        if ready:
            results = await self.infer([answers[i] for i in ready])
            for i, result in zip(ready, results, strict=True):
                answers[i] = result
        return [
            a if isinstance(a, pb_utils.InferenceResponse) else pb_utils.InferenceResponse(output_tensors=[], error=a)
            for a in answers
        ]

    def finalize(self):
        self.client.close()

    def ids(self, request):
        """The ids of a request as text, or the error that answers it."""
        raw = pb_utils.get_input_tensor_by_name(request, "id").as_numpy().ravel()
        try:
            ids = [i.decode() if isinstance(i, bytes) else str(i) for i in raw]
        except UnicodeDecodeError:
            return pb_utils.TritonError("an id is not UTF-8 text", pb_utils.TritonError.INVALID_ARG)
        if not all(ids):
            return pb_utils.TritonError("empty id", pb_utils.TritonError.INVALID_ARG)
        return ids

    def rows(self, ids, lookup):
        """The features of a request's ids, or the error that answers it."""
        missing = [i for i in ids if i not in lookup.features]
        if missing and not self.defaults:
            named = ", ".join(repr(i) for i in missing[:5]) + (" ..." if len(missing) > 5 else "")
            if lookup.error:
                return pb_utils.TritonError(f"{lookup.error} (id {named})", pb_utils.TritonError.UNAVAILABLE)
            faults = [lookup.faults[i] for i in missing if i in lookup.faults]
            if faults:
                return pb_utils.TritonError(
                    f"unreadable features of id {named}: {faults[0]}", pb_utils.TritonError.INTERNAL
                )
            return pb_utils.TritonError(f"unknown id {named}", pb_utils.TritonError.NOT_FOUND)
        default = self.schema.default()
        return np.stack([lookup.features.get(i, default) for i in ids])

    async def infer(self, rows):
        """One inner request for all rows; the answers are cut apart again."""
        inner = pb_utils.InferenceRequest(
            model_name=self.model,
            requested_output_names=self.outputs,
            inputs=[pb_utils.Tensor(self.model_input, np.ascontiguousarray(np.concatenate(rows)))],
        )
        response = await inner.async_exec()
        if response.has_error():
            return [response.error()] * len(rows)
        cuts = np.cumsum([len(r) for r in rows])[:-1]
        arrays = [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in self.outputs]
        parts = [np.split(array, cuts) for array in arrays]
        return [
            pb_utils.InferenceResponse(
                output_tensors=[
                    pb_utils.Tensor(name, np.ascontiguousarray(part[i]))
                    for name, part in zip(self.outputs, parts, strict=True)
                ]
            )
            for i in range(len(rows))
        ]

    def count(self):
        """Adds to Triton's metrics what happened since the last call."""
        for key, metric in self.metrics.items():
            now = getattr(self.client.counters, key)
            metric.increment(now - self.told[key])
            self.told[key] = now
