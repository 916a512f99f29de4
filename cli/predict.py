"""Predictions through a stack's entry: what to send, what came back, and whether it is right."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cli.errors import FAILED, USAGE, CliError
from cli.wire import FORMATS, BadAnswerError, Outputs, Request, Tensor, request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A model's input as the server describes it."""

    model: str
    input: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def by_id(self) -> bool:
        return self.datatype == "BYTES"


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The rows that a stack's features.source holds, by id."""

    ids: tuple[str, ...]
    rows: NDArray[np.float32]
    labels: tuple[int, ...] | None

    def index(self, entity: str) -> int:
        try:
            return self.ids.index(entity)
        except ValueError:
            raise CliError(
                f"--id {entity}: not among the features; allowed: {self.ids[0]} to {self.ids[-1]}", USAGE
            ) from None


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a stack predicts, from its outputs."""

    stack: str
    urls: Mapping[str, str]  # protocol -> URL or host:port
    models: tuple[str, ...]
    samples: Path | None

    def url(self, protocol: str) -> str:
        return self.urls[protocol]


def target(stack: str, outputs: Mapping[str, Any], project: Path) -> Target:
    """Reads the outputs; a stack without them does not serve."""
    missing = [key for key in ("url_http", "url_grpc", "models") if key not in outputs]
    if missing:
        raise CliError(f"stack '{stack}' has no output {', '.join(missing)}. To fix: slipway up {stack}", FAILED)
    features = ((outputs.get("plan") or {}).get("spec") or {}).get("features") or {}
    features = json.loads(features) if isinstance(features, str) else features
    source = features.get("source")
    return Target(
        stack=stack,
        urls={"http": str(outputs["url_http"]), "grpc": str(outputs["url_grpc"])},
        models=tuple(outputs["models"]),
        samples=None if source is None else project / str(source),
    )


def samples(where: Target) -> Samples | None:
    import numpy as np

    if where.samples is None:
        return None
    if not where.samples.is_file():
        raise CliError(f"{where.samples}: the stack's features.source is not there", FAILED)
    with np.load(where.samples, allow_pickle=False) as file:
        rows = file["features"].astype(np.float32)
        ids = tuple(str(i) for i in file["ids"]) if "ids" in file else tuple(str(i) for i in range(len(rows)))
        labels = tuple(int(x) for x in file["labels"]) if "labels" in file else None
    return Samples(ids=ids, rows=rows, labels=labels)


def choose_model(where: Target, wanted: str | None) -> str:
    """The model asked for; by default one that predicts by id when the stack has one."""
    if wanted is None:
        by_id = [m for m in where.models if m.endswith("_by_id")]
        return (by_id or list(where.models))[0]
    if wanted not in where.models:
        raise CliError(f"--model {wanted}: not served; allowed: {', '.join(where.models)}", USAGE)
    return wanted


def signature(where: Target, model: str) -> Signature:
    """Asks the server what the model takes."""
    url = f"{where.url('http').rstrip('/')}/v2/models/{quote(model, safe='')}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            data = json.load(response)
    except urllib.error.HTTPError as e:
        raise CliError(f"{url}: HTTP {e.code}: {e.read(300).decode(errors='replace')}") from None
    except (OSError, ValueError) as e:
        hint = f"To fix: slipway status {where.stack}"
        raise CliError(f"{url}: no answer ({getattr(e, 'reason', e)}). {hint}") from None
    inputs = data["inputs"]
    if len(inputs) != 1:
        raise CliError(f"model {model} takes {len(inputs)} inputs: give them with --input FILE.json", USAGE)
    (only,) = inputs
    return Signature(model=model, input=only["name"], datatype=only["datatype"], shape=tuple(map(int, only["shape"])))


def tensor(model: Signature, known: Samples, indices: Sequence[int]) -> Tensor:
    """The input for these entities: their ids, or their rows."""
    count = len(indices)
    batched = bool(model.shape) and model.shape[0] == -1
    if model.by_id:
        shape = (count, *[1 for _ in model.shape[1:]]) if batched else (count,)
        data: list[Any] = [known.ids[i] for i in indices]
    else:
        shape = (count, *model.shape[1:]) if batched else model.shape
        data = [float(x) for i in indices for x in known.rows[i]]
    return Tensor(name=model.input, datatype=model.datatype, shape=shape, data=data)


def from_file(path: Path, model: str, where: Target) -> Request:
    """A request of the V2 protocol from a file, or the bare rows of a model with one input."""
    try:
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            return request(model, [_tensor(t) for t in content["inputs"]])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CliError(f"--input {path}: {type(e).__name__}: {e}; {FILE_FORM}", USAGE) from None
    takes = signature(where, model)
    rows = content if isinstance(content, list) and content and isinstance(content[0], list) else [content]
    if not isinstance(content, list) or not content or len({len(r) for r in rows}) != 1:
        raise CliError(f"--input {path}: {FILE_FORM}", USAGE)
    flat = [x if takes.by_id else float(x) for row in rows for x in row]
    return request(
        model,
        [Tensor(name=takes.input, datatype=takes.datatype, shape=(len(rows), len(rows[0])), data=flat)],
    )


FILE_FORM = (
    'allowed: {"inputs": [{"name": "…", "datatype": "FP32", "shape": [1, 64], "data": […]}]}, a list of numbers '
    "(one row), or a list of such rows"
)


def _tensor(plain: Mapping[str, Any]) -> Tensor:
    datatype = str(plain["datatype"])
    if datatype != "BYTES" and datatype not in FORMATS:
        raise ValueError(f"datatype {datatype}; allowed: BYTES, {', '.join(FORMATS)}")
    data = _flat(plain["data"])
    shape = tuple(int(n) for n in plain["shape"])
    size = 1
    for n in shape:
        size *= n
    if size != len(data):
        raise ValueError(f"{len(data)} values do not fill shape {list(shape)}")
    return Tensor(name=str(plain["name"]), datatype=datatype, shape=shape, data=data)


def _flat(data: Any) -> list[Any]:
    return [x for part in data for x in _flat(part)] if isinstance(data, list) else [data]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One row of an answer."""

    entity: str | None
    label: int | None
    probabilities: tuple[float, ...]
    truth: int | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "id": self.entity,
            "label": self.label,
            "truth": self.truth,
            "probabilities": [round(p, 6) for p in self.probabilities],
        }


def predict(where: Target, protocol: str, model: str, asked: Request) -> Outputs:
    from cli.senders import ask_once

    try:
        return asyncio.run(ask_once(protocol, where.url(protocol), model, asked))
    except BadAnswerError as e:
        raise CliError(f"{model} over {protocol}: {e}") from None


def rows(outputs: Outputs, entities: Sequence[str | None], truths: Sequence[int | None]) -> list[Prediction]:
    """An answer with `label` and `probabilities`, cut into its rows."""
    labels, probabilities = outputs.get("label"), outputs.get("probabilities")
    count = len(entities)
    width = len(probabilities.data) // count if probabilities is not None else 0
    return [
        Prediction(
            entity=entity,
            label=None if labels is None else int(labels.data[i]),
            probabilities=() if probabilities is None else tuple(probabilities.data[i * width : (i + 1) * width]),
            truth=truth,
        )
        for i, (entity, truth) in enumerate(zip(entities, truths, strict=True))
    ]
