"""The model server of a stack in a cloud: its containers, and files of this machine that go into a bucket for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pulumi

from infra.plan import Plan
from infra.stores.store import key_prefix
from serving import triton
from serving.container import ContainerSpec, FileContent
from serving.upload import Upload
from stacks import config, registry

WITHOUT = (
    "Predictions by id are left out, as SLIPWAY_WHEELS is set to nothing: the store's client for the servers' image is "
    "a set of packages. To have them: unset it where packages can be fetched."
)


class Server:
    """One kind of server with the settings of the plan."""

    def __init__(self, plan: Plan, project: Path, stack: str) -> None:
        self._plan, self._project = plan, project
        self._kind = registry.pods(plan.spec.server)
        wheels = config.wheels()
        wanted = hasattr(self._kind, "by_id") and self._kind.by_id(plan)
        if wanted and wheels is None:
            pulumi.log.warn(WITHOUT)
        self._files: dict[str, object] = {}
        self._store: dict[str, object] = {}
        if wanted and wheels is not None:
            self._files["wheels"] = wheels
            self._store["store"] = triton.Store(url="$SLIPWAY_STORE_URL", key_prefix=key_prefix(stack))

    def uploads(self) -> Upload | None:
        found: Upload | None = self._kind.uploads(self._plan, project=self._project, **self._files)
        return found

    def pods(self, uploaded: object | None, env: Mapping[str, object]) -> list[ContainerSpec]:
        """One for each pool of the plan; `uploaded` is the address of what `uploads` named."""
        given = {"project": self._project, "uploaded": uploaded, "env": env, **self._store}
        return [self._kind.pod(self._plan, pool, **given) for pool in self._plan.pools]

    def names(self) -> list[str]:
        """Every model that a client may ask for certain; which ones take ids as well, the servers find out."""
        return list(self._kind.served_names(self._plan))

    def assets(self, upload: Upload) -> dict[str, pulumi.Asset]:
        return {key: self._asset(content) for key, content in upload.files.items()}

    def _asset(self, content: FileContent) -> pulumi.Asset:
        if content.text is not None:
            return pulumi.StringAsset(content.text)
        assert content.path is not None
        return pulumi.FileAsset(str(self._project / content.path))  # the program's own folder is another


def ready_paths(plan: Plan) -> list[str]:
    """Of each model that is served, in the order of loading."""
    kind = registry.pods(plan.spec.server)
    return [kind.ready_path(name) for name in kind.served_names(plan)]
