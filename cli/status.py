"""What of a stack runs, answers and differs, gathered for `slipway status`."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from cli import plans
from cli.engines.base import pending
from cli.errors import CliError
from cli.session import Session

TIMEOUT_S = 3.0


@dataclass(frozen=True, kw_only=True)
class ProcessRow:
    name: str
    pid: int | None
    state: str
    ports: Mapping[str, int]
    up_s: float | None
    rss_mib: int | None
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.state == "running" and not self.problem


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something asked, and the fault if it did not answer as it should."""

    name: str
    where: str
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    stack: str
    engine: str
    up: bool
    plan: str
    generation: str
    processes: tuple[ProcessRow, ...]
    checks: tuple[Check, ...]
    redis_keys: int | None
    drift: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        return (
            self.up and not self.drift and all(p.ok for p in self.processes) and not any(c.fault for c in self.checks)
        )

    def to_json(self) -> dict[str, object]:
        return {"healthy": self.healthy, **asdict(self)}


def gather(session: Session) -> Status:
    deployment = session.engine.export(session.stack)
    outputs = session.outputs()
    recorded = plans.recorded(outputs)
    local = recorded is None or recorded.spec.cloud == "local"
    processes = _processes(session) if local else []
    redis_keys, store_fault = _redis(outputs) if local else (None, "")
    checks = [*_entries(outputs), *_models(outputs)] if local and outputs else []
    interrupted = [(op["type"], op["resource"]["urn"].rpartition("::")[2]) for op in pending(deployment)]
    drift = [f"{what} of {name} was interrupted: slipway settle {session.stack}" for what, name in interrupted]
    drift += _wanted(session, outputs) + ([store_fault] if store_fault else [])
    drift += [str(outputs["standing"])] if outputs.get("standing") else []
    return Status(
        stack=session.stack,
        engine=session.engine.name,
        up=bool(outputs),
        plan="" if recorded is None else plans.summary(recorded),
        generation=str(outputs.get("generation", "")),
        processes=tuple(processes),
        checks=tuple(checks),
        redis_keys=redis_keys,
        drift=tuple(drift),
    )


def _processes(session: Session) -> list[ProcessRow]:
    from infra.clouds.local import inspect

    found = inspect.processes(session.project.place(session.stack), probe=True)
    named = {p.pid for p in found if p.pid is not None}
    rows = []
    for p in found:
        up_s, rss_mib = _figures(p.pid, named)
        rows.append(
            ProcessRow(
                name=p.name, pid=p.pid, state=p.state, ports=p.ports, up_s=up_s, rss_mib=rss_mib, problem=p.problem
            )
        )
    return rows


def _figures(pid: int | None, named: set[int]) -> tuple[float | None, int | None]:
    """Age and memory of a process and its children (Triton's models live there), without those named themselves."""
    import psutil

    if pid is None:
        return None, None
    total, waiting = 0, []
    try:
        top = psutil.Process(pid)
        age = time.time() - top.create_time()
        waiting = [top]
        while waiting:
            process = waiting.pop()
            total += process.memory_info().rss
            waiting += [c for c in process.children() if c.pid not in named]
    except psutil.NoSuchProcess:  # ended while it was looked at
        return None, None
    return round(age, 1), total >> 20


def _entries(outputs: Mapping[str, Any]) -> list[Check]:
    http, target = str(outputs["url_http"]), str(outputs["url_grpc"])
    return [
        Check(name="HTTP entry", where=http, fault=_get(f"{http}/v2/health/ready")),
        Check(name="gRPC entry", where=target, fault=_grpc_ready(target)),
    ]


def _models(outputs: Mapping[str, Any]) -> list[Check]:
    http = str(outputs["url_http"])
    urls = {str(m): f"{http}/v2/models/{quote(str(m), safe='')}/ready" for m in outputs["models"]}
    return [Check(name=f"model {name}", where=url, fault=_get(url)) for name, url in urls.items()]


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as e:
        return f"HTTP {e.code}: {e.read(200).decode(errors='replace').strip()}"
    except OSError as e:
        return str(getattr(e, "reason", e))


def _grpc_ready(target: str) -> str:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    with grpc.insecure_channel(target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ServerReady.future(service_pb2.ServerReadyRequest(), timeout=TIMEOUT_S)
        try:
            ready = call.result().ready
        except grpc.RpcError:
            return f"{call.code().name}: {call.details()}"
    return "" if ready else "not ready"


def _redis(outputs: Mapping[str, Any]) -> tuple[int | None, str]:
    """Keys in the store, or what is wrong with it."""
    if not outputs.get("redis"):
        return None, ""
    import redis

    with redis.Redis.from_url(
        str(outputs["redis"]), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
    ) as client:
        try:
            size = client.dbsize()
        except redis.RedisError as e:
            return None, f"Redis at {outputs['redis']} does not answer: {e}"
    assert isinstance(size, int)
    return size, ""


def _wanted(session: Session, outputs: Mapping[str, Any]) -> list[str]:
    """Where the configuration asks for something else than what the last update recorded."""
    recorded = plans.recorded(outputs)
    if recorded is None:
        return []
    try:
        wanted = plans.plan(session.project, session.stack, {})
    except CliError as e:
        return list(e.problems)
    if wanted.generation == recorded.generation and wanted.replicas == recorded.replicas:
        return []
    return [f"the configuration asks for another plan ({plans.summary(wanted)}): slipway up {session.stack}"]
