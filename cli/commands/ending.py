"""The steps around a destroy: the store's backup before it, protection taken off, and the look at the account after."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cli.engines.base import outputs, resources
from cli.errors import USAGE, CliError
from cli.models.sessions import Sessions
from cli.session import Session

if TYPE_CHECKING:
    from cli.sweep.look import Seen
    from infra.spec import Spec

GRACE_S, EVERY_S = 300.0, 30.0  # an inventory of a cloud follows a deletion within minutes


def back_up(session: Session) -> None:
    """The store's content to `backup_uri`, read again and counted. A destroy that was cut off goes on with the same
    backup, and one whose store is gone already has nothing to back up."""
    from cli.stores import keep
    from cli.stores.remote import KINDS, standing

    spec, notes = _spec(session), _notes(session)
    if _simulated(session, spec):
        raise CliError(
            f"--backup: the cloud of stack '{session.stack}' is simulated, or this machine itself: its store holds "
            "what was loaded into it, and nothing else. To fix: leave --backup out",
            USAGE,
        )
    if spec.feature_store == "none":
        session.say("no store: nothing to back up")
        return
    name = notes.get("destroy") or f"destroy-{keep.today()}"
    keep.folder(spec, session.stack, name)  # says at once where there is no backup_uri
    rows = resources(session.engine.export(session.stack))
    if not any(r["type"] in KINDS for r in rows):
        if outputs(session.engine.export(session.stack)).get("store") and notes.get("destroy") is None:
            raise CliError(f"--backup: the store of stack '{session.stack}' is in no state any more", USAGE)
        session.say("the store was backed up and is gone" if notes.get("destroy") else "no store: nothing to back up")
        return
    notes.put("destroy", name)
    keep.kept(session, standing(session), spec, name)


def unprotect(session: Session, protected: list[str]) -> None:
    """In the cloud by an update of the stack with `protect: false`, then in the state."""
    spec = _spec(session)
    if spec.protect and spec.cloud != "local":
        from cli import lifecycle

        session.say("taking the protection off in the cloud: an update with protect: false")
        outcome = lifecycle.run(session, "up", {"slipway:protect": "false"})
        if not outcome.ok:
            lifecycle.finish(session, outcome, f"To go on after the cause is gone: slipway destroy {session.stack}")
    changed = copy.deepcopy(session.engine.export(session.stack) or {})
    for resource in changed["deployment"]["resources"]:
        resource.pop("protect", None)
    session.engine.replace(session.stack, changed)
    session.say(f"unprotected {len(protected)} resources")


def swept(session: Session) -> Seen:
    """What the account still has. Without credentials, and where clouds are simulated, it says that nobody looked."""
    from cli.errors import NoCredentialsError
    from cli.sweep.look import Seen, look

    nothing = Seen(left=(), backups=())
    try:
        spec = _spec(session)
    except CliError as e:
        session.say(f"not looked for leftovers in a cloud: the configuration does not hold: {e.problems[0]}")
        return nothing
    if spec.cloud == "local":
        return nothing
    if _simulated(session, spec):
        session.say("not looked for leftovers: the clouds of this engine are simulated")
        return nothing
    until = time.monotonic() + GRACE_S
    try:
        while (seen := look(session, spec)).left and time.monotonic() < until:
            session.say(
                f"{len(seen.left)} things are still listed; clouds list for minutes what is gone: looking again"
            )
            time.sleep(EVERY_S)
        return seen
    except NoCredentialsError as e:
        session.say(f"not looked for leftovers: {e.problems[0]}; then: slipway sweep {session.stack}")
        return nothing


def looked(seen: Seen) -> str:
    kept = f"; {len(seen.backups)} backups stay" if seen.backups else ""
    return f"no process, socket, shared memory or file is left{kept}"


def forget(session: Session) -> None:
    """What an empty stack leaves on this machine."""
    _file(session).unlink(missing_ok=True)
    session.engine.forget(session.stack)


def _file(session: Session) -> Path:
    return session.project.folder / ".slipway" / f"operations-{session.stack}.json"


def _notes(session: Session) -> Sessions:
    return Sessions(_file(session))


def _simulated(session: Session, spec: Spec) -> bool:
    """The embedded engine has no real clouds."""
    return spec.cloud == "local" or session.engine.name == "embedded"


def _spec(session: Session) -> Spec:
    from cli.plans import specification

    return specification(session.project, session.stack, {})
