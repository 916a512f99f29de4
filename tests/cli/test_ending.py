"""destroy --backup, the sweep behind it, and `slipway store`, on a stack of AWS whose account is moto's server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from cli_project import ROOT, Command, deployment

from cli import lifecycle
from cli.engines.base import Outcome
from cli.errors import FAILED, LEFTOVERS, OK, REFUSED, USAGE

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (extra `aws`)")
server = pytest.importorskip("moto.server", reason="moto is not installed (extra `test`)")
pytest.importorskip("flask", reason="moto's server needs flask (extra `test`)")

pytestmark = pytest.mark.slow  # processes of the command's own, and every service of an account
TABLE = {
    "urn": "urn:pulumi:dev::slipway::aws:dynamodb/table:Table::store",
    "type": "aws:dynamodb/table:Table",
    "custom": True,
    "id": "dev-store",
}
STORE = {"kind": "dynamodb", "region": "us-east-1", "url": "dynamodb://us-east-1/dev-store", "data_bytes": 10**9}
ENTITIES = 25


@pytest.fixture(scope="module")
def account() -> Iterator[str]:
    made = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    made.start()
    yield "http://{}:{}".format(*made.get_host_and_port())
    made.stop()


@pytest.fixture
def aws(account: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A fresh account with a table and a bucket for backups; the command's own processes ask it as well."""
    values = {"AWS_ENDPOINT_URL": account, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    for key, value in (*values.items(), ("SLIPWAY_STORE_WORK", json.dumps({"pause_s": 0.01}))):
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("cli.commands.ending.EVERY_S", 0.01)
    monkeypatch.setattr("cli.commands.ending.GRACE_S", 0.0)
    boto3.setup_default_session()
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="backups")
    client = boto3.client("dynamodb", region_name="us-east-1")
    client.create_table(
        TableName="dev-store",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.update_continuous_backups(
        TableName="dev-store", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    for i in range(ENTITIES):
        client.put_item(TableName="dev-store", Item={"id": {"S": f"dev:features:{i}"}, "v": {"S": "x"}})
    yield boto3.client
    urllib.request.urlopen(urllib.request.Request(f"{account}/moto-api/reset", method="POST"), timeout=10).close()


@pytest.fixture
def stack(slipway: Command) -> Command:
    """A stack `dev` that stands, as far as a `pulumi` of the test's own says."""
    text = (ROOT / "stacks/config/Pulumi.eks-cpu.yaml").read_text()
    (slipway.folder / "stacks/config/Pulumi.dev.yaml").write_text(f"{text}  slipway:backup_uri: s3://backups/kept\n")
    slipway.pulumi(export=deployment(TABLE, store=STORE))
    return slipway


def destroyed(stack: Command, aws: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Pulumi would do, in the account: the table goes. Gives the objects that lay in the bucket by then."""
    kept: list[str] = []

    def run(session: Any, command: str, changed: Any = None) -> Outcome:
        assert command == "destroy"
        found = aws("s3", region_name="us-east-1").list_objects_v2(Bucket="backups").get("Contents", ())
        kept.extend(o["Key"] for o in found)
        aws("dynamodb", region_name="us-east-1").delete_table(TableName="dev-store")
        stack.pulumi(export=deployment())
        return Outcome(ok=True, changes={"delete": 1})

    monkeypatch.setattr(lifecycle, "run", run)
    return kept


def test_a_store_is_backed_up_counted_and_only_then_destroyed(
    stack: Command, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = destroyed(stack, aws, monkeypatch)
    said = stack("destroy", "dev", "--backup", "--yes")
    assert said.code == OK, said.err
    assert f"{ENTITIES} entities" in said.out
    (seal,) = [k for k in kept if k.endswith("/slipway.json")]
    assert seal.startswith("kept/dev/destroy-"), "the backup was whole before the destroy began"
    assert "kept: export s3://backups/kept/dev/destroy-" in said.out
    assert "$0.0" in said.out
    assert "1 backups stay" in said.out
    assert not (stack.folder / ".slipway/operations-dev.json").exists()
    swept = stack("sweep", "dev", "--json")
    assert swept.code == OK, "a backup is no leftover"
    (row,) = swept.json()["backups"]
    assert row["remove"].startswith("aws s3 rm --recursive s3://backups/kept/dev/destroy-")


def test_a_backup_that_is_not_whole_destroys_nothing(stack: Command, aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    destroyed(stack, aws, monkeypatch)
    aws("s3", region_name="us-east-1").delete_bucket(Bucket="backups")
    said = stack("destroy", "dev", "--backup", "--yes")
    assert said.code == FAILED
    assert "NoSuchBucket" in said.err
    tables = aws("dynamodb", region_name="us-east-1").list_tables()["TableNames"]
    assert tables == ["dev-store"]
    noted = json.loads((stack.folder / ".slipway/operations-dev.json").read_text())
    assert noted["destroy"].startswith("destroy-")
    aws("s3", region_name="us-east-1").create_bucket(Bucket="backups")
    said = stack("destroy", "dev", "--backup", "--yes")
    assert said.code == OK, said.err
    assert f"s3://backups/kept/dev/{noted['destroy']}" in said.out, "the next run goes on with the same backup"


def test_a_killed_destroy_goes_on_with_the_same_backup(
    stack: Command, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of the command and its own process while the cloud exports; nothing is destroyed, nothing begun twice."""
    from moto.dynamodb.models.table_export import TableExport

    let_it_end, real = threading.Event(), TableExport.run

    def held(export: Any) -> None:
        let_it_end.wait(60)
        real(export)

    monkeypatch.setattr(TableExport, "run", held)
    client = aws("dynamodb", region_name="us-east-1")
    arn = client.describe_table(TableName="dev-store")["Table"]["TableArn"]
    command = [sys.executable, "-c", "from cli.main import main; main()", "--project", str(stack.folder)]
    with subprocess.Popen(
        [*command, "destroy", "dev", "--backup", "--yes"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "IN_PROGRESS" in line:
                os.killpg(process.pid, signal.SIGKILL)
    assert not [c for c in stack.calls() if c[0] == "destroy"]
    let_it_end.set()
    kept = destroyed(stack, aws, monkeypatch)
    said = stack("destroy", "dev", "--backup", "--yes")
    assert said.code == OK, said.err
    assert "was begun before" in said.out
    assert len(client.list_exports(TableArn=arn)["ExportSummaries"]) == 1
    assert [k for k in kept if k.endswith("/slipway.json")]


def test_what_a_destroy_leaves_in_the_account_fails_it(stack: Command, aws: Any) -> None:
    """Pulumi says that all is gone, and the table is there: by its name."""
    stack.pulumi(export=deployment())
    said = stack("destroy", "dev", "--yes")
    assert said.code == LEFTOVERS
    assert "DynamoDB table dev-store  remove: aws dynamodb delete-table --table-name dev-store" in said.err


def test_without_credentials_it_says_that_it_did_not_look(stack: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(stack.folder))
    boto3.setup_default_session()
    stack.pulumi(export=deployment())
    said = stack("destroy", "dev", "--yes")
    assert said.code == OK
    assert "not looked for leftovers: no credentials of AWS" in said.out
    assert "slipway sweep dev" in said.out


def test_protection_is_taken_off_in_the_cloud_first(stack: Command, aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = stack.folder / "stacks/config/Pulumi.dev.yaml"
    config.write_text(config.read_text() + "  slipway:protect: true\n")
    stack.pulumi(export=deployment({**TABLE, "protect": True}, store=STORE))
    assert stack("destroy", "dev", "--yes").code == REFUSED
    asked: list[tuple[str, Any]] = []

    def run(session: Any, command: str, changed: Any = None) -> Outcome:
        asked.append((command, changed))
        if command == "destroy":
            exported = session.engine.export("dev")["deployment"]["resources"]
            assert not [r for r in exported if r.get("protect")]
            aws("dynamodb", region_name="us-east-1").delete_table(TableName="dev-store")
        return Outcome(ok=True)

    monkeypatch.setattr(lifecycle, "run", run)
    assert stack("destroy", "dev", "--yes", "--unprotect").code == OK
    assert asked == [("up", {"slipway:protect": "false"}), ("destroy", None)]


def test_a_backup_needs_a_place_and_a_real_cloud(stack: Command, slipway: Command) -> None:
    config = stack.folder / "stacks/config/Pulumi.dev.yaml"
    config.write_text(config.read_text().replace("  slipway:backup_uri: s3://backups/kept\n", ""))
    said = stack("destroy", "dev", "--backup", "--yes")
    assert (said.code, "backup_uri: not set" in said.err) == (USAGE, True)
    slipway.pulumi(export=deployment({**TABLE, "type": "slipway:local:Redis"}))
    said = slipway("destroy", "local", "--backup", "--yes")
    assert (said.code, "this machine itself" in said.err) == (USAGE, True)


def test_a_store_from_status_to_restore(stack: Command, aws: Any) -> None:
    said = stack("store", "status", "dev", "--json")
    assert said.json()["entities"] == ENTITIES
    said = stack("store", "backup", "dev", "--name", "one", "--yes")
    assert said.code == OK, said.err
    assert "a month, until you delete it" in said.out
    arn = said.out.splitlines()[-2].rpartition(" ")[2]
    said = stack("store", "restore", "dev", arn, "--yes")
    assert (said.code, "something new alone" in said.err) == (USAGE, True)
    said = stack("store", "restore", "dev", arn, "dev-again", "--yes")
    assert f"dev-again is there with {ENTITIES} entities" in said.out
    assert "once" in said.out
    said = stack("store", "backup", "dev", "--name", "two", "--export", "--yes")
    assert f"{ENTITIES} entities" in said.out
    said = stack("store", "restore", "dev", "two", "dev-third", "--yes")
    assert "dev-third is there" in said.out
    assert stack("store", "status", "dev", "--json").json()["exports"] == ["s3://backups/kept/dev/two"]
    swept = stack("sweep", "dev", "--json")
    assert [b["kind"] for b in swept.json()["backups"]] == ["DynamoDB backup", "export"]
    assert [t["name"] for t in swept.json()["leftovers"]] == ["dev-again", "dev-third"]


def test_a_size_is_the_configurations(stack: Command, aws: Any) -> None:
    config = stack.folder / "stacks/config/Pulumi.dev.yaml"
    said = stack("store", "resize", "dev", "--keys", "3000000", "--now", "--yes")
    assert said.code == OK, said.err
    assert "grows by itself" in said.out
    assert "{keys: 3000000, value_bytes: 512, writes_per_s: 50}" in config.read_text()
    config.write_text(config.read_text().replace("keys: 3000000", "capacity: provisioned, keys: 3000000"))
    for word in ("Read", "Write"):
        aws("application-autoscaling", region_name="us-east-1").register_scalable_target(
            ServiceNamespace="dynamodb",
            ResourceId="table/dev-store",
            ScalableDimension=f"dynamodb:table:{word}CapacityUnits",
            MinCapacity=1,
            MaxCapacity=2,
        )
    said = stack("store", "resize", "dev", "--writes", "100", "--now", "--yes")
    assert said.code == OK, said.err
    assert "the next `up` asks for the same" in said.out
    assert "writes_per_s: 100" in config.read_text()
    assert "bill of the store: $" in said.out
    assert stack("store", "resize", "dev").code == USAGE
    assert stack("store", "failover", "dev", "--yes").code == USAGE
