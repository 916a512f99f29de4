"""Blueprint of the shape vm in a cloud: ground, store, groups of machines by generation, entry; the cloud says how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pulumi

from infra.clouds.machine_site import Boot, MachineIdentity, MachineSite, ServingGroup
from infra.clouds.site import ModelFiles
from infra.plan import Plan, Pool
from infra.plan.transition import one_list
from infra.spec import Problem, SpecError
from infra.stores.store import Store
from serving import vm
from serving.container import ContainerSpec
from serving.kubernetes import parts
from stacks import registry, standing
from stacks.models import absent, reads
from stacks.outputs import StackOutputs
from stacks.past import Past
from stacks.server import Server, ready_paths
from stacks.standing import Generation, Told

MODELS = "MODELS"  # stands for the address of uploaded files where only the shape of a container is asked for


def build(plan: Plan, *, stack: str, project: Path, past: Past) -> StackOutputs:
    """Declares everything from the plan; what is wrong with a model is said before the first resource."""
    own = Wanted(plan, Server(plan, project, stack))
    site: MachineSite = registry.cloud(plan.spec.cloud).Machines(plan, stack=stack)
    refused = [*absent(site, plan, stack), *own.problems()]
    if refused:
        raise SpecError(refused)
    digest = own.digest([site.image(pool) for pool in own.pools])
    others = standing.beside(plan, digest, past.machines)
    _announce(plan, digest, past)
    site.build()
    models = own.files(site, kept=any(g.uploaded for g in others))
    kind = registry.store(plan.spec.feature_store)
    store: Store | None = None if kind is None else kind.build(site.ground, plan, past.store)
    leaving = _leaving(digest, others, past)
    grants = [*reads(plan, models, leaving), *((*store.grants, *store.machine_grants) if store else ())]
    identity = site.identity(grants)
    path = standing.shared_path(ready_paths(plan), [ready_paths(p) for p in leaving])
    site.prepare(own.ports, path, plan.spec.max_request_s)
    texts = own.rendered(site, models, store)
    after = [*identity.after, *(store.after if store else ())]
    boots = own.boots(texts, [*after, *(models.after if models else ())])
    groups = [site.group(plan, pool, digest, boots[pool.role], identity) for pool in own.pools]
    old = [g for other in others for g in _again(site, other, identity, after)]
    address = site.entry([*groups, *old])
    stands = [*address.after, *(r for g in (*groups, *old) for r in g.after)]
    verbs = [*(["up"] if others else []), "status", "predict", "load", "switch", "destroy"]
    return StackOutputs(
        url_http=address.http,
        url_grpc=address.grpc,
        reachable_from=address.reachable_from,
        store=dict(store.fingerprint) if store else None,
        usd_per_month=asdict(plan.usd_per_month),
        plan=plan.to_json(),
        models=own.server.names(),
        generation=_when(stands, digest),
        machines=[own.record(digest, texts), *map(standing.pack, others)] if one_list(plan.spec) else None,
        standing=standing.in_words(others, stack) if others else None,
        next=[*(f"slipway {verb} {stack}" for verb in verbs), *site.tunnel(groups[:1], own.ports["http"])],
    )


class Wanted:
    """The generation that the configuration asks for: its pools, each under its own name, and what they are told."""

    def __init__(self, plan: Plan, server: Server) -> None:
        self.plan, self.server = plan, server
        self.upload = server.uploads()
        self.pools = named_pools(plan)
        self._shapes = server.pods(MODELS, {})

    def problems(self) -> list[Problem]:
        """What machines cannot be told."""
        try:
            self._numbers = {
                pool.role: vm.boot(self.plan, pool, container)
                for pool, container in zip(self.pools, self._shapes, strict=True)
            }
        except SpecError as e:
            return list(e.problems)
        return []

    def digest(self, images: Sequence[str]) -> str:
        texts = self._texts(self._shapes, {}, {}, None)
        return standing.digest(self.plan, list(texts.values()), images, self.upload.digest if self.upload else "")

    @property
    def ports(self) -> Mapping[str, int]:
        return self._numbers[self.pools[0].role].ports

    def files(self, site: MachineSite, *, kept: bool) -> ModelFiles | None:
        """The stack's bucket with what this machine has; `kept`: without anything, as long as old machines read it."""
        if self.upload is None:
            return site.upload({}, "") if kept else None
        return site.upload(self.server.assets(self.upload), self.upload.digest)

    def rendered(
        self, site: MachineSite, models: ModelFiles | None, store: Store | None
    ) -> pulumi.Output[dict[str, str]]:
        """What the machines of each pool are told, with the addresses that the cloud gave."""

        def render(given: Mapping[str, Any]) -> dict[str, str]:
            containers = self.server.pods(given["uploaded"], {})
            return self._texts(containers, given["env"], given["secrets"], given["log_group"])

        given = pulumi.Output.all(
            uploaded=models.uri if models else None,
            env=dict(store.env) if store else {},
            secrets=dict(store.machine_secrets) if store else {},
            log_group=site.log_group,
        )
        return given.apply(render)

    def boots(self, texts: pulumi.Output[dict[str, str]], after: Sequence[pulumi.Resource]) -> dict[str, Boot]:
        return {
            role: Boot(user_data=texts[role], after=after, **asdict(numbers)) for role, numbers in self._numbers.items()
        }

    def record(self, digest: str, texts: pulumi.Output[dict[str, str]]) -> pulumi.Output[str]:
        """All that the next update needs to declare these machines again."""

        def packed(texts: Mapping[str, str]) -> str:
            told = {role: Told(user_data=texts[role], **asdict(n)) for role, n in self._numbers.items()}
            plan = replace(self.plan, lines=(), unpriced=(), rejected=(), warnings=())  # what declares no machine
            made = Generation(digest=digest, plan=plan, told=told, uploaded=self.upload is not None)
            return standing.pack(made)

        return texts.apply(packed)

    def _texts(
        self,
        containers: Sequence[ContainerSpec],
        env: Mapping[str, str],
        secrets: Mapping[str, str],
        log_group: str | None,
    ) -> dict[str, str]:
        cloud, each = self.plan.spec.cloud, zip(self.pools, containers, strict=True)
        return {
            pool.role: vm.user_data(c, pool, cloud=cloud, env=env, secrets=secrets, log_group=log_group)
            for pool, c in each
        }


