"""The resources of the local cloud as a Pulumi program declares them; each is a real thing on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

PREFIX = "slipway:local:"


class Provider(pulumi.ProviderResource):
    """The provider of one stack, with the folder in which all of it lives."""

    def __init__(self, name: str, *, root: str, stack: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway", name, {"root": root, "stack": stack}, opts)


class Supervisor(pulumi.CustomResource):
    """supervisord, the watch beside it, and the folder of the stack."""

    root: pulumi.Output[str]

    def __init__(self, name: str, *, physical: str, ports: Mapping[str, int], opts: pulumi.ResourceOptions) -> None:
        props = {"name": physical, "ports": ports, "root": None}
        super().__init__(f"{PREFIX}Supervisor", name, props, opts)


class Redis(pulumi.CustomResource):
    """A Redis server with an append-only file."""

    address: pulumi.Output[str]
    port: pulumi.Output[int]

    def __init__(self, name: str, *, physical: str, port: int, opts: pulumi.ResourceOptions) -> None:
        super().__init__(f"{PREFIX}Redis", name, {"name": physical, "port": port, "address": None}, opts)


class FeatureSet(pulumi.CustomResource):
    """The rows of an .npz file in Redis."""

    count: pulumi.Output[int]

    def __init__(
        self,
        name: str,
        *,
        physical: str,
        port: pulumi.Input[int],
        prefix: str,
        source: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        props = {"name": physical, "port": port, "prefix": prefix, "source": source, "count": None}
        super().__init__(f"{PREFIX}FeatureSet", name, props, opts)


class ModelRepository(pulumi.CustomResource):
    """The files that the servers of one generation read."""

    path: pulumi.Output[str]

    def __init__(
        self, name: str, *, physical: str, files: Mapping[str, Mapping[str, str]], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__(f"{PREFIX}ModelRepository", name, {"name": physical, "files": files, "path": None}, opts)


class ModelServer(pulumi.CustomResource):
    """One process that serves models."""

    http_port: pulumi.Output[int]
    grpc_port: pulumi.Output[int]
    metrics_port: pulumi.Output[int]

    def __init__(
        self,
        name: str,
        *,
        physical: str,
        generation: str,
        index: int,
        base_port: int,
        command: Sequence[str],
        env: Mapping[str, str],
        repository: pulumi.Input[str],
        probes: Sequence[Mapping[str, object]],
        startup_seconds: float,
        stop_seconds: float,
        opts: pulumi.ResourceOptions,
    ) -> None:
        props = {
            "name": physical,
            "generation": generation,
            "index": index,
            "base_port": base_port,
            "command": command,
            "env": env,
            "repository": repository,
            "probes": probes,
            "startup_seconds": startup_seconds,
            "stop_seconds": stop_seconds,
            "http_port": None,
            "grpc_port": None,
            "metrics_port": None,
        }
        super().__init__(f"{PREFIX}ModelServer", name, props, opts)
        self.physical = physical


class Envoy(pulumi.CustomResource):
    """The entry."""

    def __init__(
        self,
        name: str,
        *,
        physical: str,
        config: str,
        ports: Mapping[str, int],
        clusters: Sequence[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        props = {"name": physical, "config": config, "ports": ports, "clusters": clusters}
        super().__init__(f"{PREFIX}Envoy", name, props, opts)


class Endpoints(pulumi.CustomResource):
    """Which servers the entry sends requests to."""

    def __init__(
        self,
        name: str,
        *,
        physical: str,
        admin_port: int,
        clusters: Sequence[str],
        targets: Sequence[Mapping[str, pulumi.Input[object]]],
        drain_seconds: float,
        opts: pulumi.ResourceOptions,
    ) -> None:
        props = {
            "name": physical,
            "admin_port": admin_port,
            "clusters": clusters,
            "targets": targets,
            "drain_seconds": drain_seconds,
        }
        super().__init__(f"{PREFIX}Endpoints", name, props, opts)
