"""Google Cloud: the asset inventory knows every resource of a project, by label and by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cli.google import answered, session
from cli.sweep.found import TAG, Thing, is_ours

SEARCH = "https://cloudasset.googleapis.com/v1/projects/{project}:searchAllResources"
FREE = (  # types that cost nothing by themselves
    "cloudkms.googleapis.com/CryptoKey",  # it is never gone; its versions are billed, and destroyed with the stack
    "cloudkms.googleapis.com/KeyRing",
    "compute.googleapis.com/Autoscaler",
    "compute.googleapis.com/BackendService",
    "compute.googleapis.com/Firewall",
    "compute.googleapis.com/HealthCheck",
    "compute.googleapis.com/InstanceGroup",
    "compute.googleapis.com/InstanceGroupManager",  # its machines are billed, and listed
    "compute.googleapis.com/InstanceTemplate",
    "compute.googleapis.com/Network",
    "compute.googleapis.com/Route",
    "compute.googleapis.com/Subnetwork",
    "compute.googleapis.com/TargetHttpProxy",
    "compute.googleapis.com/TargetHttpsProxy",
    "compute.googleapis.com/TargetTcpProxy",
    "compute.googleapis.com/UrlMap",
    "iam.googleapis.com/ServiceAccount",
)
BACKUPS = {  # types that are meant to stay -> fee of a GiB and month
    "bigtableadmin.googleapis.com/Backup": "",
    "firestore.googleapis.com/Backup": "",
    "memorystore.googleapis.com/Backup": "memorystore_backup_storage",
    "memorystore.googleapis.com/BackupCollection": "memorystore_backup_storage",
    "redis.googleapis.com/Backup": "memorystore_backup_storage",
    "redis.googleapis.com/BackupCollection": "memorystore_backup_storage",
}
GONE = ("DELETED", "DELETING", "DELETE_REQUESTED", "DESTROYED")
Get = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]  # address and parameters to the answer's JSON


def things(stack: str, project: str, get: Get, others: tuple[str, ...] = ()) -> Iterator[Thing]:
    seen: set[str] = set()
    for by, query in (("label", f"labels.{TAG}={stack}"), ("name", f"name:{stack}-*")):
        for one in _search(project, query, get):
            name = one["name"].removeprefix("//")
            if name in seen or one.get("state", "") in GONE:
                continue
            if by == "name" and not is_ours(name, stack, others):
                continue
            seen.add(name)
            kind = one["assetType"]
            fee = BACKUPS.get(kind)
            yield Thing(
                kind=kind,
                name=name,
                by=by,
                billable=kind not in FREE,
                remove="",
                backup="" if fee is None else fee or "unpriced",
            )


def _search(project: str, query: str, get: Get) -> Iterator[Mapping[str, Any]]:
    parameters: dict[str, Any] = {"query": query, "pageSize": 500}
    while True:
        page = get(SEARCH.format(project=project), parameters)
        yield from page.get("results", ())
        if not page.get("nextPageToken"):
            return
        parameters["pageToken"] = page["nextPageToken"]


def asking() -> Get:
    """With this machine's credentials."""
    get = session("cloud-platform").get
    fix = "To fix: gcloud services enable cloudasset.googleapis.com, and the role Cloud Asset Viewer"
    return lambda url, parameters: answered(get, url, fix, params=parameters)
