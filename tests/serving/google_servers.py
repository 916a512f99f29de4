"""In-process servers that speak the gRPC interfaces of Bigtable and Firestore, from their published stubs.

As much of both as look-ups need, and nothing is answered that was not asked properly: a filter, a family or a key that
the real service refuses is refused. `trouble` makes a server slow, or throttle a number of requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

import grpc
from google.cloud.bigtable_v2.types import bigtable, data
from google.cloud.firestore_v1 import types as firestore
from google.rpc import status_pb2


@dataclass
class Trouble:
    """What goes wrong next."""

    hang: threading.Event = field(default_factory=threading.Event)
    throttle: int = 0  # so many requests are refused
    partly: int = 0  # of so many writes of rows every second row is refused

    def meet(self, context: grpc.ServicerContext) -> None:
        while self.hang.is_set() and context.is_active():
            threading.Event().wait(0.01)
        if self.throttle > 0:
            self.throttle -= 1
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota exceeded")


def refuse(context: grpc.ServicerContext, text: str) -> NoReturn:
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
    raise AssertionError


class Bigtable:
    """Cells by row, family and qualifier, each with its time stamps; families as declared."""

    service = "google.bigtable.v2.Bigtable"

    def __init__(self, trouble: Trouble, table: str, family: str) -> None:
        self.trouble, self.table, self.family = trouble, table, family
        self.rows: dict[bytes, dict[bytes, dict[int, bytes]]] = {}

    def read_rows(
        self, request: bigtable.ReadRowsRequest, context: grpc.ServicerContext
    ) -> Iterator[bigtable.ReadRowsResponse]:
        self.trouble.meet(context)
        self._is_ours(request.table_name, context)
        chunks = []
        for key in self._asked(request):
            cells = [
                (self.family, qualifier, stamp, value)
                for qualifier, versions in self.rows.get(key, {}).items()
                for stamp, value in sorted(versions.items(), reverse=True)
            ]
            kept = self._filtered(cells, request.filter, context)
            for i, (family, qualifier, stamp, value) in enumerate(kept):
                chunks.append(
                    bigtable.ReadRowsResponse.CellChunk(
                        row_key=key if i == 0 else b"",
                        family_name=family,
                        qualifier=qualifier,
                        timestamp_micros=stamp,
                        value=value,
                        commit_row=i == len(kept) - 1,
                    )
                )
        for start in range(0, len(chunks), 100):
            yield bigtable.ReadRowsResponse(chunks=chunks[start : start + 100])

    def _asked(self, request: bigtable.ReadRowsRequest) -> list[bytes]:
        """Keys by name, and those within ranges, in their order and up to the limit."""
        found = {key for key in request.rows.row_keys if key in self.rows}
        for one in request.rows.row_ranges:
            found |= {k for k in self.rows if k >= one.start_key_closed and k > one.start_key_open}
        if not request.rows.row_keys and not request.rows.row_ranges:
            found = set(self.rows)
        return sorted(found)[: request.rows_limit or None]

    def _filtered(self, cells: list[Any], asked: data.RowFilter, context: grpc.ServicerContext) -> list[Any]:
        kind = data.RowFilter.pb(asked).WhichOneof("filter")
        if kind is None:
            return cells
        if kind == "chain":
            for one in asked.chain.filters:
                cells = self._filtered(cells, one, context)
            return cells
        if kind == "family_name_regex_filter":
            return [c for c in cells if c[0] == asked.family_name_regex_filter]
        if kind == "cells_per_column_limit_filter":
            seen: dict[tuple[str, bytes], int] = {}
            kept = []
            for c in cells:
                seen[c[:2]] = seen.get(c[:2], 0) + 1
                if seen[c[:2]] <= asked.cells_per_column_limit_filter:
                    kept.append(c)
            return kept
        if kind == "timestamp_range_filter":
            limits = asked.timestamp_range_filter
            until = limits.end_timestamp_micros or 2**63
            return [c for c in cells if limits.start_timestamp_micros <= c[2] < until]
        refuse(context, f"no filter {kind} here")

    def mutate_rows(
        self, request: bigtable.MutateRowsRequest, context: grpc.ServicerContext
    ) -> Iterator[bigtable.MutateRowsResponse]:
        self.trouble.meet(context)
        self._is_ours(request.table_name, context)
        partly, self.trouble.partly = self.trouble.partly > 0, max(self.trouble.partly - 1, 0)
        entries = []
        for i, entry in enumerate(request.entries):
            status = status_pb2.Status()
            if partly and i % 2:
                status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="quota exceeded")
            else:
                self._put(entry, context)
            entries.append(bigtable.MutateRowsResponse.Entry(index=i, status=status))
        yield bigtable.MutateRowsResponse(entries=entries)

    def _put(self, entry: bigtable.MutateRowsRequest.Entry, context: grpc.ServicerContext) -> None:
        if not entry.row_key or len(entry.row_key) > 4096:
            refuse(context, "a row key has 1 to 4096 bytes")
        for mutation in entry.mutations:
            cell = mutation.set_cell
            if cell.family_name != self.family:
                refuse(context, f"unknown family {cell.family_name}")
            if cell.timestamp_micros % 1000:
                refuse(context, "time stamps are of whole milliseconds")
            self.rows.setdefault(entry.row_key, {}).setdefault(cell.column_qualifier, {})[cell.timestamp_micros] = (
                cell.value
            )

    def _is_ours(self, name: str, context: grpc.ServicerContext) -> None:
        if name != self.table:
            context.abort(grpc.StatusCode.NOT_FOUND, f"table {name} not found")

    def ping_and_warm(self, request: Any, context: grpc.ServicerContext) -> bigtable.PingAndWarmResponse:
        return bigtable.PingAndWarmResponse()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "ReadRows": _stream(self.read_rows, bigtable.ReadRowsRequest, bigtable.ReadRowsResponse),
            "MutateRows": _stream(self.mutate_rows, bigtable.MutateRowsRequest, bigtable.MutateRowsResponse),
            "PingAndWarm": _unary(self.ping_and_warm, bigtable.PingAndWarmRequest, bigtable.PingAndWarmResponse),
        }


class Firestore:
    """Documents by their full name."""

    service = "google.firestore.v1.Firestore"

    def __init__(self, trouble: Trouble, database: str) -> None:
        self.trouble, self.database = trouble, database
        self.documents: dict[str, firestore.Document] = {}

    def batch_get(
        self, request: firestore.BatchGetDocumentsRequest, context: grpc.ServicerContext
    ) -> Iterator[firestore.BatchGetDocumentsResponse]:
        self.trouble.meet(context)
        self._is_ours(request.database, context)
        now = datetime.now(UTC)
        for name in request.documents:
            found = self.documents.get(name)
            if found is None:
                yield firestore.BatchGetDocumentsResponse(missing=name, read_time=now)
            else:
                yield firestore.BatchGetDocumentsResponse(found=found, read_time=now)

    def commit(self, request: firestore.CommitRequest, context: grpc.ServicerContext) -> firestore.CommitResponse:
        self.trouble.meet(context)
        self._is_ours(request.database, context)
        now = datetime.now(UTC)
        for write in request.writes:
            where, _, identity = write.update.name.rpartition("/")
            if not where.startswith(f"{self.database}/documents/") or not 0 < len(identity.encode()) <= 1500:
                refuse(context, f"bad document name {write.update.name}")
            self.documents[write.update.name] = firestore.Document(
                name=write.update.name, fields=write.update.fields, create_time=now, update_time=now
            )
        results = [firestore.WriteResult(update_time=now) for _ in request.writes]
        return firestore.CommitResponse(write_results=results, commit_time=now)

    def _is_ours(self, name: str, context: grpc.ServicerContext) -> None:
        if name != self.database:
            context.abort(grpc.StatusCode.NOT_FOUND, f"database {name} not found")

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        get = (firestore.BatchGetDocumentsRequest, firestore.BatchGetDocumentsResponse)
        return {
            "BatchGetDocuments": _stream(self.batch_get, *get),
            "Commit": _unary(self.commit, firestore.CommitRequest, firestore.CommitResponse),
        }


def _stream(do: Callable[..., Any], asked: Any, answered: Any) -> grpc.RpcMethodHandler:
    return grpc.unary_stream_rpc_method_handler(do, asked.deserialize, answered.serialize)


def _unary(do: Callable[..., Any], asked: Any, answered: Any) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(do, asked.deserialize, answered.serialize)


def serve(service: Bigtable | Firestore, port: int = 0) -> tuple[grpc.Server, int]:
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.service, service.handlers())])
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound
