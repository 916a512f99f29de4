"""How a store is reached from here: at its own address, or over the stack's own ground where it is private."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cli.errors import CliError
from cli.session import Session

if TYPE_CHECKING:
    from infra.spec import Spec

GIVEN = {"SLIPWAY_STORE_PASSWORD": "password", "SLIPWAY_STORE_CA": "ca"}  # by who runs inside the network


@dataclass(frozen=True, kw_only=True)
class Reached:
    url: str
    via: int | None = None  # a port of this machine that stands for the store's address
    secrets: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"url": self.url, "via": self.via, "secrets": self.secrets}


@contextmanager
def reached(session: Session, spec: Spec) -> Iterator[Reached]:
    """APIs of a cloud, and the local stack's redis, answer here. Redis and Valkey of a cloud are private."""
    url = _url(session)
    given = {word: os.environ[name] for name, word in GIVEN.items() if name in os.environ}
    if spec.cloud in ("local", "on-prem") or not url.startswith(("redis:", "rediss:")) or given:
        yield Reached(url=url, secrets=given)
        return
    outputs = session.outputs()
    if spec.shape == "kubernetes":
        from cli.features.cluster import relayed
        from cli.plans import recorded
        from serving.images import stock

        plan, command = recorded(outputs), outputs.get("kubeconfig_command")
        if plan is None or not command:
            raise CliError(f"stack '{session.stack}' does not say how its cluster is reached. To fix: slipway up")
        with relayed(session.stack, url, str(command), stock(plan, "python"), session.say) as (port, secrets):
            yield Reached(url=url, via=port, secrets=secrets)
        return
    if spec.cloud == "gcp":
        from cli.engines.base import resources
        from cli.features import one_shot

        rows = resources(session.engine.export(session.stack))
        where = one_shot.place(session.stack, rows)
        secrets = one_shot.store_secrets(where.project, rows)  # before a machine is made
        with one_shot.carried(where, url, session.say) as port:
            yield Reached(url=url, via=port, secrets=secrets)
        return
    from cli.features.machines import by_session_manager
    from cli.stores.remote import standing

    secret = standing(session).secret
    with by_session_manager(session.stack, url, str(spec.region), secret, session.say) as (port, secrets):
        yield Reached(url=url, via=port, secrets=secrets)


def _url(session: Session) -> str:
    outputs = session.outputs()
    url = outputs.get("redis") or (outputs.get("store") or {}).get("url")
    if not url:
        raise CliError(f"stack '{session.stack}' has no store that stands. To fix: slipway up {session.stack}")
    return str(url)
