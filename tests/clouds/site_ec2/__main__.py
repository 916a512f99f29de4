"""The EC2 site from a plan, with everything that a blueprint asks of it."""

import pulumi

from infra.catalog import load
from infra.clouds.aws import Machines
from infra.clouds.machine_site import Boot
from infra.clouds.site import Grant
from infra.plan import make_plan
from infra.plan.facts import drain_s
from infra.plan.kinds import Kinds
from infra.spec import parse

config = pulumi.Config()
plan = make_plan(parse(config.require_object("spec")), Kinds(), load())
site = Machines(plan, stack=pulumi.get_stack())
uri = config.get("model")
if uri and (missing := site.model_missing(uri)):
    raise pulumi.RunError(missing)
site.build()
files = site.upload({"digits/1/model.onnx": pulumi.StringAsset("weights")}, "0123abcd")
identity = site.identity(
    [Grant(kind="read_bucket", target=files.bucket), Grant(kind="read_write_prefix", target="theirs/results/")]
)
PORTS = {"triton": {"http": 8000, "grpc": 8001}, "tf-serving": {"http": 8501, "grpc": 8500}}[plan.spec.server]
READY = {"triton": "/v2/health/ready", "tf-serving": "/v1/models/digits"}[plan.spec.server]
IMAGES = {"triton": "nvidia/tritonserver:25.09-py3", "tf-serving": "tensorflow/serving:2.19.1"}
flags = "" if plan.spec.accelerator.name == "none" else " --gpus all"
user_data = config.get("user_data") or (
    f"#cloud-config\nruncmd:\n- docker run --network host{flags} {IMAGES[plan.spec.server]}\n"
)
boot = Boot(
    user_data=files.uri.apply(lambda at: f"{user_data}# {at}\n"),
    ports=PORTS,
    ready_path=READY,
    startup_s=plan.serving.startup_budget_s,
    drain_s=int(drain_s(plan.spec)),
    after=files.after,
)
site.prepare(PORTS, READY, plan.spec.max_request_s)
groups = [site.group(plan, pool, plan.generation, boot, identity) for pool in plan.pools]
entry = site.entry(groups)
pulumi.export("http", entry.http)
pulumi.export("grpc", entry.grpc)
pulumi.export("from", entry.reachable_from)
pulumi.export("tunnel", list(site.tunnel(groups, 8002)))
pulumi.export("log_group", site.log_group)
pulumi.export("images", [site.image(p) for p in plan.pools])
