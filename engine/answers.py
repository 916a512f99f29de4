"""What a provider answers, read from the wire: differences, things found, failures with what they left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import status_pb2

from engine import values as v
from engine.rows import Row
from engine.values import Props


@dataclass(frozen=True, kw_only=True)
class Partial:
    """The thing was made, and is not as it should be."""

    id: str
    outputs: Props
    inputs: Props | None
    reasons: list[str]


class ProviderError(Exception):
    def __init__(self, message: str, partial: Partial | None = None) -> None:
        super().__init__(message)
        self.partial = partial


@dataclass(frozen=True, kw_only=True)
class Diff:
    changes: bool
    keys: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    detailed: tuple[str, ...] = ()
    delete_first: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    id: str
    inputs: Props | None
    outputs: Props
    reasons: tuple[str, ...] = ()


class Server(Protocol):
    """What answers for a resource: a plugin, or the engine itself for provider resources."""

    def check(self, urn: str, olds: Props | None, news: Props) -> tuple[Props, list[str]]: ...
    def diff(self, row: Row, news: Props, ignored: list[str]) -> Diff: ...
    def create(self, row: Row) -> tuple[str, Props]: ...
    def update(self, row: Row, old: Row, ignored: list[str]) -> Props: ...
    def delete(self, row: Row) -> None: ...
    def read(self, row: Row, id_: str, inputs: Props, state: Props) -> Found | None: ...


def read_diff(reply: p.DiffResponse, olds: Props, news: Props) -> Diff:
    if reply.changes == p.DiffResponse.DIFF_UNKNOWN:
        return own_diff(olds, news)
    return Diff(
        changes=reply.changes == p.DiffResponse.DIFF_SOME,
        keys=tuple(reply.diffs),
        replaces=tuple(reply.replaces),
        detailed=tuple(reply.detailedDiff),
        delete_first=reply.deleteBeforeReplace,
    )


def own_diff(olds: Props, news: Props) -> Diff:
    keys = tuple(sorted(k for k in {*olds, *news} if v.plain(olds.get(k)) != v.plain(news.get(k))))
    return Diff(changes=bool(keys), keys=keys)


def read_error(e: grpc.RpcError) -> ProviderError:
    """`ErrorResourceInitFailed` travels in the trailing metadata."""
    message = e.details() or str(e.code())
    trailing = cast(Iterable[tuple[str, bytes]], e.trailing_metadata() or ())
    for key, raw in trailing:
        if key == "grpc-status-details-bin":
            status = status_pb2.Status()
            failed = p.ErrorResourceInitFailed()
            try:
                status.ParseFromString(raw)
                packed = any(detail.Unpack(failed) for detail in status.details)
            except DecodeError:
                return ProviderError(message)
            if packed:
                inputs = v.from_struct(failed.inputs) if failed.HasField("inputs") else None
                partial = Partial(
                    id=failed.id, outputs=v.from_struct(failed.properties), inputs=inputs, reasons=list(failed.reasons)
                )
                return ProviderError(message, partial)
    return ProviderError(message)
