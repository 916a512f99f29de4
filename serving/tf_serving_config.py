"""TensorFlow Serving's own configuration files: protocol buffers in text form, written by the rules of that form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Value = str | int | bool | Mapping[str, object] | Sequence[object]


@dataclass(frozen=True, kw_only=True)
class Served:
    """One model: its folder of versions, which of them are loaded, and their names."""

    name: str
    base_path: object  # text, or a reference that the start fills in
    versions: tuple[int, ...]
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Of each model: one queue, filled by the requests and emptied by the threads."""

    max_batch_size: int
    batch_timeout_micros: int
    max_enqueued_batches: int
    num_batch_threads: int
    allowed_batch_sizes: tuple[int, ...]


def model_config_list(models: Sequence[Served]) -> str:
    """ModelServerConfig: each model with the chosen versions alone, and their labels."""
    configs = [
        {
            "name": m.name,
            "base_path": m.base_path,
            "model_platform": "tensorflow",
            "model_version_policy": {"specific": {"versions": list(m.versions)}},
            "version_labels": [{"key": k, "value": v} for k, v in sorted(m.labels.items())],
        }
        for m in models
    ]
    return text({"model_config_list": {"config": configs}})


def batching_parameters(batching: Batching) -> str:
    """BatchingParameters: its numbers are wrapped, each a message with a value."""
    return text(
        {
            "max_batch_size": {"value": batching.max_batch_size},
            "batch_timeout_micros": {"value": batching.batch_timeout_micros},
            "max_enqueued_batches": {"value": batching.max_enqueued_batches},
            "num_batch_threads": {"value": batching.num_batch_threads},
            "allowed_batch_sizes": list(batching.allowed_batch_sizes),
        }
    )


def monitoring_config(path: str) -> str:
    """MonitoringConfig: metrics on the REST port, and only with this."""
    return text({"prometheus_config": {"enable": True, "path": path}})


def text(message: Mapping[str, object], indent: str = "") -> str:
    """A message in text form; a list is its field once for each item."""
    lines: list[str] = []
    for name, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                lines.append(f"{indent}{name} {{\n{text(item, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    quoted = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{quoted}"'
