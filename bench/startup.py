"""Start-up of a cloud program: what Slipway adds to importing the parts of the SDKs that it uses.

    python -m bench.startup [--stack eks-gpu] [--runs 3]

Each number is the least of several processes, in CPU seconds, which other work on the machine hardly changes. The
program plans the worked stack and declares all of it (without its store) against a monitor that answers at once.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
BUDGET_S, BUDGET_MIB = 1.5, 150
PARTS = {  # one name of each part: the part loads when it is touched
    "aws": (
        "autoscaling.Tag",
        "cloudwatch.LogGroup",
        "ec2.Vpc",
        "eks.Cluster",
        "iam.Role",
        "kms.Key",
        "lb.Listener",
        "s3.Bucket",
        "vpc.SecurityGroupIngressRule",
    ),
    "gcp": (
        "compute.Network",
        "container.Cluster",
        "kms.KeyRing",
        "organizations.get_project",
        "projects.IAMMember",
        "serviceaccount.Account",
        "storage.Bucket",
    ),
    "kubernetes": ("core.v1.Service", "apps.v1.Deployment", "Provider"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", action="append", help="worked stack; default: gke-gpu and eks-gpu")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", choices=("sdk", "graph"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    stacks = args.stack or ["gke-gpu", "eks-gpu"]
    if args.child:
        print(json.dumps(_child(args.child, stacks[0])))
        return 0
    over = False
    for stack in stacks:
        sdk, graph = (_least(kind, stack, args.runs) for kind in ("sdk", "graph"))
        more_s, more_mib = graph["s"] - sdk["s"], graph["mib"] - sdk["mib"]
        over |= more_s > BUDGET_S or more_mib > BUDGET_MIB
        print(
            f"{stack}: SDK {sdk['s']:.2f} s, {sdk['mib']:.0f} MiB; program with {graph['resources']} resources "
            f"+{more_s:.2f} s ({graph['s'] / sdk['s']:.2f}x), +{more_mib:.0f} MiB; "
            f"budget +{BUDGET_S} s, +{BUDGET_MIB} MiB"
        )
    return int(over)


def _least(kind: str, stack: str, runs: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.startup", "--child", kind, "--stack", stack]
    found = [
        json.loads(
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
        for _ in range(runs)
    ]
    return min(found, key=lambda f: float(f["s"]))


def _child(kind: str, stack: str) -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "stacks" / "config" / f"Pulumi.{stack}.yaml").read_text())["config"]
    values = {k.partition(":")[2]: v for k, v in config.items()} | {"feature_store": "none"}
    values.pop("features", None)
    start, count = time.process_time(), 0
    if kind == "sdk":
        _touch(str(values["cloud"]))
    else:
        count = _graph(values)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"s": time.process_time() - start, "mib": peak, "resources": count}


def _touch(cloud: str) -> None:
    import importlib

    for sdk in (cloud, "kubernetes"):
        package = importlib.import_module(f"pulumi_{sdk}")
        for name in PARTS[sdk]:
            found: Any = package
            for step in name.split("."):
                found = getattr(found, step)


def _graph(values: dict[str, Any]) -> int:
    import importlib

    import pulumi

    from infra.catalog import load
    from infra.plan import Kinds, make_plan
    from infra.spec import parse

    made = []

    class Monitor(pulumi.runtime.Mocks):
        """Gives every resource its own inputs back, and the few outputs that others are made of."""

        def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
            made.append(args.typ)
            known = {
                "address": "10.0.0.9",
                "arn": f"arn:aws:x:us-east-1:123456789012:{args.name}",
                "latestVersion": 1,
                **args.inputs,
            }
            if args.typ == "aws:eks/cluster:Cluster":
                known["identities"] = [{"oidcs": [{"issuer": "https://oidc.eks.us-east-1.amazonaws.com/id/0"}]}]
                known["certificateAuthority"] = {"data": "0"}
            if args.typ == "aws:eks/nodeGroup:NodeGroup":
                known["resources"] = [{"autoscalingGroups": [{"name": f"eks-{args.name}"}]}]
            if args.typ == "gcp:container/nodePool:NodePool":
                zones = (f"https://x/zones/{z}/instanceGroupManagers/{args.name}" for z in args.inputs["nodeLocations"])
                known["managedInstanceGroupUrls"] = list(zones)
            return args.name, known

        def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
            zones = [f"us-east-1{z}" for z in "abc"]
            known = {"accountId": "123456789012", "number": "1", "id": "0"}
            files = [f"{args.args.get('prefix', '')}1/model.onnx"]
            objects = [
                {"name": f, "contentType": "", "mediaLink": "", "selfLink": "", "storageClass": ""} for f in files
            ]
            known |= {"keys": files, "bucketObjects": objects}
            return known | {"names": zones, "zoneIds": [f"use1-az{i}" for i in (1, 2, 4)]}

    pulumi.runtime.set_mocks(Monitor())
    plan = make_plan(parse(values), Kinds(), load())

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def declare() -> None:
        blueprint = importlib.import_module(f"stacks.{plan.spec.shape}")
        blueprint.build(plan, stack="bench", project=ROOT, recorded=None)

    declare()
    return len(made)


if __name__ == "__main__":
    sys.exit(main())
