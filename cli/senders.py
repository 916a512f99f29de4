"""One client with one connection that stays open, over HTTP or gRPC; whatever is not a right answer raises."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote

import aiohttp
import grpc

from cli.wire import GRPC_METHOD, BadAnswerError, Outputs, Request, difference, from_json, from_proto

CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, not one shared by all clients
    ("grpc.enable_retries", 0),  # a retry would hide a failure
    ("grpc.max_receive_message_length", 64 << 20),
)


class Sender(Protocol):
    """A client; `connections` counts how often it connected."""

    @property
    def connections(self) -> int | None: ...
    async def ask(self, request: Request) -> Outputs: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class HttpSender:
    def __init__(self, url: str, model: str, timeout_s: float) -> None:
        self.url = f"{url.rstrip('/')}/v2/models/{quote(model, safe='')}/infer"
        self.connections: int | None = 0
        self.timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._connected)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=3600),
            timeout=aiohttp.ClientTimeout(total=self.timeout_s),
            headers={"Content-Type": "application/json"},
            trace_configs=[trace],
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def _connected(self, *_: object) -> None:
        self.connections = (self.connections or 0) + 1

    async def ask(self, request: Request) -> Outputs:
        try:
            async with self.session.post(self.url, data=request.http) as response:
                body = await response.read()
                status = response.status
        except TimeoutError:
            raise BadAnswerError(f"no answer within {self.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as e:
            raise BadAnswerError(f"{type(e).__name__}: {e}" if str(e) else type(e).__name__) from None
        if status != 200:
            raise BadAnswerError(f"HTTP {status}: {body[:200].decode(errors='replace').strip()}")
        return checked(request, from_json(body))


class GrpcSender:
    def __init__(self, target: str, model: str, timeout_s: float) -> None:
        self.target, self.timeout_s = target, timeout_s
        self.connections: int | None = None  # gRPC does not tell

    async def __aenter__(self) -> Self:
        self.channel = grpc.aio.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        self.call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(
            GRPC_METHOD, request_serializer=None, response_deserializer=None
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close(None)

    async def ask(self, request: Request) -> Outputs:
        try:
            body = await self.call(request.grpc, timeout=self.timeout_s)
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise BadAnswerError(f"no answer within {self.timeout_s:g} s") from None
            raise BadAnswerError(f"{e.code().name}: {e.details()}") from None
        return checked(request, from_proto(body))


def checked(request: Request, outputs: Outputs) -> Outputs:
    wrong = None if request.expected is None else difference(request.expected, outputs)
    if wrong:
        raise BadAnswerError(f"wrong answer: {wrong}")
    return outputs


def sender(protocol: str, url: str, model: str, timeout_s: float) -> Sender:
    return HttpSender(url, model, timeout_s) if protocol == "http" else GrpcSender(url, model, timeout_s)


async def ask_once(protocol: str, url: str, model: str, request: Request, timeout_s: float = 30.0) -> Outputs:
    """A single prediction over a connection of its own."""
    async with sender(protocol, url, model, timeout_s) as client:
        return await asyncio.wait_for(client.ask(request), timeout_s + 5)
