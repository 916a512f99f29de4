"""What a model server needs to run, as plain data: all that a renderer (process, pod, virtual machine) reads."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.pod import Pod


@dataclass(frozen=True, kw_only=True)
class FileContent:
    """A file by its text, or by a local path with the digest of what stands there."""

    sha256: str
    size: int
    text: str | None = None
    path: str | None = None  # relative to the project with "/" where it lies inside, else absolute

    @classmethod
    def of_text(cls, text: str) -> FileContent:
        raw = text.encode()
        return cls(text=text, sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))

    @classmethod
    def of_file(cls, path: Path, project: Path) -> FileContent:
        with path.open("rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        real, root = path.resolve(), project.resolve()
        shown = real.relative_to(root).as_posix() if real.is_relative_to(root) else real.as_posix()
        return cls(path=shown, sha256=digest, size=path.stat().st_size)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input of the V2 inference protocol, or an output that is expected of it."""

    name: str
    datatype: str  # the V2 name: FP32, INT64, BYTES
    shape: tuple[int, ...]
    data: tuple[float | int | bool | str, ...] | None = None  # flat; None: any values
    fill: float | int | bool | str | None = None  # one value everywhere, for inputs that would be long to write out

    def values(self) -> list[float | int | bool | str]:
        """The flat values of an input."""
        if self.fill is not None:
            return [self.fill] * math.prod(self.shape)
        return list(self.data or ())


@dataclass(frozen=True, kw_only=True)
class InferProbe:
    """A real inference that a healthy server answers in a known way: readiness, where a health URL says too little.

    With `error`, the expected answer is a refusal (HTTP 4xx) whose text contains it; else `outputs` must come back.
    """

    model: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    error: str | None = None
    relative_tolerance: float = 1e-3
    absolute_tolerance: float = 1e-4

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}/infer"

    def body(self) -> dict[str, object]:
        """The V2 JSON request."""
        return {
            "inputs": [
                {"name": t.name, "datatype": t.datatype, "shape": list(t.shape), "data": t.values()}
                for t in self.inputs
            ]
        }


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Numbers, or words that the renderer fills in when it knows them."""

    http: int | str
    grpc: int | str
    metrics: int | str


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """One model server."""

    name: str
    command: tuple[str, ...]  # the executable alone, so that a renderer can leave it to the image
    args: tuple[str, ...]
    ports: Ports
    models_path: str  # where the files below are found by the server
    files: Mapping[str, FileContent]  # the model repository, by path below models_path
    probes: tuple[InferProbe, ...]
    ready_path: str  # HTTP 200 when every model is loaded
    live_path: str
    startup_s: float  # longest time from start to ready
    stop_timeout_s: float  # SIGTERM to SIGKILL, longer than the server's own exit time-out
    shm_mib: int
    shm_prefix: str | None = None  # names in /dev/shm that this server makes start so
    metrics_path: str = "/metrics"
    image: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    pod: Pod | None = None  # on Kubernetes
