"""Carries connections from one port here to one address of the network, until it is ended.

Stands alone, in a stock Python image or on a stock machine. What it carries is encrypted from end to end, and it has no
password. In a pod only the loopback is listened on: a port-forward over the control plane comes from there, another pod
does not. On a machine (SLIPWAY_RELAY_ADDRESS) the firewall says who comes.
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
    address = os.environ.get("SLIPWAY_RELAY_ADDRESS", "127.0.0.1")
    server = await asyncio.start_server(carry, address, int(os.environ["SLIPWAY_RELAY_PORT"]))
    pathlib.Path(os.environ["SLIPWAY_RELAY_READY"]).write_text("ready")
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
