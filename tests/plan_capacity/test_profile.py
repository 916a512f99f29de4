"""`slipway profile`: the fitted line, its robustness, and the statistics it reads, from a server that speaks HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cli.errors import CliError
from cli.profile import Server, Timing, fit, keep, measure, sizes_to


def timings(base: float, item: float, disturbed: int | None = None) -> list[Timing]:
    return [
        Timing(
            batch=b, groups_ms=tuple((base + item * b) * (1.8 if b == disturbed else 1.0) * x for x in (0.99, 1, 1.02))
        )
        for b in sizes_to(32)
    ]


@pytest.mark.parametrize(("base", "item"), [(1.1, 0.08), (0.0, 0.5), (20.0, 0.01)])
def test_the_line_is_found(base: float, item: float) -> None:
    """Noise of a percent moves neither part by more than it must."""
    found = fit(timings(base, item))
    assert found.base_ms == pytest.approx(base, rel=0.02, abs=0.01)
    assert found.per_item_ms == pytest.approx(item, rel=0.05)
    assert found.worst < 0.02


def test_a_disturbed_size_does_not_bend_the_line() -> None:
    """One size that another job slowed by 80% moves the largest batch's time by less than 10%."""
    found = fit(timings(2.0, 0.5, disturbed=8))
    assert found.base_ms + 32 * found.per_item_ms == pytest.approx(18.0, rel=0.1)
    assert found.worst > 0.3


def test_sizes_end_with_the_largest() -> None:
    """Powers of two, and the limit where it is none."""
    assert sizes_to(32) == [1, 2, 4, 8, 16, 32]
    assert sizes_to(24) == [1, 2, 4, 8, 16, 24]


class Fake:
    """Counts executions by batch as Triton does; `merges` makes two requests one execution."""

    def __init__(self) -> None:
        self.done: dict[int, int] = {}
        self.merges = False


@pytest.fixture
def fake() -> Iterator[tuple[Fake, str]]:
    state = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def answer(self, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            def took(n: int, ns: int) -> dict[str, int]:
                return {"count": n, "ns": n * ns}

            rows = [
                {
                    "batch_size": b,
                    "compute_input": took(n, 100_000),
                    "compute_infer": took(n, 1_000_000 + 200_000 * b),
                    "compute_output": took(n, 100_000),
                }
                for b, n in state.done.items()
            ]
            self.answer({"model_stats": [{"batch_stats": rows}]})

        def do_POST(self) -> None:
            batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["rows"]
            state.done[batch] = state.done.get(batch, 0) + (0 if state.merges else 1)
            self.answer({})

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield state, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def bodies() -> dict[int, bytes]:
    return {b: json.dumps({"rows": b}).encode() for b in (1, 2, 4, 8)}


def test_time_is_what_the_server_says_an_instance_was_busy(fake: tuple[Fake, str]) -> None:
    """Input, inference and output of the batches of that size only, not what HTTP took."""
    server = Server(fake[1])
    found = measure(server, "m", bodies(), groups=3, each=2)
    server.connection.close()
    assert [t.median_ms for t in found] == pytest.approx([1.4, 1.6, 2.0, 2.8])
    assert fit(found).base_ms == pytest.approx(1.2, rel=1e-3)


def test_another_client_is_noticed(fake: tuple[Fake, str]) -> None:
    """Batches that are not those that were sent make a profile worthless."""
    fake[0].merges = True
    server = Server(fake[1])
    with pytest.raises(CliError, match="another client"):
        measure(server, "m", bodies(), groups=2, each=10)
    server.connection.close()


TEXT = """# The stack.
config:
  slipway:models:
    - name: other
      profile: {vcpu: {base_ms: 9, per_item_ms: 9}}
    - name: digits  # ours
      profile:
        vcpu: {base_ms: 0.6, per_item_ms: 0.03}  # on one core
  slipway:load: {mean_rps: 200}
"""


@pytest.fixture
def stack_file(tmp_path: Path) -> Path:
    path = tmp_path / "Pulumi.local.yaml"
    path.write_text(TEXT)
    return path


def test_a_quiet_measurement_is_written_and_nothing_else_changes(stack_file: Path) -> None:
    quiet = timings(1.1, 0.08)
    keep(stack_file, "digits", quiet, fit(quiet), {"base_ms": 1.1234, "per_item_ms": 0.08})
    assert stack_file.read_text() == TEXT.replace(
        "base_ms: 0.6, per_item_ms: 0.03", "base_ms: 1.1234, per_item_ms: 0.08"
    )


def test_a_disturbed_measurement_is_not_written(stack_file: Path) -> None:
    busy = timings(2.0, 0.5, disturbed=8)
    with pytest.raises(CliError, match=r"not written.*To fix: stop what else runs"):
        keep(stack_file, "digits", busy, fit(busy), {"base_ms": 2.0, "per_item_ms": 0.5})
    assert stack_file.read_text() == TEXT


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("digits", "third"),
        TEXT.replace("name: other", "name: digits"),
        TEXT.replace("vcpu: {base_ms: 0.6", "l4: {base_ms: 0.6"),
        TEXT.replace("{base_ms: 9, per_item_ms: 9}", "&same {base_ms: 9, per_item_ms: 9}").replace(
            "{base_ms: 0.6, per_item_ms: 0.03}", "*same"
        ),
    ],
    ids=["no such model", "two versions", "another processor", "an anchor"],
)
def test_what_cannot_be_changed_in_place_is_left_to_a_person(stack_file: Path, text: str) -> None:
    stack_file.write_text(text)
    quiet = timings(1.1, 0.08)
    with pytest.raises(CliError, match="To fix: put the printed block there by hand"):
        keep(stack_file, "digits", quiet, fit(quiet), {"base_ms": 1.1, "per_item_ms": 0.08})
    assert stack_file.read_text() == text


def test_the_worked_local_stack_can_be_measured_into(tmp_path: Path) -> None:
    """`slipway profile local --write` finds its place in the file as it is."""
    path = tmp_path / "Pulumi.local.yaml"
    text = (Path(__file__).resolve().parents[2] / "stacks/config/Pulumi.local.yaml").read_text()
    path.write_text(text)
    quiet = timings(1.1, 0.08)
    keep(path, "digits", quiet, fit(quiet), {"base_ms": 12.5, "per_item_ms": 0.75})
    changed = path.read_text()
    assert "profile: {vcpu: {base_ms: 12.5, per_item_ms: 0.75}}" in changed
    assert len(set(text.splitlines()) ^ set(changed.splitlines())) == 2
