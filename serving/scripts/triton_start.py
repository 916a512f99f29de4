"""Starts Triton in a container, gives it each model with the plan's configuration, and stops it as it was asked to.

Stands alone: it runs with the Python of the server's image, from a mounted file. `triton_start.py start.json` where
start.json says: command (list), repositories (names of environment variables that hold addresses, or paths), port
(HTTP), models (name and configuration, in the order of loading), live_s, load_s, restricted (interfaces that need the
key). Triton starts with no model (explicit control); the key of the model interface is made here and never written.

by_id: for a model, the one that predicts by entity id before it. It is loaded where the network's only input is just a
feature value of the store, which the server knows when it has read the file; the others are served without.
started: a file that is made when all of this is done.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

HEADER = "slipway-key"
PAUSE_S = 0.1
SIZES = {"BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "UINT32": 4, "INT32": 4, "FP32": 4}
SIZES |= {"UINT64": 8, "INT64": 8, "FP64": 8}


class StartError(Exception):
    """The server cannot serve what it was asked to, and why."""


class Server:
    """The Triton process and its model interface."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings, self._key, self.stopping = settings, secrets.token_hex(16), False
        # Before the process: an order to stop in between must find somebody who passes it on.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._process = subprocess.Popen(self._command())
        if self.stopping:
            self._process.terminate()

    def _command(self) -> list[str]:
        apis = ",".join(self._settings["restricted"])
        places = [p if p.startswith("/") else os.environ[p] for p in self._settings["repositories"]]
        return [
            *self._settings["command"],
            *(f"--model-repository={place}" for place in places),
            "--model-control-mode=explicit",
            f"--http-restricted-api={apis}:{HEADER}={self._key}",
            f"--grpc-restricted-protocol={apis}:{HEADER}={self._key}",
        ]

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True
        if hasattr(self, "_process"):
            self._process.terminate()  # Triton drains: its exit time-out is the longest allowed request

    def load_all(self) -> None:
        """Every model in order; the last one's ready address says that all are there."""
        self._wait_live()
        for model in self._settings["models"]:
            self._load(model["name"], model["config"])
            beside = self._settings.get("by_id", {}).get(model["name"])
            if beside is not None and not self.stopping:
                self._load_by_id(model["name"], beside)
            if self.stopping:
                return
        if "started" in self._settings:
            with open(self._settings["started"], "w"):
                pass

    def _load(self, name: str, config: dict[str, Any]) -> None:
        began = time.monotonic()
        body = {"parameters": {"config": json.dumps(config)}}
        status, text = self._ask("POST", f"/v2/repository/models/{name}/load", body)
        if self.stopping:
            return
        if status != 200:
            raise StartError(f"{name}: {text}")
        status, text = self._ask("GET", f"/v2/models/{name}/ready")
        if status != 200:
            raise StartError(f"{name} was loaded and is not ready: {text}")
        print(f"loaded {name} in {time.monotonic() - began:.1f} s", flush=True)

    def _load_by_id(self, model: str, beside: dict[str, Any]) -> None:
        status, text = self._ask("GET", f"/v2/models/{model}/config")
        if status != 200:
            raise StartError(f"{model}: its configuration cannot be read: {text}")
        said = json.loads(text)
        unfit = _unfit(said, beside["value_bytes"])
        if unfit:
            print(f"{beside['name']} is not served: {unfit}", flush=True)
            return
        (only,) = said["input"]
        learnt = {
            "model": model,
            "model_input": only["name"],
            "feature_datatype": only["data_type"].removeprefix("TYPE_"),
            "feature_shape": ",".join(str(d) for d in only["dims"]),
        }
        outputs = [{k: o[k] for k in ("name", "data_type", "dims")} for o in said["output"]]
        for given, output in zip(said["output"], outputs, strict=True):
            if given.get("reshape"):
                output["reshape"] = given["reshape"]
        parameters = {**beside["config"]["parameters"], **{k: {"string_value": v} for k, v in learnt.items()}}
        self._load(beside["name"], {**beside["config"], "output": outputs, "parameters": parameters})

    def wait(self) -> int:
        """The server's exit status; an end that nobody asked for is a failure, whatever it says."""
        status = self._process.wait()
        return status if self.stopping else status or 1

    def end(self) -> None:
        """No matter in what state it is."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _wait_live(self) -> None:
        end = time.monotonic() + float(self._settings["live_s"])
        while time.monotonic() < end and not self.stopping:
            if self._process.poll() is not None:
                raise StartError(f"the server ended with status {self._process.returncode}; its own words are above")
            try:
                if self._ask("GET", "/v2/health/live")[0] == 200:
                    return
            except OSError:
                pass  # it does not listen yet
            time.sleep(PAUSE_S)
        if not self.stopping:
            raise StartError(f"the server does not answer after {self._settings['live_s']} s")

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._settings["port"], timeout=float(self._settings["load_s"])
        )
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {HEADER: self._key})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace").strip()
        finally:
            connection.close()


def _unfit(config: dict[str, Any], value_bytes: int) -> str | None:
    """Why the values of the store are not this network's input."""
    inputs = config["input"]
    if config["max_batch_size"] < 1:
        return "the network takes no batch"
    if len(inputs) != 1:
        return f"the network has {len(inputs)} inputs"
    size = SIZES.get(inputs[0]["data_type"].removeprefix("TYPE_"), 0)
    for dimension in inputs[0]["dims"]:
        size *= int(dimension)
    if size != value_bytes:
        return f"an item of input {inputs[0]['name']} has {size} bytes, and features.value_bytes is {value_bytes}"
    return None


def main(path: str) -> int:
    with open(path) as file:
        server = Server(json.load(file))
    try:
        server.load_all()
    except (StartError, OSError, http.client.HTTPException) as e:
        if server.stopping:
            return server.wait()
        print(f"cannot start: {e}", file=sys.stderr, flush=True)
        server.end()
        return 1
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
