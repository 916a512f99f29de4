"""Time of the embedded engine for 10, 100 and 1,000 resources: first `up` and one that changes nothing.

The program is ten chains: each resource needs the one ten before it. The provider answers at once and runs in this
process; what is left is the engine, the SDK in the program, and the sync to disk. Prints the cost of a resource against
that of the 10-resource stack of the same run, less what a stack with none costs.
"""

from __future__ import annotations

import argparse
import json
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


def measure(count: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        folder = Path(name)
        (folder / "Pulumi.yaml").write_text("name: scale\nruntime: python\n")
        (folder / "__main__.py").write_text(PROGRAM)
        seconds = []
        for _ in range(2):
            started = time.monotonic()
            result = run(
                Request(
                    command="up", project=folder, stack="dev", env={"COUNT": str(count)}, providers={"quick": Quick()}
                )
            )
            seconds.append(time.monotonic() - started)
            assert result.ok, result.errors
        return seconds[0], seconds[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    empty = measure(0)
    rows = []
    for count in args.counts:
        up, again = measure(count)
        rows.append({"resources": count, "up_s": up, "noop_s": again})
        rows[-1]["up_ms_each"] = 1000 * (up - empty[0]) / count
        rows[-1]["noop_ms_each"] = 1000 * (again - empty[1]) / count
    for row in rows:
        for what in ("up", "noop"):
            row[f"{what}_ratio"] = row[f"{what}_ms_each"] / rows[0][f"{what}_ms_each"]
    if args.json:
        print(json.dumps({"empty_up_s": empty[0], "empty_noop_s": empty[1], "rows": rows}, indent=1))
        return
    print(f"no resources: up {empty[0]:.2f} s, no-op up {empty[1]:.2f} s")
    for row in rows:
        print(
            f"{row['resources']:5d} resources: up {row['up_s']:6.2f} s, {row['up_ms_each']:6.2f} ms each"
            f" ({row['up_ratio']:.2f} of the first);  no-op {row['noop_s']:6.2f} s, {row['noop_ms_each']:6.2f} ms each"
            f" ({row['noop_ratio']:.2f} of the first)"
        )


if __name__ == "__main__":
    main()