def named_pools(plan: Plan) -> list[Pool]:
    return [replace(pool, role=part) for part, pool in zip(parts(plan), plan.pools, strict=True)]


def _again(
    site: MachineSite, other: Generation, identity: MachineIdentity, after: Sequence[pulumi.Resource]
) -> list[ServingGroup]:
    """An old generation as its own update declared it. Its uploaded files are still in their bucket, under a name that
    says what they hold, though they may be no more on this machine."""
    boots = {role: Boot(after=after, **asdict(told)) for role, told in other.told.items()}
    return [site.group(other.plan, p, other.digest, boots[p.role], identity) for p in named_pools(other.plan)]


def _leaving(digest: str, others: Sequence[Generation], past: Past) -> list[Plan]:
    """Plans of what serves beside the wanted generation during this update, whatever becomes of it at the end: the
    entry asks for what all of them answer, and all may read their models."""
    if others or past.plan is None or past.generation == digest:
        return [g.plan for g in others]
    return [past.plan]


def _when(after: Sequence[pulumi.Resource], value: str) -> pulumi.Output[str]:
    """The value, when all of that stands: an update that fails on the way leaves what the one before recorded."""
    return pulumi.Output.all(*(r.urn for r in after)).apply(lambda _: value)


def _announce(plan: Plan, digest: str, past: Past) -> None:
    """Where the plan is the same and the servers are not: other files, or another version of what starts them."""
    if past.plan is None or past.generation in (None, digest):
        return
    if past.plan.generation == plan.generation:
        pulumi.log.info(f"The servers' files or settings are others: generation {digest} is made beside the old one.")
