"""`slipway profile`: measures how long batches of a model take on a running local Triton."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

import typer

from cli.errors import FAILED, USAGE, CliError
from cli.session import JSON, STACK, begin, print_json
from cli.wire import to_json

if TYPE_CHECKING:
    from cli.predict import Samples, Signature

DISTURBED = 0.15  # a larger distance or spread is other work on the machine, not the model
PARTS = ("compute_input", "compute_infer", "compute_output")  # what an instance is busy with, of Triton's statistics


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One batch size: milliseconds a batch in each group of requests."""

    batch: int
    groups_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.groups_ms)

    @property
    def spread(self) -> float:
        """Half the range of the middle half of the groups, as a part of the median."""
        low, _, high = statistics.quantiles(self.groups_ms, n=4)
        return (high - low) / 2.0 / self.median_ms


@dataclass(frozen=True, kw_only=True)
class Fit:
    """tau(b) = per_item_ms * b + base_ms; `worst` is the largest relative distance of a median from the line."""

    base_ms: float
    per_item_ms: float
    worst: float


class Server:
    """One Triton over one kept connection."""

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        host = urlsplit(url)
        self.url = url
        self.connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=timeout_s)

    def ask(self, path: str, body: bytes | None = None) -> Any:
        try:
            self.connection.request("GET" if body is None else "POST", path, body)
            response = self.connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as e:
            raise CliError(f"{self.url}{path}: no answer ({type(e).__name__}: {e})", FAILED) from None
        if response.status != 200:
            raise CliError(
                f"{self.url}{path}: HTTP {response.status}: {content[:300].decode(errors='replace')}", FAILED
            )
        return json.loads(content)

    def busy_ns(self, model: str, batch: int) -> tuple[int, int]:
        """Executions of this batch size so far, and the nanoseconds that instances were busy with them."""
        (stats,) = self.ask(f"/v2/models/{quote(model, safe='')}/stats")["model_stats"]
        for row in stats.get("batch_stats", []):
            if int(row["batch_size"]) == batch:
                return int(row["compute_infer"]["count"]), sum(int(row[part]["ns"]) for part in PARTS)
        return 0, 0

    def settled(self, model: str, batch: int, count: int) -> tuple[int, int]:
        """As `busy_ns`, once it counts this many: Triton counts a request a little after it has answered."""
        end = time.monotonic() + 0.2
        while (found := self.busy_ns(model, batch))[0] < count and time.monotonic() < end:
            time.sleep(0.02)
        return found

    def max_batch(self, model: str) -> int:
        return int(self.ask(f"/v2/models/{quote(model, safe='')}/config").get("max_batch_size", 0))


def measure(server: Server, model: str, bodies: Mapping[int, bytes], groups: int, each: int) -> list[Timing]:
    """Groups of requests, one at a time, each a whole batch; sizes take turns, so that drift meets all of them."""
    path = f"/v2/models/{quote(model, safe='')}/infer"
    found: dict[int, list[float]] = {batch: [] for batch in bodies}
    for turn in range(groups + 1):
        for batch, body in bodies.items():
            before = server.busy_ns(model, batch)
            for _ in range(each):
                server.ask(path, body)
            after = server.settled(model, batch, before[0] + each)
            done = after[0] - before[0]
            # Health checks predict as well: a few of this size more, or fewer where one shared a batch with ours.
            if not 0.7 * each - 2 <= done <= 1.5 * each + 2:
                raise CliError(
                    f"{server.url}: {done} batches of {batch} instead of {each}: another client uses {model}. "
                    "To fix: profile a stack without load",
                    FAILED,
                )
            if turn:  # the first round warms up
                found[batch].append((after[1] - before[1]) / done / 1e6)
    return [Timing(batch=b, groups_ms=tuple(rows)) for b, rows in found.items()]


def fit(timings: Sequence[Timing]) -> Fit:
    """Least squares of the relative distances, robust to a size that was disturbed; neither part below 0."""
    import numpy as np
    from scipy.optimize import least_squares

    sizes = np.array([t.batch for t in timings], dtype=float)
    medians = np.array([t.median_ms for t in timings])

    def distances(line: Any) -> Any:
        return (line[0] + line[1] * sizes) / medians - 1.0

    start = [max(medians[0] * 0.5, 1e-6), max((medians[-1] - medians[0]) / max(sizes[-1] - sizes[0], 1.0), 1e-6)]
    found = least_squares(distances, start, bounds=(0.0, np.inf), loss="soft_l1", f_scale=0.05, x_scale=start)
    base, item = (float(x) for x in found.x)
    return Fit(base_ms=base, per_item_ms=item, worst=float(np.max(np.abs(distances(found.x)))))


def sizes_to(max_batch: int) -> list[int]:
    """1, 2, 4, … and `max_batch` itself."""
    return sorted({2**k for k in range(max_batch.bit_length())} | {max_batch})


