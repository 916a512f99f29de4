"""Plain manifests and chart rows as resources of one cluster: one name each, one provider, told what they wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from infra.charts import Chart

Json = Mapping[str, object]

SKIP = "pulumi.com/skipAwait"  # annotation: nothing waits for this object


class Objects:
    """Declares objects of one cluster."""

    def __init__(self, provider: pulumi.ProviderResource) -> None:
        self._provider = provider

    def declare(
        self,
        manifest: Json,
        *,
        after: Sequence[pulumi.Resource] = (),
        ignore: Sequence[str] = (),
        ready_within_s: int | None = None,
        secret: Sequence[str] = (),
    ) -> pulumi.Resource:
        """A resource of the manifest's own kind. Its name is given, so a replacement must be told to come first."""
        timeouts = None
        if ready_within_s is not None:
            limit = f"{ready_within_s}s"
            timeouts = pulumi.CustomTimeouts(create=limit, update=limit)
        options = self._options(after, ignore=ignore, timeouts=timeouts, secret=secret)
        return pulumi.CustomResource(token(manifest), logical(manifest), dict(manifest), options)

    def release(
        self, chart: Chart, values: Json, *, namespace: str, after: Sequence[pulumi.Resource], name: str | None = None
    ) -> pulumi.Resource:
        """A chart's release; the next object waits until its pods are ready."""
        from pulumi_kubernetes.helm.v3 import Release, RepositoryOptsArgs  # the module costs a tenth of a second

        return Release(
            name or chart.name,
            name=name or chart.name,
            chart=chart.chart,
            version=chart.version,
            repository_opts=RepositoryOptsArgs(repo=chart.repository),
            namespace=namespace,
            values=dict(values),
            atomic=True,  # a release that failed is taken away again, so that the next update can install it
            cleanup_on_fail=True,
            timeout=RELEASE_S,
            opts=self._options(after),
        )

    def _options(
        self,
        after: Sequence[pulumi.Resource],
        *,
        ignore: Sequence[str] = (),
        timeouts: pulumi.CustomTimeouts | None = None,
        secret: Sequence[str] = (),
    ) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            provider=self._provider,
            depends_on=list(after),
            delete_before_replace=False,
            ignore_changes=list(ignore),
            custom_timeouts=timeouts,
            additional_secret_outputs=list(secret),
        )


RELEASE_S = 600


def token(manifest: Json) -> str:
    """Type of the provider for a manifest. The SDK's class for each kind would bring half a second of imports."""
    version = str(manifest["apiVersion"])
    return f"kubernetes:{version if '/' in version else f'core/{version}'}:{manifest['kind']}"


def logical(manifest: Json) -> str:
    """namespace/kind/name: two kinds or two namespaces may use one name."""
    metadata = manifest["metadata"]
    assert isinstance(metadata, Mapping)
    parts = [metadata.get("namespace"), str(manifest["kind"]).lower(), metadata["name"]]
    return "/".join(str(p) for p in parts if p)


def unawaited(manifest: Json) -> Json:
    """A Service that comes before its pods is ready when it is there."""
    if manifest["kind"] != "Service":
        return manifest
    metadata = manifest["metadata"]
    assert isinstance(metadata, Mapping)
    annotations = {**metadata.get("annotations", {}), SKIP: "true"}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}
