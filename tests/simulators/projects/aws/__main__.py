"""A serving stack on EKS, small and whole: network, cluster, node groups, store, entry, workload."""

import json

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

machine = pulumi.Config().get("machine") or "m6i.xlarge"
cloud = aws.Provider("aws", region="us-east-1")
on = pulumi.ResourceOptions(provider=cloud)


def trust(service: str) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


vpc = aws.ec2.Vpc("vpc", cidr_block="10.40.0.0/16", enable_dns_hostnames=True, tags={"role": "network"}, opts=on)
gateway = aws.ec2.InternetGateway("igw", vpc_id=vpc.id, opts=on)
subnets = {
    f"{kind}-{zone}": aws.ec2.Subnet(
        f"{kind}-{zone}",
        vpc_id=vpc.id,
        cidr_block=f"10.40.{16 * (2 * i + j)}.0/20",
        availability_zone=f"us-east-1{zone}",
        opts=on,
    )
    for i, kind in enumerate(("public", "private"))
    for j, zone in enumerate("ab")
}
private = [subnets["private-a"].id, subnets["private-b"].id]
eip = aws.ec2.Eip("nat", domain="vpc", tags={"role": "nat"}, opts=on)
nat = aws.ec2.NatGateway("nat", allocation_id=eip.id, subnet_id=subnets["public-a"].id, opts=on)
for kind in ("public", "private"):
    table = aws.ec2.RouteTable(kind, vpc_id=vpc.id, tags={"role": kind}, opts=on)
    to = {"gateway_id": gateway.id} if kind == "public" else {"nat_gateway_id": nat.id}
    aws.ec2.Route(kind, route_table_id=table.id, destination_cidr_block="0.0.0.0/0", **to, opts=on)
    for zone in "ab":
        aws.ec2.RouteTableAssociation(
            f"{kind}-{zone}", route_table_id=table.id, subnet_id=subnets[f"{kind}-{zone}"].id, opts=on
        )
group = aws.ec2.SecurityGroup("nodes", name="nodes", description="Nodes", vpc_id=vpc.id, opts=on)
for name, port in (("health", 8000), ("entry", 30080)):
    aws.vpc.SecurityGroupIngressRule(
        name,
        security_group_id=group.id,
        ip_protocol="tcp",
        from_port=port,
        to_port=port,
        cidr_ipv4="10.40.0.0/16",
        opts=on,
    )
roles = {
    name: aws.iam.Role(name, assume_role_policy=trust(service), opts=on)
    for name, service in (("cluster", "eks.amazonaws.com"), ("nodes", "ec2.amazonaws.com"))
}
attached = [
    aws.iam.RolePolicyAttachment(policy, role=roles[role].name, policy_arn=f"arn:aws:iam::aws:policy/{policy}", opts=on)
    for role, policy in (
        ("cluster", "AmazonEKSClusterPolicy"),
        ("nodes", "AmazonEKSWorkerNodePolicy"),
        ("nodes", "AmazonEKS_CNI_Policy"),
        ("nodes", "AmazonEC2ContainerRegistryReadOnly"),
    )
]
logs = aws.cloudwatch.LogGroup("logs", name="/aws/eks/serving/cluster", retention_in_days=7, opts=on)
cluster = aws.eks.Cluster(
    "cluster",
    name="serving",
    role_arn=roles["cluster"].arn,
    vpc_config={"subnet_ids": private, "security_group_ids": [group.id]},
    enabled_cluster_log_types=["api"],
    opts=pulumi.ResourceOptions(provider=cloud, depends_on=[logs, *attached]),
)
cni = aws.eks.Addon("cni", cluster_name=cluster.name, addon_name="vpc-cni", opts=on)
groups = [
    aws.eks.NodeGroup(
        f"nodes-{role}",
        cluster_name=cluster.name,
        node_group_name_prefix=f"{role}-",
        node_role_arn=roles["nodes"].arn,
        subnet_ids=private,
        instance_types=[size],
        labels={"role": role},
        scaling_config={"min_size": 1, "max_size": 3, "desired_size": 2},
        opts=pulumi.ResourceOptions(provider=cloud, depends_on=[cni, *attached]),
    )
    for role, size in (("system", "m6i.large"), ("serving", machine))
]
models = aws.s3.Bucket("models", bucket="slipway-test-models", force_destroy=True, opts=on)
aws.s3.BucketObjectv2("model", bucket=models.bucket, key="digits/1/model.onnx", content="weights", opts=on)
store = aws.dynamodb.Table(
    "features",
    name="features",
    billing_mode="PAY_PER_REQUEST",
    hash_key="id",
    attributes=[{"name": "id", "type": "S"}],
    opts=on,
)
balancer = aws.lb.LoadBalancer(
    "entry", name="entry", internal=True, load_balancer_type="network", subnets=private, opts=on
)
targets = aws.lb.TargetGroup("entry", name="entry", port=30080, protocol="TCP", vpc_id=vpc.id, opts=on)
aws.lb.Listener(
    "entry",
    load_balancer_arn=balancer.arn,
    port=8000,
    protocol="TCP",
    default_actions=[{"type": "forward", "target_group_arn": targets.arn}],
    opts=on,
)
kubeconfig = pulumi.Output.json_dumps(
    {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": cluster.endpoint}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"exec": {"command": "aws"}}}],
    }
)
kube = k8s.Provider("k8s", kubeconfig=kubeconfig, cluster_identifier=cluster.arn)
inside = pulumi.ResourceOptions(provider=kube, depends_on=groups)
space = k8s.core.v1.Namespace("serving", metadata={"name": "serving"}, opts=inside)
meta = {"namespace": space.metadata["name"], "name": "triton"}
labels = {"app": "triton"}
container = {"name": "triton", "image": "triton:26.07", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}}}
k8s.apps.v1.Deployment(
    "triton",
    metadata=meta,
    spec={
        "replicas": 2,
        "selector": {"match_labels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    },
    opts=inside,
)
k8s.core.v1.Service("triton", metadata=meta, spec={"selector": labels, "ports": [{"port": 8000}]}, opts=inside)
pulumi.export("address", balancer.dns_name)
pulumi.export("store", store.arn)
