"""The GKE site from a plan, with everything that a blueprint asks of it, and objects in the cluster."""

import json

import pulumi
import pulumi_kubernetes as k8s

from infra.catalog import load
from infra.clouds.gcp import Site
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
files = site.upload({"digits/1/model.onnx": pulumi.StringAsset("weights")}, "0123abcd")
grants = [Grant(kind="read_bucket", target=files.bucket), Grant(kind="read_write_prefix", target="theirs/results/")]
servers = site.identity("serving", "model-server", grants)
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
for role, place in [("system", site.system), *((p.role, q) for p, q in zip(plan.pools, pools, strict=True))]:
    resources = {"requests": {"cpu": "100m"}}
    if place.device:
        resources["limits"] = {place.device: str(place.devices)}
    tolerations = [
        {"key": t.key, "operator": "Equal" if t.value else "Exists", "value": t.value, "effect": t.effect}
        for t in place.tolerations
    ]
    pod = {
        "node_selector": dict(place.node_selector),
        "tolerations": tolerations,
        "containers": [{"name": "one", "image": "one:1", "resources": resources}],
    }
    labels = {"app": role}
    name = role if role == "system" else f"{role}-{plan.generation}"
    k8s.apps.v1.Deployment(
        name,
        metadata={"name": name, "namespace": space.metadata["name"]},
        spec={
            "replicas": 1,
            "selector": {"match_labels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
        opts=pulumi.ResourceOptions(provider=site.kubernetes, depends_on=list(place.after)),
    )
pulumi.export("http", entry.http)
pulumi.export("grpc", entry.grpc)
pulumi.export("from", entry.reachable_from)
pulumi.export("kubeconfig", site.kubeconfig)
pulumi.export("command", site.kubeconfig_command)
pulumi.export("models", files.uri)
pulumi.export("placements", json.dumps([dict(p.node_selector) | {"device": p.device or ""} for p in pools]))
