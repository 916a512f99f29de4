"""A container specification as one process of this machine: command, environment, files, probes, all plain data.

What is known only where the process starts stays open, by name: ${http} ${grpc} ${metrics} (ports), ${repository}
(folder of the files), ${triton} (the server's home), ${bin} (the environment's programs), ${shm} (shared memory).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving.container import ContainerSpec, FileContent, InferProbe, Ports, Tensor

OPEN = Ports(http="${http}", grpc="${grpc}", metrics="${metrics}")
HOME, REPOSITORY, NAME, PATH = "${triton}", "${repository}", "${shm}", "${bin}:/usr/bin:/bin"


@dataclass(frozen=True, kw_only=True)
class Process:
    """What the place needs to run one server."""

    command: list[str]
    env: dict[str, str]
    files: dict[str, dict[str, str]]  # path in the repository -> {"text"} or {"source", "sha256"}
    probes: list[dict[str, object]]
    startup_seconds: float
    stop_seconds: float


def process(container: ContainerSpec, project: Path) -> Process:
    """A container made with OPEN, HOME, REPOSITORY and NAME, as a process."""
    return Process(
        command=[*container.command, *container.args],
        # The Python backend finds the virtual environment only through PATH; one thread an instance: the plan counts
        # instances, and numeric libraries would take every core for each.
        env={"PATH": PATH, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **container.env},
        files={path: _file(content, project) for path, content in container.files.items()},
        probes=[probe(p) for p in container.probes],
        startup_seconds=container.startup_s,
        stop_seconds=container.stop_timeout_s,
    )


def _file(content: FileContent, project: Path) -> dict[str, str]:
    if content.text is not None:
        return {"text": content.text}
    assert content.path is not None
    return {"source": str(project / content.path), "sha256": content.sha256}


def probe(probe: InferProbe) -> dict[str, object]:
    plain: dict[str, object] = {
        "name": probe.model,
        "path": probe.path,
        "body": probe.body(),
        "outputs": [_tensor(t) for t in probe.outputs],
        "relative_tolerance": probe.relative_tolerance,
        "absolute_tolerance": probe.absolute_tolerance,
    }
    return plain if probe.error is None else {**plain, "error": probe.error}


def _tensor(tensor: Tensor) -> dict[str, object]:
    plain: dict[str, object] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    return plain if tensor.data is None else {**plain, "data": list(tensor.data)}
