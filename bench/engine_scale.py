"""Time of the embedded engine for 10, 100 and 1,000 resources: first `up` and one that changes nothing.

The program is ten chains: each resource needs the one ten before it. The provider answers at once and runs in this
process. Wall seconds hold the program, the SDK and the sync to disk as well; the ratio is of the engine's own CPU time
for a resource against that of the first count of the same run, less what a stack with none costs.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import provider_pb2_grpc as pg

from engine import Request, run

PROGRAM = """
import os
import pulumi
class Thing(pulumi.CustomResource):
    def __init__(self, name, **inputs):
        super().__init__("quick:index:Thing", name, {"out": None, **inputs})
made = []
for n in range(int(os.environ["COUNT"])):
    made.append(Thing(f"t{n}", before=made[n - 10].out if n >= 10 else "", text="x" * 200))
"""


class Quick(pg.ResourceProviderServicer):
    def Handshake(self, request, context):  # noqa: N802
        return p.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True)

    def CheckConfig(self, request, context):  # noqa: N802
        return p.CheckResponse(inputs=request.news)

    def DiffConfig(self, request, context):  # noqa: N802
        return p.DiffResponse(changes=p.DiffResponse.DIFF_NONE)

    def Configure(self, request, context):  # noqa: N802
        return p.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request, context):  # noqa: N802
        return p.CheckResponse(inputs=request.news)

    def Diff(self, request, context):  # noqa: N802
        return p.DiffResponse(changes=p.DiffResponse.DIFF_NONE)

    def Create(self, request, context):  # noqa: N802
        properties = request.properties
        properties["out"] = request.urn
        return p.CreateResponse(id=request.urn, properties=properties)

    def Cancel(self, request, context):  # noqa: N802
        return empty_pb2.Empty()


def spent() -> float:
    """CPU seconds of this process: the engine and the provider, without the program."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(count: int) -> dict[str, float]:
    """Wall seconds of a first `up` and of one that changes nothing, and the engine's own CPU seconds in each."""
    row: dict[str, float] = {"resources": count}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        folder = Path(name)
        (folder / "Pulumi.yaml").write_text("name: scale\nruntime: python\n")
        (folder / "__main__.py").write_text(PROGRAM)
        request = Request(
            command="up", project=folder, stack="dev", env={"COUNT": str(count)}, providers={"quick": Quick()}
        )
        for what in ("up", "noop"):
            started, cpu = time.monotonic(), spent()
            result = run(request)
            row[f"{what}_s"], row[f"{what}_cpu_s"] = time.monotonic() - started, spent() - cpu
            assert result.ok, result.errors
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    measure(1)  # imports and the first gRPC server are paid for
    empty = measure(0)
    rows = [measure(count) for count in args.counts]
    for row in rows:
        for what in ("up", "noop"):
            row[f"{what}_cpu_ms_each"] = 1000 * (row[f"{what}_cpu_s"] - empty[f"{what}_cpu_s"]) / row["resources"]
            row[f"{what}_ratio"] = row[f"{what}_cpu_ms_each"] / rows[0][f"{what}_cpu_ms_each"]
    if args.json:
        print(json.dumps({"empty": empty, "rows": rows}, indent=1))
        return
    print(f"no resources: up {empty['up_s']:.2f} s, no-op up {empty['noop_s']:.2f} s")
    for row in rows:
        print(f"{row['resources']:5d} resources" + "".join(told(row, what) for what in ("up", "noop")))


def told(row: dict[str, float], what: str) -> str:
    each, ratio = row[f"{what}_cpu_ms_each"], row[f"{what}_ratio"]
    return f"; {what} {row[f'{what}_s']:6.2f} s, engine CPU {each:5.2f} ms a resource ({ratio:.2f} of the first)"


if __name__ == "__main__":
    main()
