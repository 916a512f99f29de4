"""A feature store of a stack with nothing beside it but the ground that it stands on and an identity that asks it.

It does what the real program does with a store, in the same order: recall, hold, verdict, build, record. `test:` keys
break the rules on purpose: `forget` drops the recorded fingerprint, `want` overrides what the store's module wants.
"""

import json
from importlib import import_module

import pulumi

from infra.clouds.site import Ground
from infra.plan import LatencyMs, Plan, Replicas, Serving, UsdPerMonth
from infra.spec import SpecError, parse
from infra.stores import protect
from stacks import config

test = pulumi.Config("test")
IDENTITIES = ("servers", "loader")  # who looks up, and who loads


def plan_of(spec):
    """Stores look at the specification alone: no pools, no prices."""
    return Plan(
        spec=spec,
        pools=(),
        replicas=Replicas(min=1, max=1, start=1),
        serving=Serving(instances=1, max_batch=1, queue_delay_us=0, preferred_batch=(), models=(), exit_timeout_s=5),
        latency_ms=LatencyMs(mean=1, p99=1),
        max_rps_within_slo=1,
        generation="00000000",
        usd_per_month=UsdPerMonth(min=0, expected=0, max=0),
        usd_per_million_predictions=0,
    )


def google(spec, stack):
    import pulumi_gcp as gcp

    provider = gcp.Provider("gcp", project=spec.project, region=spec.region)
    on = pulumi.ResourceOptions(provider=provider)
    network = gcp.compute.Network("network", name=f"{stack}-network", auto_create_subnetworks=False, opts=on)
    subnet = gcp.compute.Subnetwork(
        "subnet", name=f"{stack}-subnet", network=network.id, ip_cidr_range="10.0.0.0/20", region=spec.region, opts=on
    )
    accounts = [gcp.serviceaccount.Account(name, account_id=f"{stack}-{name}", opts=on) for name in IDENTITIES]
    ground = Ground(
        stack=stack,
        cloud="gcp",
        region=spec.region,
        project=spec.project,
        zones=spec.zones or tuple(f"{spec.region}-{z}" for z in "abc"),
        network=network.id,
        subnets=[subnet.id],
        provider=provider,
        labels={"slipway-stack": stack},
        after=[subnet],
    )
    return ground, [a.member for a in accounts]


def amazon(spec, stack):
    import pulumi_aws as aws

    provider = aws.Provider("aws", region=spec.region)
    on = pulumi.ResourceOptions(provider=provider)
    vpc = aws.ec2.Vpc("vpc", cidr_block="10.40.0.0/16", opts=on)
    subnets = [
        aws.ec2.Subnet(
            f"private-{zone}",
            vpc_id=vpc.id,
            cidr_block=f"10.40.{16 * i}.0/20",
            availability_zone=f"{spec.region}{zone}",
            opts=on,
        )
        for i, zone in enumerate("ab")
    ]
    servers = aws.ec2.SecurityGroup("servers", description="servers", vpc_id=vpc.id, opts=on)
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    roles = [aws.iam.Role(name, assume_role_policy=policy, opts=on) for name in IDENTITIES]
    ground = Ground(
        stack=stack,
        cloud="aws",
        region=spec.region,
        project=None,
        zones=tuple(f"{spec.region}{z}" for z in "ab"),
        network=vpc.id,
        subnets=[s.id for s in subnets],
        server_security_groups=[servers.id],
        private_ranges=["10.40.0.0/19"],
        provider=provider,
        labels={"slipway-stack": stack},
    )
    return ground, [r.name for r in roles]


async def main():
    stack = pulumi.get_stack()
    past = pulumi.StackReference(f"{pulumi.get_organization()}/{pulumi.get_project()}/{stack}")
    recorded = None if test.get_bool("forget") else (await past.get_output_details("store")).value
    held = protect.hold(parse(config.read()), recorded)
    module = import_module(f"infra.stores.{held.spec.feature_store}")
    plan = plan_of(held.spec)
    wants = json.loads(test.get("want") or "{}")
    if wants:
        real = module.fields
        module.fields = lambda plan, stack: {**real(plan, stack), **wants}
    verdict = protect.verdict(module.KIND.name, recorded, module.fields(plan, stack), held.spec)
    for note in (*held.notes, *verdict.notes):
        pulumi.log.warn(note)
    if verdict.refused:
        raise pulumi.RunError(str(SpecError(verdict.refused)))
    ground, principals = (google if held.spec.cloud == "gcp" else amazon)(held.spec, stack)
    store = module.build(ground, plan, recorded)
    for name, principal, grants in zip(IDENTITIES, principals, (store.grants, store.writers), strict=True):
        for i, grant in enumerate(grants):
            grant.bind(f"{name}-{i}", principal)
    for i, grant in enumerate(store.machine_grants):
        grant.bind(f"servers-{i}", principals[0])
    pulumi.export("machine_secrets", store.machine_secrets)
    pulumi.export("url", store.url)
    pulumi.export("env", store.env)
    pulumi.export("secrets", store.secrets)
    pulumi.export("ranges", store.ranges)
    pulumi.export("port", store.port)
    pulumi.export("store", store.fingerprint)


pulumi.run(main)
