"""One look at a stack's account: what no state knows, and the backups, which are meant to stay, with their cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cli.engines.base import resources
from cli.errors import USAGE, CliError, NoCredentialsError
from cli.session import Session
from cli.sweep.found import Thing

if TYPE_CHECKING:
    from infra.spec import Spec

GB = Decimal(10**9)
UNPRICED = "a price that the catalogue does not have"


@dataclass(frozen=True, kw_only=True)
class Backup:
    """Something that outlives its stack on purpose."""

    name: str
    kind: str
    bytes: int | None
    usd_month: Decimal | None
    remove: str

    def __str__(self) -> str:
        size = "of a size that is not said" if self.bytes is None else f"{self.bytes / 10**9:.3f} GB"
        month = UNPRICED if self.usd_month is None else f"${self.usd_month}"
        remove = f"  remove: {self.remove}" if self.remove else ""
        return f"{self.kind} {self.name}: {size}, {month} a month{remove}"


@dataclass(frozen=True, kw_only=True)
class Seen:
    left: tuple[Thing, ...]
    backups: tuple[Backup, ...]

    def to_json(self) -> dict[str, Any]:
        return {"leftovers": [asdict(t) for t in self.left], "backups": [asdict(b) for b in self.backups]}


def look(session: Session, spec: Spec, *, everything: bool = False) -> Seen:
    """Asks the cloud; raises where it cannot, as silence must not look like nothing."""
    others = tuple(session.project.stacks())
    known = {str(r["id"]) for r in resources(session.engine.export(session.stack)) if r.get("id")}
    found = [t for t in _things(spec, session.stack, others) if not _stands(t.name, known)]
    left = [t for t in found if not t.backup and (everything or t.billable)]
    own = [_priced(t, spec.cloud) for t in found if t.backup]
    return Seen(left=tuple(left), backups=(*own, *_unlabelled(session, spec), *_exports(session, spec)))


def _things(spec: Spec, stack: str, others: tuple[str, ...]) -> Iterator[Thing]:
    if spec.cloud == "aws":
        import boto3

        from cli.sweep import aws

        session = boto3.Session(region_name=spec.region)
        if session.get_credentials() is None:
            raise NoCredentialsError("no credentials of AWS. To fix: aws configure sso, or set AWS_PROFILE", USAGE)
        return aws.things(stack, session.client, others)
    if spec.cloud == "gcp":
        from cli.sweep import gcp

        return gcp.things(stack, str(spec.project), gcp.asking(), others)
    raise CliError(f"cloud {spec.cloud} has no account to sweep; slipway destroy looks at this machine", USAGE)


def _stands(name: str, known: set[str]) -> bool:
    """Whether a resource of the state is this: ids are names, paths or ARNs, and so are names here."""
    return name in known or any(name.endswith(f"/{k}") or k.endswith((f"/{name}", f":{name}")) for k in known)


def _priced(thing: Thing, cloud: str) -> Backup:
    from infra.catalog import load

    price = None if thing.backup == "unpriced" else load().fee(cloud, thing.backup).usd
    usd = None if price is None or thing.bytes is None else (thing.bytes / GB * price).quantize(Decimal("0.01"))
    return Backup(name=thing.name, kind=thing.kind, bytes=thing.bytes, usd_month=usd, remove=thing.remove)


def _unlabelled(session: Session, spec: Spec) -> Iterator[Backup]:
    """Backups of Valkey bear neither label nor the stack's name: their service is asked by the instance's name."""
    from infra.plan import store as sizes

    if spec.feature_store != "memorystore" or sizes.engine(spec) != "valkey":
        return
    from cli.stores.remote import Standing, work
    from infra.catalog import load
    from infra.clouds.naming import physical
    from infra.stores.valkey import INSTANCE

    name = physical(INSTANCE, session.stack, "store")
    resource = f"projects/{spec.project}/locations/{spec.region}/instances/{name}"
    price = load().fee("gcp", "memorystore_backup_storage").usd
    for row in work(session, Standing(store="valkey", resource=resource, url="", region=""), "kept")["backups"]:
        usd = None if price is None else (row["bytes"] / GB * price).quantize(Decimal("0.01"))
        remove = f"gcloud memorystore backups delete {row['name']}"
        yield Backup(name=row["name"], kind="Valkey backup", bytes=row["bytes"], usd_month=usd, remove=remove)


def _exports(session: Session, spec: Spec) -> Iterator[Backup]:
    """What lies below `backup_uri` for this stack."""
    from cli.stores import costs, keep
    from infra.catalog import load

    tool = {"aws": "aws s3 rm --recursive", "gcp": "gcloud storage rm --recursive"}
    for row in keep.listed(session, spec):
        usd = costs.kept(spec.cloud, row["bytes"], load())
        where = row["where"]
        yield Backup(name=where, kind="export", bytes=row["bytes"], usd_month=usd, remove=f"{tool[spec.cloud]} {where}")
