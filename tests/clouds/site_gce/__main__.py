"""Groups of machines from plans, with everything that a blueprint asks of the site: the wanted generation, and an old
one beside it where the configuration names its plan."""

from dataclasses import replace
from functools import partial

import pulumi

from infra.catalog import load
from infra.clouds.gcp import Machines
from infra.clouds.machine_site import Boot
from infra.clouds.site import Grant
from infra.plan import Plan, Pool, make_plan
from infra.plan.kinds import Kinds
from infra.spec import parse
from serving.kubernetes import parts

START = """#cloud-config
runcmd:
  - {driver}
  - docker run --rm --network host {device} {image} serve --models={uri}
"""
COS_GPU = ("cos-extensions install gpu", "--device /dev/nvidia0 --device /dev/nvidiactl --device /dev/nvidia-uvm")
SERVERS = {  # image, ports, and the path that says whether every model is loaded
    "triton": (
        "nvcr.io/nvidia/tritonserver:25.09-py3",
        {"http": 8000, "grpc": 8001, "metrics": 8002},
        "/v2/health/ready",
    ),
    "tf-serving": ("tensorflow/serving:2.20.0", {"http": 8501, "grpc": 8500, "metrics": 8501}, "/v1/models/m"),
}


def started(pool: Pool, image: str, whole: bool, uri: str) -> str:
    """What a machine is told; a broken one forgets the driver."""
    gpu = pool.accelerator != "none" and pool.tpu_topology is None
    driver, device = COS_GPU if gpu and whole else ("true", "")
    return START.format(driver=driver, device=device, image=image, uri=uri)


def boot(plan: Plan, pool: Pool) -> Boot:
    image, ports, ready = SERVERS[plan.spec.server]
    whole = plan is plans[-1] or not config.get("broken")
    return Boot(
        user_data=files.uri.apply(partial(started, pool, image, whole)),
        ports=ports,
        ready_path=ready,
        startup_s=plan.serving.startup_budget_s,
        drain_s=30,
        after=files.after,
    )


config = pulumi.Config()
specs = [config.require_object("spec"), *([config.require_object("old")] if config.get("old") else [])]
plans = [make_plan(parse(s), Kinds(), load()) for s in specs]
site = Machines(plans[0], stack=pulumi.get_stack())
uri = config.get("model")
if uri and (missing := site.model_missing(uri)):
    raise pulumi.RunError(missing)
site.build()
files = site.upload({"digits/1/model.onnx": pulumi.StringAsset("weights")}, "0123abcd")
secret = "projects/my-project/secrets/dev-store-password/versions/latest"
grants = [
    Grant(kind="read_bucket", target=files.bucket),
    Grant(kind="read_write_prefix", target="theirs/results/"),
    Grant(kind="read_secret", target=secret),
]
servers = site.identity(grants)
_, open_ports, ready_path = SERVERS[plans[0].spec.server]
site.prepare(open_ports, ready_path, plans[0].spec.max_request_s)
groups = [
    site.group(plan, replace(pool, role=part), plan.generation, boot(plan, pool), servers)
    for plan in plans
    for part, pool in zip(parts(plan), plan.pools, strict=True)
]
entry = site.entry(groups)
pulumi.export("http", entry.http)
pulumi.export("grpc", entry.grpc)
pulumi.export("from", entry.reachable_from)
pulumi.export("tunnel", site.tunnel(groups, 8000))
pulumi.export("models", files.uri)