def bodies(model: Signature, known: Samples | None, sizes: Sequence[int]) -> dict[int, bytes]:
    """A request for each size, of the stack's samples where there are any, else of zeros."""
    from cli.predict import tensor
    from cli.wire import FORMATS, Tensor

    if known is not None:
        return {n: to_json([tensor(model, known, [i % len(known.ids) for i in range(n)])]) for n in sizes}
    if model.datatype not in FORMATS or any(n < 1 for n in model.shape[1:]):
        raise CliError(
            f"model {model.model} takes {model.datatype} {list(model.shape)}: no inputs can be made up for it. "
            "To fix: give the stack features.source",
            USAGE,
        )
    width = 1
    for n in model.shape[1:]:
        width *= n
    return {
        n: to_json(
            [Tensor(name=model.input, datatype=model.datatype, shape=(n, *model.shape[1:]), data=[0] * (n * width))]
        )
        for n in sizes
    }


def server_url(project: Path, stack: str) -> str:
    """A Triton's own port: the entry would spread a measurement over several."""
    from infra.clouds.local import inspect

    for process in inspect.processes(project / ".slipway" / stack):
        if "metrics" in process.ports and process.state == "running":
            return f"http://127.0.0.1:{process.ports['http']}"
    raise CliError(f"stack '{stack}': no Triton runs on this machine. To fix: slipway up {stack}", FAILED)


def profile_command(
    context: typer.Context,
    stack: STACK,
    model: Annotated[str | None, typer.Option(help="Which model; by default the stack's first.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Largest batch; by default the served model's.")] = None,
    groups: Annotated[int, typer.Option(help="Groups of requests of each size; at least 2.")] = 8,
    each: Annotated[int, typer.Option(help="Requests in a group.")] = 25,
    write: Annotated[
        bool,
        typer.Option("--write", help="Put it into the stack's configuration, unless the measurement was disturbed."),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Measure a model's time a batch on the running local stack, and print the profile block for its configuration."""
    from cli import predict as predicting

    if groups < 2 or each < 1:
        raise CliError(f"--groups {groups} --each {each}: allowed: at least 2 and at least 1", USAGE)
    session = begin(context, stack, as_json=as_json)
    where = predicting.target(stack, session.outputs(), session.project.folder)
    name = predicting.choose_model(where, model or where.models[0])
    server = Server(server_url(session.project.folder, stack))
    most = server.max_batch(name)
    limit = max_batch if max_batch is not None else most
    if not 2 <= limit <= most:
        raise CliError(f"--max-batch {limit}: allowed: 2 to {most}, what {name} is served with", USAGE)
    asked = bodies(predicting.signature(where, name), predicting.samples(where), sizes_to(limit))
    session.say(f"{name}: {groups} groups of {each} requests for each of the sizes {', '.join(map(str, asked))}")
    timings = measure(server, name, asked, groups, each)
    line = fit(timings)
    block = {"vcpu": {"base_ms": round(line.base_ms, 4), "per_item_ms": round(line.per_item_ms, 5)}}
    if as_json:
        rows = [{"batch": t.batch, "median_ms": t.median_ms, "spread": t.spread} for t in timings]
        print_json({"model": name, "profile": block, "worst": line.worst, "measured": rows})
    else:
        _tell(name, timings, line, block)
    if write:
        keep(session.project.config_file(stack), name, timings, line, block["vcpu"])
        session.say(f"written to {session.project.config_file(stack)}; the next `slipway up {stack}` plans with it")


def keep(path: Path, model: str, timings: Sequence[Timing], line: Fit, numbers: Mapping[str, float]) -> None:
    """Writes the profile, unless other work on this machine is what was measured."""
    from cli.configfile import write_text
    from cli.profilefile import with_profile

    spread = max(t.spread for t in timings)
    if max(spread, line.worst) > DISTURBED:
        raise CliError(
            f"not written: sizes are up to {100 * line.worst:.0f}% off the line and repeats {100 * spread:.0f}% apart; "
            f"allowed: {100 * DISTURBED:.0f}%. To fix: stop what else runs on this machine and measure again",
            FAILED,
        )
    write_text(path, with_profile(path.read_text(), model, "vcpu", numbers))


def _tell(name: str, timings: Sequence[Timing], line: Fit, block: Mapping[str, object]) -> None:
    print(f"{'batch':>6}{'ms':>10}{'spread':>9}{'line ms':>10}")
    for t in timings:
        said = line.base_ms + line.per_item_ms * t.batch
        print(f"{t.batch:>6}{t.median_ms:>10.3f}{100 * t.spread:>8.1f}%{said:>10.3f}")
    print(f"The line is within {100 * line.worst:.1f}% of every median. In slipway:models, of {name}:")
    print(f"  profile: {json.dumps(block).replace(chr(34), '')}")
