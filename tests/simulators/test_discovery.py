"""A wrong value in a field that has no row of its own is refused by what Google's own documents say."""

from __future__ import annotations

import pytest
from cloud_driver import CallError, gcp, gke, node_pool

from simulators.core import discovery, tables
from simulators.core.values import Json
from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore", "googleapiclient"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")


@pytest.mark.parametrize("row", tables.rows("schemas"), ids=lambda r: r["type"])
def test_each_row_names_a_schema(row: dict[str, str]) -> None:
    assert row["schema"] in discovery.model(tables.cloud_of(row["type"]), row["document"]).shapes


def test_a_value_without_a_row_is_refused_at_create_with_its_path() -> None:
    cloud = gcp(World())
    network = cloud.create("gcp:compute/network:Network", "n", {"name": "n", "autoCreateSubnetworks": False})
    rule = {"name": "r", "region": "us-central1", "network": network["selfLink"], "loadBalancingScheme": "INTERNL"}
    with pytest.raises(CallError, match=r"loadBalancingScheme: expected one of .*Did you mean 'INTERNAL'"):
        cloud.create("gcp:compute/forwardingRule:ForwardingRule", "r", rule)


def test_a_partition_that_the_gpu_does_not_have() -> None:
    site = gke(World(), removeDefaultNodePool=True)
    gpu: Json = [{"type": "nvidia-l4", "count": 1, "gpuPartitionSize": "1g.5gb"}]
    with pytest.raises(CallError, match=r"gpu_partition_size 1g\.5gb is not one of nvidia-l4: it has no partitions"):
        node_pool(site, machineType="g2-standard-4", guestAccelerators=gpu)


@pytest.mark.parametrize(
    ("token", "inputs", "said"),
    [
        (
            "aws:eks/nodeGroup:NodeGroup",
            {"updateConfig": {"updateStrategy": "FAST"}},
            "updateConfig.updateStrategy: expected one of DEFAULT, MINIMAL; got 'FAST'",
        ),
        (
            "aws:elasticache/replicationGroup:ReplicationGroup",
            {"ipDiscovery": "both"},
            "ipDiscovery: expected one of ipv4, ipv6; got 'both'",
        ),
        (
            "aws:kms/key:Key",
            {"keyUsage": "ENCRYPT"},
            "keyUsage: expected one of SIGN_VERIFY, ENCRYPT_DECRYPT",
        ),
    ],
)
def test_aws_says_it_in_its_service_models(token: str, inputs: dict[str, Json], said: str) -> None:
    (found,) = discovery.problems(token, inputs)
    assert str(found).startswith(said)
