"""What a person sees of a run: lines where nobody looks live, a table where somebody does."""

from __future__ import annotations

import io
import threading

import pytest

from cli.engines.base import Event
from cli.progress import Progress, counted

URN = "urn:pulumi:s::slipway::slipway:local:{}::{}"


def run(progress: Progress) -> None:
    stack = "urn:pulumi:s::slipway::pulumi:pulumi:Stack::slipway-s"
    with progress as shown:
        shown.hear(Event(kind="start", op="create", urn=stack))
        shown.hear(Event(kind="message", text="add serving [abc]"))
        shown.hear(Event(kind="done", op="same", urn=URN.format("Redis", "redis")))
        shown.hear(Event(kind="start", op="create", urn=URN.format("Envoy", "entry")))
        shown.hear(Event(kind="done", op="create", urn=URN.format("Envoy", "entry")))
        shown.hear(Event(kind="start", op="delete-replaced", urn=URN.format("ModelServer", "server-0")))
        shown.hear(Event(kind="failed", op="delete-replaced", urn=URN.format("ModelServer", "server-0"), text="no"))
        shown.hear(Event(kind="message", text="why it failed", severity="error"))
        shown.hear(Event(kind="message", text="look", severity="warning"))


def test_lines_where_there_is_no_terminal() -> None:
    """A line for each thing that happened to a resource; what stayed as it is and the engine's own are not lines."""
    stream = io.StringIO()
    run(Progress(stream))
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["add", "done", "FAILED", "warning:"]
    assert lines[0] == "add serving [abc]"
    assert lines[1].split()[1:] == ["create", "0.0", "s", "slipway:local:Envoy", "entry"]
    assert "replace: delete old" in lines[2]


def test_the_table_of_a_terminal() -> None:
    stream = io.StringIO()
    run(Progress(stream, live=True, doing="up s"))
    text = stream.getvalue()
    assert "add serving [abc]" in text
    last = text[text.rindex("up s") :]
    assert "2 steps, 0 running, 1 unchanged" in last
    for word in ("Envoy", "entry", "done", "FAILED", "server-0"):
        assert word in last


def test_many_steps_from_many_threads() -> None:
    """No event is lost, and the table stays shorter than a screen."""
    stream = io.StringIO()

    def work(thread: int) -> None:
        for n in range(50):
            urn = URN.format("ModelServer", f"server-{thread}-{n}")
            shown.hear(Event(kind="start", op="create", urn=urn))
            shown.hear(Event(kind="done", op="create", urn=urn))

    with Progress(stream, live=True, doing="up s") as shown:
        threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    last = stream.getvalue()[stream.getvalue().rindex("up s") :]
    assert "200 steps, 0 running" in last
    assert "… 182 more" in last
    assert last.count("server-") == 18


@pytest.mark.parametrize(
    ("changes", "preview", "text"),
    [
        ({}, False, "nothing to do"),
        ({"same": 2, "create": 3, "odd": 1}, False, "3 created, 2 unchanged, 1 odd"),
        ({"delete": 1, "update": 0, "same": 4}, True, "1 to delete, 4 unchanged"),
    ],
)
def test_the_count(changes: dict[str, int], preview: bool, text: str) -> None:
    assert counted(changes, preview) == text
