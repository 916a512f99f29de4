"""Two hundred resources that depend on one: what a run costs by itself."""

import os

import pulumi
import pulumi_gcp as gcp

cloud = gcp.Provider("gcp", project="slipway-test", region="us-central1")
on = pulumi.ResourceOptions(provider=cloud)
bucket = gcp.storage.Bucket("models", name="slipway-test-bulk", location="US", force_destroy=True, opts=on)
for i in range(int(os.environ.get("COUNT", "199"))):
    gcp.storage.BucketObject(f"o{i}", bucket=bucket.name, name=f"models/{i}", content=str(i), opts=on)
