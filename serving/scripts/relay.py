"""Carries connections from this pod's loopback to one address of the network, until the pod ends.

Stands alone, in a stock Python image. What it carries is encrypted from end to end, and it has no password. Only the
pod's own loopback is listened on: a port-forward over the control plane comes from there, another pod does not.
"""

from __future__ import annotations

import asyncio
import os
import pathlib

BLOCK = 1 << 16


async def pour(source: asyncio.StreamReader, into: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(BLOCK):
            into.write(data)
            await into.drain()
    except OSError:
        pass  # one end is gone: so is the other, below
    finally:
        into.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, _, port = os.environ["SLIPWAY_RELAY_TO"].rpartition(":")
    try:
        there, back = await asyncio.open_connection(host, int(port))
    except OSError as e:
        print(f"{host}:{port} cannot be reached: {e}", flush=True)
        writer.close()
        return
    await asyncio.gather(pour(reader, back), pour(there, writer))


async def main() -> None:
    server = await asyncio.start_server(carry, "127.0.0.1", int(os.environ["SLIPWAY_RELAY_PORT"]))
    pathlib.Path(os.environ["SLIPWAY_RELAY_READY"]).write_text("ready")
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
