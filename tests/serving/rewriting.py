"""A cloud's Triton start, rewritten for this machine: home, addresses, ports, and `onnx-on-cpu` by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving import triton_rewrite
from serving.upload import Upload
from tests.serving.servers import write

NGC = "/opt/tritonserver"


def rewritten(
    settings: Mapping[str, Any], upload: Upload, *, models: Path, home: Path, ports: Mapping[int, int]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The start script's settings, whose models stand in the folder afterwards; and what they do not prove."""
    here = triton_rewrite.rewrite([m["config"] for m in settings["models"]])
    write({**upload.files, **here.files}, models)
    words = {str(a): str(b) for a, b in ports.items()} | {"0.0.0.0": "127.0.0.1"}
    command = []
    for word in settings["command"]:
        flag, _, value = word.replace(NGC, str(home)).partition("=")
        command.append(f"{flag}={words.get(value, value)}" if value else flag)
    configs = [{**m, "config": c} for m, c in zip(settings["models"], here.configs, strict=True)]
    mine = {"command": command, "port": ports[settings["port"]], "models": configs}
    return {**settings, **mine}, here.unproven
