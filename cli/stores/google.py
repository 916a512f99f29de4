"""Google's clients over REST, and how their long operations are begun once, told about and gone on with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from google.api_core import exceptions
from google.auth import credentials as auth

from cli.errors import CliError
from cli.stores.job import WAIT_S, Job


class Operation(Protocol):
    """google.longrunning.Operation, which has no types of its own."""

    name: str
    done: bool
    metadata: Any
    error: Any


def client(kind: Any, job: Job) -> Any:
    """With this machine's credentials; an endpoint of one's own is asked without any."""
    if not job.endpoint:
        return kind(transport="rest")
    return kind(
        transport="rest",
        credentials=auth.AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": job.endpoint},
    )


def finished(
    api: Any,
    job: Job,
    what: str,
    start: Callable[[], Any],
    *,
    running: Callable[[], Iterable[Operation]],
    progress: Callable[[Operation], str] = lambda _: "under way",
    fix: str = "",
) -> Operation:
    """The operation, done. One that an earlier run began is found in the notes, or among those under way."""
    key = job.key(what)
    name = job.notes.get(key)
    operation = _known(api, name) if name else None
    if operation is None:
        operation = next((o for o in running() if not o.done), None)
    if operation is not None:
        job.tell(f"{what}: was begun before")
    else:
        operation = start().operation
    job.notes.put(key, operation.name)
    until, told = time.monotonic() + WAIT_S, ""
    while not operation.done:
        if time.monotonic() > until:
            raise CliError(f"{what}: not done after {WAIT_S / 3600:.0f} hours. To go on: the same command")
        said = f"{what}: {progress(operation)}"
        if said != told:
            job.tell(said)
            told = said
        time.sleep(job.pause_s)
        operation = api.get_operation({"name": operation.name})
    job.notes.drop(key)
    if operation.error.code:
        raise CliError(f"{what}: {operation.error.message}" + (f". To fix: {fix}" if fix else ""))
    return operation


def _known(api: Any, name: str) -> Operation | None:
    """An operation that was noted; the clouds forget old ones."""
    try:
        found: Operation = api.get_operation({"name": name})
    except exceptions.NotFound:
        return None
    return found


def of_target(api: Any, parent: str, metadata: Any, target: str, verb: str) -> Callable[[], list[Operation]]:
    """Operations of a location that concern one resource: a run that was killed before it noted the name finds it."""

    def found() -> list[Operation]:
        every = api.list_operations({"name": parent}).operations
        known = ((o, metadata.deserialize(o.metadata.value)) for o in every if not o.done)
        return [o for o, about in known if about.target == target and verb in about.verb.lower()]

    return found
