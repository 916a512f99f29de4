"""The local cloud's side of a blueprint: ground, servers and entry of one stack, from plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pulumi

from infra.clouds.local.resources import Endpoints, Envoy, ModelRepository, ModelServer, Provider, Supervisor
from infra.plan import Plan

CLUSTERS = ("http", "grpc")


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The fixed ports of a stack, from its first one; the model servers' follow from +10 on (slots.py)."""

    http: int
    grpc: int
    redis: int
    admin: int

    @classmethod
    def of(cls, base: int) -> Ports:
        return cls(http=base, grpc=base + 1, redis=base + 2, admin=base + 9)


class ServerProcess(Protocol):
    """What a model server's renderer gives (serving/process.py)."""

    @property
    def command(self) -> list[str]: ...
    @property
    def env(self) -> dict[str, str]: ...
    @property
    def files(self) -> dict[str, dict[str, str]]: ...
    @property
    def probes(self) -> list[dict[str, object]]: ...
    @property
    def startup_seconds(self) -> float: ...
    @property
    def stop_seconds(self) -> float: ...


class Place:
    """This machine, prepared for one stack."""

    def __init__(self, plan: Plan, *, stack: str, project: Path) -> None:
        self.plan, self.stack, self.project = plan, stack, project
        self.ports = Ports.of(plan.spec.port)
        root = project / ".slipway" / stack
        self.provider = Provider("local", root=str(root), stack=stack)
        fixed = {"HTTP entry": self.ports.http, "gRPC entry": self.ports.grpc, "Envoy's admin": self.ports.admin}
        if plan.spec.feature_store != "none":
            fixed["Redis"] = self.ports.redis
        self.supervisor = Supervisor("supervisor", physical=self.name("supervisor"), ports=fixed, opts=self.options())

    def name(self, role: str) -> str:
        return f"{self.stack}-{role}"

    def options(self, *, after: Sequence[pulumi.Resource] = ()) -> pulumi.ResourceOptions:
        """Every resource has this provider; what runs needs the supervisor."""
        return pulumi.ResourceOptions(provider=self.provider, depends_on=list(after))

    def serve(self, server: ServerProcess, after: Sequence[pulumi.Resource]) -> tuple[str, list[ModelServer]]:
        """The servers of this plan's generation, and the generation's name."""
        generation = self.generation(server)
        repository = ModelRepository(
            f"models-{generation}",
            physical=self.name(f"models-{generation}"),
            files=server.files,
            opts=self.options(after=[self.supervisor]),
        )
        servers = [
            ModelServer(
                f"server-{index}-{generation}",
                physical=self.name(f"server-{index}-{generation}"),
                generation=generation,
                index=index,
                base_port=self.plan.spec.port,
                command=server.command,
                env=server.env,
                repository=repository.path,
                probes=server.probes,
                startup_seconds=server.startup_seconds,
                stop_seconds=server.stop_seconds,
                opts=self.options(after=[self.supervisor, repository, *after]),
            )
            for index in range(self.plan.replicas.start)
        ]
        return generation, servers

    def generation(self, server: ServerProcess) -> str:
        """The plan's digest and all that the servers read: a model that was trained again is a new generation too."""
        files = {path: file.get("sha256", file.get("text")) for path, file in server.files.items()}
        content = {"plan": self.plan.generation, "files": files, "command": server.command, "env": server.env}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def enter(self, config: str, servers: Sequence[ModelServer], drain_seconds: float) -> Endpoints:
        """The entry before the servers. Its own resources never belong to a generation."""
        ports = {"http": self.ports.http, "grpc": self.ports.grpc, "admin": self.ports.admin}
        envoy = Envoy(
            "envoy",
            physical=self.name("envoy"),
            config=config,
            ports=ports,
            clusters=CLUSTERS,
            opts=self.options(after=[self.supervisor]),
        )
        targets: list[Mapping[str, pulumi.Input[object]]] = [
            {"name": server.physical, "http": server.http_port, "grpc": server.grpc_port} for server in servers
        ]
        return Endpoints(
            "endpoints",
            physical=self.name("endpoints"),
            admin_port=self.ports.admin,
            clusters=CLUSTERS,
            targets=targets,
            drain_seconds=drain_seconds,
            opts=self.options(after=[envoy, *servers]),
        )
