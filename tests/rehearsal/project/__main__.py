"""Few resources of each kind that a rehearsal tells apart: a generation, a store, a leak, a secret."""

import pulumi
import pulumi_gcp as gcp

config = pulumi.Config()
cloud = gcp.Provider("gcp", project="slipway-test", region="us-central1")
on = pulumi.ResourceOptions(provider=cloud)
bucket = gcp.storage.Bucket("models", name="slipway-test-small", location="US", force_destroy=True, opts=on)
generation = config.require("generation")
gcp.storage.BucketObject(
    f"model-{generation}", bucket=bucket.name, name=f"{generation}/<model>.onnx", content="weights", opts=on
)
gcp.redis.Instance(
    "store",
    name="store",
    memory_size_gb=config.require_int("size"),
    tier=config.require("tier"),
    region="us-central1",
    deletion_protection=False,
    opts=pulumi.ResourceOptions(provider=cloud, delete_before_replace=True),
)
kept = pulumi.ResourceOptions(provider=cloud, retain_on_delete=config.require_bool("keep"))
key = gcp.secretmanager.Secret("key", secret_id="key", replication={"auto": {}}, opts=kept)
gcp.secretmanager.SecretVersion(
    "key",
    secret=key.id,
    secret_data=pulumi.Output.secret("the plain value"),
    opts=on,
)
