"""The EKS site from a plan, with everything that a blueprint asks of it, and one object in the cluster."""

import json

import pulumi
import pulumi_kubernetes as k8s

from infra.catalog import load
from infra.clouds.aws import Site
from infra.clouds.site import Grant
from infra.plan import make_plan
from infra.plan.kinds import Kinds
from infra.spec import parse

config = pulumi.Config()
plan = make_plan(parse(config.require_object("spec")), Kinds(), load())
site = Site(plan, stack=pulumi.get_stack())
uri = config.get("model")
if uri and (missing := site.model_missing(uri)):
    raise pulumi.RunError(missing)
site.build()
pools = [site.pool(p, plan.generation) for p in plan.pools]
weights = {"digits/1/model.onnx": pulumi.StringAsset("weights")}
files = site.upload(weights, "0123abcd")
grants = [Grant(kind="read_bucket", target=files.bucket), Grant(kind="read_write_prefix", target="theirs/results/")]
servers = site.identity("serving", "model-server", grants)
scaler = site.identity("slipway-system", "cluster-autoscaler", [Grant(kind="scale_node_groups", target=site.cluster)])
entry = site.entry({"http": 30080, "grpc": 30081})
after = [*site.ready, *(r for p in pools for r in p.after), *servers.after, *files.after]
space = k8s.core.v1.Namespace(
    "serving", metadata={"name": "serving"}, opts=pulumi.ResourceOptions(provider=site.kubernetes, depends_on=after)
)
k8s.core.v1.ServiceAccount(
    "model-server",
    metadata={"name": "model-server", "namespace": space.metadata["name"], "annotations": dict(servers.annotations)},
    opts=pulumi.ResourceOptions(provider=site.kubernetes),
)
pulumi.export("http", entry.http)
pulumi.export("grpc", entry.grpc)
pulumi.export("from", entry.reachable_from)
pulumi.export("kubeconfig", site.kubeconfig)
pulumi.export("command", site.kubeconfig_command)
pulumi.export("models", files.uri)
pulumi.export("placements", json.dumps([dict(p.node_selector) | {"device": p.device or ""} for p in pools]))
