"""The provider as a plugin process: prints its port, serves until its engine is gone."""

from __future__ import annotations

import os
import time
from concurrent import futures

import grpc
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2_grpc as pg

from infra.clouds.local.provider import LocalProvider

THREADS = 32  # steps run in parallel, and a start waits in its call


def main(provider: pg.ResourceProviderServicer | None = None) -> None:
    """Serves `provider`, by default the one that makes real things."""
    parent = os.getppid()
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=_GRPC_CHANNEL_OPTIONS)
    pg.add_ResourceProviderServicer_to_server(provider or LocalProvider(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    while os.getppid() == parent:  # a killed engine leaves no plugin behind
        time.sleep(0.5)


if __name__ == "__main__":
    main()
