"""Serves one simulated cloud: prints its port alone on the first line, as Pulumi asks of a plugin."""

from __future__ import annotations

import os
import sys
from concurrent import futures
from pathlib import Path

import grpc
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2_grpc

from simulators.core import faults
from simulators.core.servicer import VERSIONS, Simulator
from simulators.core.world import World

WORLD = "SLIPWAY_SIMULATOR_WORLD"  # the file that holds the world; without it each process has its own
FAULTS = "SLIPWAY_SIMULATOR_FAULTS"  # a JSON list of rules, read when the world is new


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in VERSIONS:
        print(f"cloud: expected one of {', '.join(VERSIONS)}", file=sys.stderr)
        return 2
    path = os.environ.get(WORLD)
    world = World(path=Path(path) if path else None)
    with world.transaction():
        if not world.operations and not world.faults and os.environ.get(FAULTS):
            world.faults = faults.parse(os.environ[FAULTS])
    world.begin_phase(owner=str(os.getppid()))
    server = grpc.server(futures.ThreadPoolExecutor(16), options=_GRPC_CHANNEL_OPTIONS)
    servicer = Simulator(arguments[0], world, engine_pid=os.getppid())
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:  # how Pulumi ends a plugin; a trace and another status would be told as a crash
        server.stop(grace=1).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
