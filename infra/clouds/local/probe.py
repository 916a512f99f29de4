"""One real request to a server and a look at the answer: 'ready' that a health URL cannot give."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

DEAD_WORKER = "is not healthy"  # Triton 2.51: "Stub process 'digits_0_0' is not healthy." Never restarted by Triton.
STATISTICS = "stats"  # the statistics extension of the V2 protocol; answered without a wait in the queue


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a probe found. `dead`: the server gives no answer, or says that a part of it has died (`told`)."""

    ok: bool
    dead: bool
    reason: str
    told: bool = False


def ask(port: int, probe: dict[str, object], timeout: float = 5.0) -> Answer:
    """Sends the probe's body to its path and compares the answer with what it expects."""
    name = probe["name"]
    url = f"http://127.0.0.1:{port}{probe['path']}"
    body = probe.get("body")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            text = response.read()
    except urllib.error.HTTPError as e:
        reason = e.read().decode(errors="replace")
        if "error" in probe and 400 <= e.code < 500 and str(probe["error"]) in reason:
            return Answer(ok=True, dead=False, reason="")
        dead = DEAD_WORKER in reason
        return Answer(ok=False, dead=dead, told=dead, reason=f"{name} answered {e.code}: {reason:.300}")
    except (OSError, urllib.error.URLError) as e:
        return Answer(ok=False, dead=True, reason=f"{name} gives no answer: {e}")
    wrong = f"no refusal with '{probe['error']}'" if "error" in probe else difference(text, probe)
    return Answer(ok=not wrong, dead=False, reason=f"{name} answered wrongly: {wrong}" if wrong else "")


def executions(port: int, probe: Mapping[str, object], timeout: float = 2.0) -> int | None:
    """Batches that the probed model has executed so far; None where the server does not tell."""
    path = str(probe["path"]).rsplit("/", 1)[0]  # of /v2/models/NAME/infer
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}/{STATISTICS}", timeout=timeout) as response:
            return sum(int(model["execution_count"]) for model in json.loads(response.read())["model_stats"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def difference(text: bytes, probe: dict[str, object]) -> str:
    """What is wrong with an answer, '' when nothing is."""
    expected = probe.get("outputs")
    if not isinstance(expected, list):
        return ""
    try:
        outputs = {o["name"]: o for o in json.loads(text)["outputs"]}
    except (ValueError, KeyError, TypeError):
        return f"not an inference answer: {text[:200]!r}"
    for wanted in expected:
        found = outputs.get(wanted["name"])
        if found is None:
            return f"output {wanted['name']} is missing; the answer has {', '.join(sorted(outputs)) or 'none'}"
        for field in ("shape", "datatype"):
            if field in wanted and found.get(field) != wanted[field]:
                return f"output {wanted['name']} has {field} {found.get(field)}, expected {wanted[field]}"
        data = found.get("data")
        if not isinstance(data, list):
            return f"output {wanted['name']} has no data"
        if not all(isinstance(x, str | bool) or (isinstance(x, int | float) and math.isfinite(x)) for x in data):
            return f"output {wanted['name']} holds values that are not finite"
        if "data" in wanted and not _close(data, wanted["data"], probe):
            return f"output {wanted['name']} is {data!r:.80}, expected {wanted['data']!r:.80}"
    return ""


def _close(found: list[object], wanted: list[object], probe: Mapping[str, object]) -> bool:
    relative, absolute = (float(str(probe.get(f"{kind}_tolerance", 0))) for kind in ("relative", "absolute"))
    if len(found) != len(wanted):
        return False
    for a, b in zip(found, wanted, strict=True):
        if isinstance(a, int | float) and isinstance(b, int | float):
            if abs(a - b) > absolute + relative * abs(b):
                return False
        elif a != b:
            return False
    return True
