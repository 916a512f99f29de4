"""One operation on a store, in a process of its own: `python -m cli.stores.work`.

Google's clients and the engine's gRPC cannot be loaded into one process. It reads what to do as JSON from stdin, and
tells how it goes, and what became of it, as lines of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cli.errors import FAILED, USAGE, CliError
from cli.models.bucket import Bucket, open_bucket
from cli.models.sessions import Sessions
from cli.stores.job import MANIFEST, PAUSE_S, Counted, Folder, Job

GOOGLE = ("memorystore", "valkey", "firestore", "bigtable")
FIELDS = ("stack", "resource", "url", "region", "name", "target", "sizes", "endpoint")
ONLY = {"failover": ("memorystore", "elasticache"), "maintenance": ("memorystore", "valkey")}


def main() -> None:
    asked = json.load(sys.stdin)

    def tell(text: str) -> None:
        _say({"say": text})

    try:
        _say({"result": run(asked, tell)})
        code = 0
    except CliError as e:
        _say({"error": list(e.problems), "code": e.code})
        code = e.code
    except ModuleNotFoundError as e:
        _say(
            {"error": [f"the package {e.name} is not installed. To fix: pip install -e '.[stores,aws]'"], "code": USAGE}
        )
        code = USAGE
    sys.stdout.flush()
    os._exit(code)  # Google's clients keep threads


def _say(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


def run(asked: Mapping[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """`operation` of `store` with the fields of a Job; `folder`: address below backup_uri."""
    store, operation = str(asked["store"]), str(asked["operation"])
    if operation in ONLY and store not in ONLY[operation]:
        raise CliError(f"{store} has no {operation}; allowed: {', '.join(ONLY[operation])}", USAGE)
    state = Path(asked["state"])
    job = Job(
        folder=_folder(str(asked["folder"]), state, asked) if asked.get("folder") else None,
        notes=Sessions(state / f"operations-{asked['stack']}.json"),
        tell=tell,
        pause_s=float(asked.get("pause_s", PAUSE_S)),
        **{k: asked[k] for k in FIELDS if k in asked},
    )
    found = _google(store, operation, job) if store in GOOGLE else _amazon(store, operation, job)
    if isinstance(found, Counted):
        return _sealed(job, store, found)
    return dict(found)


def _sealed(job: Job, store: str, found: Counted) -> dict[str, Any]:
    """A backup that was read again and is whole says so in its folder."""
    folder = job.need_folder()
    found.check(folder.uri)
    about = {"store": store, "stack": job.stack, "resource": job.resource, **asdict(found)}
    if folder.json(MANIFEST) != about:
        folder.put_json(MANIFEST, about)
    return about


def _google(store: str, operation: str, job: Job) -> Any:
    from google.api_core import exceptions
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from google.cloud.bigtable.data import MutationsExceptionGroup
    from requests import RequestException

    module = import_module(f"cli.stores.{store}")
    if not hasattr(module, operation):
        raise CliError(f"{store} grows by itself: there is nothing to {operation}", USAGE)
    try:
        return getattr(module, operation)(job)
    except (DefaultCredentialsError, GoogleAuthError) as e:
        raise CliError(f"{e} To fix: gcloud auth application-default login", USAGE) from None
    except (exceptions.GoogleAPICallError, exceptions.RetryError, MutationsExceptionGroup, RequestException) as e:
        raise CliError(f"{store} {operation}: {getattr(e, 'message', e)}. To go on: the same command", FAILED) from e


def _amazon(store: str, operation: str, job: Job) -> Any:
    import boto3

    from cli.stores import dynamodb, dynamodb_export, elasticache

    region = urlsplit(job.url).hostname if store == "dynamodb" else job.region
    session = boto3.Session(region_name=region)
    if session.get_credentials() is None:
        raise CliError("no credentials of AWS. To fix: aws configure sso, or set AWS_PROFILE", USAGE)
    client = session.client(store)
    if store == "elasticache":
        do = getattr(elasticache, operation)
        return do(job) if operation == "counted" else do(job, client)
    table = urlsplit(job.url).path.strip("/")
    if operation == "counted":
        return dynamodb_export.counted(job)
    if operation == "resize":
        return dynamodb_export.resize(job, session.client("application-autoscaling"), table)
    if operation == "status":
        return dynamodb.status(client, table)
    if operation == "backup":
        if job.folder is not None:
            return dynamodb_export.export(job, client, table)
        return {"backup": dynamodb.backup(client, table, job.name, job.tell, job.pause_s)}
    if job.folder is not None:
        return dynamodb_export.restore(job, client)
    return {"into": job.target, "entities": dynamodb.restore(client, job.name, job.target, job.tell, job.pause_s)}


def _folder(uri: str, state: Path, asked: Mapping[str, Any]) -> Folder:
    bucket, prefix = _opened(uri, state / "uploads.json", str(asked.get("storage", "")))
    return Folder(uri=uri.rstrip("/"), bucket=bucket, prefix=prefix)


def _opened(uri: str, state: Path, storage: str) -> tuple[Bucket, str]:
    """`storage`: in place of Cloud Storage's own address, with the token that SLIPWAY_STORAGE_TOKEN holds."""
    if not storage:
        return open_bucket(uri, state)
    import requests

    from cli.models.gs import Gs

    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {os.environ['SLIPWAY_STORAGE_TOKEN']}"
    name, _, path = uri.removeprefix("gs://").partition("/")
    return Gs(name, state, session, storage), path.strip("/") + "/"


if __name__ == "__main__":
    main()
