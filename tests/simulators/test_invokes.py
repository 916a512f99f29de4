"""Functions that a program asks a provider for: what is in a bucket, which versions and images there are, who asks."""

from __future__ import annotations

import pytest
from cloud_driver import CallError, aws, gcp

from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

GCS, S3 = "gcp:storage/getBucketObjects:getBucketObjects", "aws:s3/getObjects:getObjects"


def test_a_bucket_of_the_user_holds_a_model_until_it_is_emptied() -> None:
    world = World()
    cloud = gcp(world)
    found = cloud.invoke(GCS, {"bucket": "theirs", "prefix": "models/digits/"})["bucketObjects"]
    assert isinstance(found, list)
    assert [o["name"] for o in found if isinstance(o, dict)] == ["models/digits/1/model.onnx"]
    world.emptied.append("their*")
    assert cloud.invoke(GCS, {"bucket": "theirs", "prefix": "models/"})["bucketObjects"] == []
    world.absent.append("wrong")
    with pytest.raises(CallError, match="404: The specified bucket does not exist"):
        cloud.invoke(GCS, {"bucket": "wrong"})


def test_a_bucket_of_the_stack_holds_what_the_stack_put_there() -> None:
    world = World()
    cloud = aws(world)
    assert cloud.invoke(S3, {"bucket": "mine", "prefix": "m/"})["keys"] == ["m/1/model.onnx"]
    cloud.create("aws:s3/bucket:Bucket", "b", {"bucket": "mine"})
    assert cloud.invoke(S3, {"bucket": "mine", "prefix": "m/"})["keys"] == []
    cloud.create(
        "aws:s3/bucketObjectv2:BucketObjectv2", "o", {"bucket": "mine", "key": "m/2/model.onnx", "content": "x"}
    )
    assert cloud.invoke(S3, {"bucket": "mine", "prefix": "m/"})["keys"] == ["m/2/model.onnx"]
    world.absent.append("none")
    with pytest.raises(CallError, match="NoSuchBucket"):
        cloud.invoke(S3, {"bucket": "none"})


def test_parameters_of_the_cloud_and_of_the_stack() -> None:
    cloud = aws(World())
    name = "/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/x86_64/standard/recommended/image_id"
    token = "aws:ssm/getParameter:getParameter"
    first = cloud.invoke(token, {"name": name})["value"]
    assert str(first).startswith("ami-")
    assert cloud.invoke(token, {"name": name})["value"] == first
    with pytest.raises(CallError, match="ParameterNotFound"):
        cloud.invoke(token, {"name": "/mine"})
    cloud.create("aws:ssm/parameter:Parameter", "p", {"name": "/mine", "type": "String", "value": "v"})
    assert cloud.invoke(token, {"name": "/mine"})["value"] == "v"


def test_versions_and_the_caller() -> None:
    cloud = gcp(World())
    found = cloud.invoke("gcp:container/getEngineVersions:getEngineVersions", {"versionPrefix": "1.34."})
    assert str(found["latestMasterVersion"]).startswith("1.34.")
    with pytest.raises(CallError, match="no master version"):
        cloud.invoke("gcp:container/getEngineVersions:getEngineVersions", {"versionPrefix": "1.2."})
    assert cloud.invoke("gcp:organizations/getClientConfig:getClientConfig")["project"] == "slipway-test"
