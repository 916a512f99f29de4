"""Blueprint of the shape vm on this machine: ground, store, servers, entry; the cloud says how each is made."""

from __future__ import annotations

from pathlib import Path

import pulumi

from infra.plan import Plan
from infra.stores.store import key_prefix
from serving.envoy import Entry, bootstrap
from serving.process import HOME, NAME, OPEN, REPOSITORY, process
from serving.triton import Store
from stacks import registry
from stacks.outputs import StackOutputs
from stacks.past import Past

DRAIN_MARGIN_S = 5.0  # beyond the longest allowed request


def build(plan: Plan, *, stack: str, project: Path, past: Past) -> StackOutputs:
    """Declares everything from the plan. What is wrong with a model is said before the first resource."""
    spec = plan.spec
    here = registry.cloud(spec.cloud)
    server_kind = registry.server(spec.server)
    ports = here.Ports.of(spec.port)
    store_kind = registry.store(spec.feature_store)
    store = None if store_kind is None else Store(url=store_kind.url(ports), key_prefix=key_prefix(stack))
    container = server_kind.container(
        plan, spec.cloud, name=NAME, project=project, models_path=REPOSITORY, ports=OPEN, home=HOME, store=store
    )
    entry = Entry(
        address="127.0.0.1",
        http_port=ports.http,
        grpc_port=ports.grpc,
        admin_port=ports.admin,
        endpoints_folder="${endpoints}",
        max_request_s=spec.max_request_s,
        node=stack,
    )
    config = bootstrap(entry)
    place = here.Place(plan, stack=stack, project=project)
    after = [] if store_kind is None else store_kind.build(place, plan)
    generation, servers = place.serve(process(container, project), after)
    place.enter(config, servers, spec.max_request_s + DRAIN_MARGIN_S)
    return StackOutputs(
        url_http=f"http://127.0.0.1:{ports.http}",
        url_grpc=f"127.0.0.1:{ports.grpc}",
        url_metrics=[
            *(pulumi.Output.concat("http://127.0.0.1:", s.metrics_port.apply(_whole), "/metrics") for s in servers),
            f"http://127.0.0.1:{ports.admin}/stats/prometheus",
        ],
        url_admin=f"http://127.0.0.1:{ports.admin}",
        redis=None if store is None else store.url,
        plan=plan.to_json(),
        models=list(server_kind.served_names(plan, project=project, target=spec.cloud, store=store)),
        generation=generation,
        next=[f"slipway {verb} {stack}" for verb in ("status", "predict", "load", "switch", "destroy")],
    )


def _whole(port: float) -> str:
    """Numbers come back from the engine as floats."""
    return str(int(port))
