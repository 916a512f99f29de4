"""Blueprint of the shape kubernetes: ground, store, services, one generation of servers, entry; the cloud says how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from infra.clouds.site import EntryAddress, KubernetesSite
from infra.plan import Plan
from infra.spec import SpecError
from infra.stores.store import Store
from serving import kubernetes as serving
from stacks import registry
from stacks.batch import run_batch
from stacks.cluster import Ground, ground
from stacks.entry import enter
from stacks.generation import groups, places, serve
from stacks.models import absent, reads
from stacks.objects import Objects
from stacks.outputs import StackOutputs
from stacks.past import Past
from stacks.server import Server

DASHBOARDS = ["kubectl -n slipway-system port-forward service/prometheus-server 9090 (then http://127.0.0.1:9090)"]
MODELS = "MODELS"  # stands for the address of uploaded files where only the shape of a container is asked for


def build(plan: Plan, *, stack: str, project: Path, past: Past) -> StackOutputs:
    """Declares everything from the plan; what is wrong with a model is said before the first resource."""
    server = Server(plan, project, stack)
    upload = server.uploads()
    shapes = server.pods(MODELS, {})
    generation = serving.generation(plan, shapes, upload.digest if upload else "")
    site: KubernetesSite = registry.cloud(plan.spec.cloud).Site(plan, stack=stack)
    missing = absent(site, plan, stack)
    if missing:
        raise SpecError(missing)
    site.build()
    models = None if upload is None else site.upload(server.assets(upload), upload.digest)
    kind = registry.store(plan.spec.feature_store)
    store: Store | None = None if kind is None else kind.build(site.ground, plan, past.store)
    objects = Objects(site.kubernetes)
    grants = [*reads(plan, models), *(store.grants if store else ())]
    identity = site.identity(serving.NAMESPACE, serving.SERVERS, grants)
    given = Ground(plan=plan, stack=stack, store=store, annotations=identity.annotations, container=shapes[0])
    standing = ground(objects, site, given)
    placed = places(site, plan, generation)
    containers = server.pods(models.uri if models else None, standing.env)
    serve(
        objects,
        plan,
        list(groups(plan, containers, placed)),
        standing.services,
        stack=stack,
        generation=generation,
        after=[*standing.after, *identity.after, *(models.after if models else ()), *(store.after if store else ())],
        pools=placed,
    )
    address = enter(objects, site, plan, stack=stack, container=shapes[0], after=standing.after)
    run_batch(objects, site, plan, stack=stack, after=standing.after)
    return _outputs(plan, site, address, store, stack=stack, models=server.names(), generation=generation)


def _outputs(
    plan: Plan,
    site: KubernetesSite,
    address: EntryAddress,
    store: Store | None,
    *,
    stack: str,
    models: Sequence[str],
    generation: str,
) -> StackOutputs:
    return StackOutputs(
        url_http=address.http,
        url_grpc=address.grpc,
        reachable_from=address.reachable_from,
        kubeconfig_command=site.kubeconfig_command,
        dashboards=DASHBOARDS,
        store=dict(store.fingerprint) if store else None,
        usd_per_month=asdict(plan.usd_per_month),
        plan=plan.to_json(),
        models=list(models),
        generation=generation,
        next=[f"slipway {verb} {stack}" for verb in ("status", "predict", "load", "switch", "destroy")],
    )
