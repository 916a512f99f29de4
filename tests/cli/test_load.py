"""The load generator against servers whose failures are known: it must count exactly those, and cheaply."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from aiohttp import web
from tritonclient.grpc import service_pb2

from cli.errors import USAGE, CliError
from cli.load import LoadPlan, Report, percentile, run
from cli.wire import GRPC_METHOD, Request, Tensor, request

INPUT = Tensor(name="x", datatype="FP32", shape=(1, 2), data=[1.0, 2.0])
EXPECTED = {
    "label": Tensor(name="label", datatype="INT64", shape=(1, 1), data=[3]),
    "p": Tensor(name="p", datatype="FP32", shape=(1, 2), data=[0.25, 0.75]),
}
REQUESTS = [request("m", [INPUT], EXPECTED)]
Handler = Callable[[int, web.Request], Awaitable[web.StreamResponse]]


def answer(label: int = 3) -> dict[str, object]:
    return {
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [1, 1], "data": [label]},
            {"name": "p", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.7504]},
        ]
    }


@asynccontextmanager
async def http_server(handler: Handler) -> AsyncIterator[str]:
    seen = 0

    async def handle(asked: web.Request) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        assert json.loads(await asked.text())["inputs"][0]["data"] == [1.0, 2.0]
        return await handler(seen, asked)

    app = web.Application()
    app.router.add_post("/v2/models/m/infer", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def grpc_server(fail_every: int) -> AsyncIterator[str]:
    seen = 0

    async def infer(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        nonlocal seen
        seen += 1
        asked = service_pb2.ModelInferRequest.FromString(body)
        assert struct.unpack("<2f", asked.raw_input_contents[0]) == (1.0, 2.0)
        if fail_every and seen % fail_every == 0:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no server is ready")
        reply = service_pb2.ModelInferResponse(model_name="m")
        reply.outputs.add(name="label", datatype="INT64", shape=[1, 1])
        reply.outputs.add(name="p", datatype="FP32", shape=[1, 2])
        reply.raw_output_contents.extend([struct.pack("<q", 3), struct.pack("<2f", 0.25, 0.75)])
        return bytes(reply.SerializeToString())

    server = grpc.aio.server()
    _, service, method = GRPC_METHOD.split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(infer)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0.1)


async def good(_: int, __: web.Request) -> web.StreamResponse:
    return web.json_response(answer())


def load(plan: LoadPlan, handler: Handler, requests: list[Request] | None = None) -> Report:
    async def main() -> Report:
        async with http_server(handler) as url:
            return await run(plan, {"http": url}, "m", requests or REQUESTS)

    return asyncio.run(main())


def test_right_answers_over_both_protocols_on_one_connection_a_client() -> None:
    """Nothing fails, and each HTTP client connects once: connections stay open."""

    async def main() -> Report:
        async with http_server(good) as http, grpc_server(0) as target:
            plan = LoadPlan(seconds=0.5, clients=4)
            return await run(plan, {"http": http, "grpc": target}, "m", REQUESTS)

    report = asyncio.run(main())
    assert report.failed == 0
    assert report.tallies["http"].connections == 4
    for tally in report.tallies.values():
        assert tally.sent > 20
        assert len(tally.latencies_s) == tally.sent


def close(asked: web.Request) -> None:
    assert asked.transport is not None
    asked.transport.close()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("status", "HTTP 503: busy"),
        ("label", "wrong answer: label is [4] instead of [3]"),
        ("body", "not an answer of the V2 protocol"),
        ("broken", "ServerDisconnectedError"),
        ("slow", "no answer within 0.3 s"),
    ],
)
def test_each_kind_of_fault_is_one_failure(fault: str, text: str) -> None:
    """Every seventh request goes wrong: exactly those are counted, with what went wrong."""
    bad = 0

    async def handler(seen: int, asked: web.Request) -> web.StreamResponse:
        nonlocal bad
        if seen % 7 or bad >= 5:
            return web.json_response(answer())
        bad += 1
        if fault == "status":
            return web.Response(status=503, text="busy")
        if fault == "label":
            return web.json_response(answer(4))
        if fault == "body":
            return web.Response(text="<html>")
        if fault == "broken":
            close(asked)
        else:
            await asyncio.sleep(1)
        return web.json_response(answer())

    report = load(LoadPlan(seconds=1.2, clients=3, timeout_s=0.3), handler)
    tally = report.tallies["http"]
    assert bad > 0
    assert report.failed == bad
    assert len(tally.latencies_s) == tally.sent - bad
    assert all(text in error for error in tally.failures)
    assert report.to_json()["failed"] == bad


def test_a_grpc_status_is_a_failure() -> None:
    async def main() -> Report:
        async with grpc_server(10) as target:
            return await run(LoadPlan(seconds=0.5, clients=2), {"grpc": target}, "m", REQUESTS)

    tally = asyncio.run(main()).tallies["grpc"]
    assert tally.failed == tally.sent // 10
    assert list(tally.failures) == ["UNAVAILABLE: no server is ready"]


def test_nobody_listens() -> None:
    """A refused connection is a failure a request, and no busy loop."""

    async def main() -> Report:
        async with http_server(good) as url:
            pass
        return await run(LoadPlan(seconds=0.4, clients=2), {"http": url}, "m", REQUESTS)

    report = asyncio.run(main())
    assert 2 <= report.failed == report.count <= 60


def test_a_rate_keeps_its_schedule_through_a_stall() -> None:
    """The server stops for 0.4 s: as many requests are sent as without, and their latency counts from the schedule."""
    started = time.monotonic()

    async def handler(_: int, __: web.Request) -> web.StreamResponse:
        at = time.monotonic() - started
        if 0.4 < at < 0.8:
            await asyncio.sleep(0.8 - at)
        return web.json_response(answer())

    report = load(LoadPlan(seconds=1.2, clients=1, rate=50), handler)
    assert (report.count, report.failed) == (60, 0)
    slow = [x for x in report.tallies["http"].latencies_s if x > 0.1]
    assert len(slow) > 5  # a generator that waits for its answer first would see one slow request


def test_what_was_scheduled_and_never_sent_is_a_failure() -> None:
    async def handler(_: int, __: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.25)
        return web.json_response(answer())

    report = load(LoadPlan(seconds=0.3, clients=1, rate=100, timeout_s=0.5), handler)
    assert report.count == 30
    assert report.failed == report.tallies["http"].failures["not sent: all 1 connections were busy"] > 20


def test_bounds_are_refused_together() -> None:
    with pytest.raises(CliError) as e:
        LoadPlan(seconds=1e6, clients=0, rate=-1)
    assert e.value.code == USAGE
    assert [p.split(":")[0] for p in e.value.problems] == ["--seconds", "--clients", "--rate"]


@pytest.mark.parametrize(("q", "expected"), [(50, 50.0), (90, 90.0), (99, 99.0)])
def test_percentiles_are_of_nearest_rank(q: int, expected: float) -> None:
    assert percentile([i / 1000 for i in range(1, 101)], q) == expected
    assert percentile([], q) is None
