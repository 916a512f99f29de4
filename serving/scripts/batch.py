"""Predicts every line of the input files through the servers and writes the answers: whole shards, each once.

Stands alone beside objects.py, in a stock Python image. An input is a file of one request a line (the server's own JSON
body). A shard is a run of its lines; its answers are one object, in the order of the lines, and a record beside them
says from which input they come: a run that was cut off, or comes again, passes over what is recorded. Many can work at
once: each takes the shards of its number. SLIPWAY_BATCH says: input and output (variables that hold addresses), url,
shard_lines, requests (at once), timeout_s, tries; JOB_COMPLETION_INDEX and workers which shards are whose.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import local
from typing import IO, Any

import objects  # beside this file

BUSY = (429, 500, 502, 503, 504)  # worth another try; every other refusal is of the line itself
PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0


class Unanswered(Exception):  # noqa: N818  -- not the line's fault
    """The servers do not answer: the shard is left to the next try."""


class Servers:
    """Requests over kept connections, one for each thread."""

    def __init__(self, url: str, timeout_s: float, tries: int) -> None:
        self._url, self._timeout_s, self._tries = urllib.parse.urlsplit(url), timeout_s, tries
        self._mine = local()

    def predict(self, line: bytes) -> dict[str, Any]:
        """The answer, or the refusal of this line as {"error": …}."""
        why = ""
        for attempt in range(self._tries):
            if attempt:
                time.sleep(min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (attempt - 1)))
            try:
                status, body = self._ask(line)
            except (OSError, http.client.HTTPException) as e:
                why = f"{type(e).__name__}: {e}"
                self._mine.connection = None
                continue
            if status == 200:
                answer = json.loads(body)
                return answer if isinstance(answer, dict) else {"answer": answer}
            why = f"{status} {body[:300].decode(errors='replace')}"
            if status not in BUSY:
                return {"error": why}
        raise Unanswered(f"after {self._tries} tries: {why}")

    def _ask(self, line: bytes) -> tuple[int, bytes]:
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            assert self._url.hostname is not None
            connection = http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=self._timeout_s)
            self._mine.connection = connection
        connection.request("POST", self._url.path, line, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def shards(file: IO[bytes], lines: int) -> Iterator[tuple[int, list[bytes]]]:
    """Number and lines of each shard; empty lines count, so that numbers are those of the file."""
    for number in itertools.count():
        part = list(itertools.islice(file, lines))
        if not part:
            return
        yield number, part


class Run:
    """One worker's part of the whole."""

    def __init__(self, settings: dict[str, Any], index: int) -> None:
        self._settings, self._index = settings, index
        self._input = objects.bucket(os.environ[settings["input"]])
        self._output = objects.bucket(os.environ[settings["output"]])
        self._servers = Servers(settings["url"], settings["timeout_s"], settings["tries"])
        self.done = self.passed = self.lines = self.refused = 0

    def all(self) -> None:
        position = 0  # over all inputs, so that one large file is shared as many small ones are
        for item in sorted(self._input.list(self._input.prefix), key=lambda i: str(i.key)):
            if not item.key.endswith(".jsonl"):
                continue
            with tempfile.TemporaryFile() as file:
                self._input.read(item.key, file)
                file.seek(0)
                for number, lines in shards(file, self._settings["shard_lines"]):
                    mine = position % self._settings["workers"] == self._index
                    position += 1
                    if mine:
                        self._shard(item, number, lines)

    def _shard(self, item: Any, number: int, lines: list[bytes]) -> None:
        stem = item.key.removeprefix(self._input.prefix).removesuffix(".jsonl")
        answers = f"{self._output.prefix}{stem}/{number:06d}.jsonl"
        record_key = f"{self._output.prefix}_done/{stem}/{number:06d}.json"
        source = {"key": item.key, "version": item.version, "shard_lines": self._settings["shard_lines"]}
        known = self._output.get(record_key)
        if known is not None and json.loads(known)["source"] == source:
            self.passed += 1
            return
        first = number * self._settings["shard_lines"]
        with ThreadPoolExecutor(self._settings["requests"]) as pool:
            found = list(pool.map(self._line, itertools.count(first), lines))
        refused = sum(1 for f in found if "error" in f)
        body = "".join(json.dumps(f, separators=(",", ":")) + "\n" for f in found)
        self._output.put(answers, body.encode())
        record = {"source": source, "lines": len(lines), "refused": refused}
        self._output.put(record_key, json.dumps(record).encode())  # last: without it the shard is not done
        self.done, self.lines, self.refused = self.done + 1, self.lines + len(lines), self.refused + refused
        print(f"{answers}: {len(lines)} lines, {refused} refused", flush=True)

    def _line(self, number: int, line: bytes) -> dict[str, Any]:
        if not line.strip():
            return {"line": number, "error": "empty line"}
        return {"line": number, **self._servers.predict(line)}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))  # a spot machine goes: what is recorded stays
    run = Run(json.loads(os.environ["SLIPWAY_BATCH"]), int(os.environ.get("JOB_COMPLETION_INDEX", "0")))
    began = time.monotonic()
    try:
        run.all()
    except Unanswered as e:
        print(f"the servers do not answer, {e}; what was done is kept", file=sys.stderr, flush=True)
        return 1
    took = time.monotonic() - began
    print(
        f"{run.done} shards with {run.lines} lines in {took:.1f} s, {run.refused} lines refused, "
        f"{run.passed} shards were done before",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
