"""`slipway models`: what is uploaded where, what goes on after a cut, what is refused, and which version is served."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
import yaml
from cli_project import ROOT, Said
from moto import mock_aws
from typer.testing import CliRunner

from cli.errors import FAILED, OK, USAGE, CliError
from cli.main import app
from cli.models import bucket, edit, gs, s3
from infra.spec import parse
from serving.repository import layout
from tests.serving.buckets import TOKEN, Storage, storage

DIGITS = ROOT / "serving/samples/digits/digits.onnx"
STACK = """\
# a stack of the tests
config:
  slipway:cloud: gcp
  slipway:project: my-project
  slipway:region: us-central1
  slipway:admin_cidrs: [203.0.113.0/24]
  slipway:models:  # one
    - {name: digits, storage_uri: "gs://models/digits", version: 1, max_batch: 8, profile: {vcpu: {base_ms: 2.0, per_item_ms: 0.9}}}
  slipway:load: {mean_rps: 30, peak_rps: 120}
  slipway:slo: {p99_ms: 60}
"""  # noqa: E501


@pytest.fixture
def remote() -> Iterator[Storage]:
    with storage() as server:
        yield server


class Project:
    """A project with one cloud stack, and `slipway` in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "stacks/config/Pulumi.web.yaml"
        self.config.parent.mkdir(parents=True)
        (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
        self.config.write_text(STACK)

    def __call__(self, *args: str) -> Said:
        result = CliRunner().invoke(app, ["--project", str(self.folder), "models", *args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)


def session() -> requests.Session:
    made = requests.Session()
    made.headers["Authorization"] = f"Bearer {TOKEN}"
    return made


@pytest.fixture
def project(tmp_path: Path, remote: Storage, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(gs, "opened", lambda name, state: gs.Gs(name, state, session(), remote.url))
    return Project(tmp_path / "project")


def version(project: Project) -> int:
    return int(yaml.safe_load(project.config.read_text())["config"]["slipway:models"][0]["version"])


def test_a_push_lays_out_the_version_and_leaves_the_rest(project: Project, remote: Storage) -> None:
    said = project("push", "web", f"digits={DIGITS}", "--no-check")
    assert (said.code, said.err) == (OK, "")
    assert remote.keys("models") == ["digits/1/model.onnx"]
    assert remote.content("models", "digits/1/model.onnx") == DIGITS.read_bytes()
    assert remote.metadata["models", "digits/1/model.onnx"] == {
        bucket.DIGEST: hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    }
    assert project.config.read_text() == STACK
    assert "next: slipway up web" in said.out
    again = project("push", "web", f"digits={DIGITS}", "--no-check")
    assert "is there" in again.out
    assert remote.chunks == 1


def test_a_cut_off_push_says_how_it_goes_on(project: Project, remote: Storage) -> None:
    """The configuration is as it was, and the same command ends what was begun."""
    remote.breaks_after = 0
    said = project("push", "web", f"digits={DIGITS}", "--version", "2", "--no-check")
    assert said.code == FAILED
    assert "the same command again" in said.err
    assert project.config.read_text() == STACK
    remote.breaks_after = None
    assert project("push", "web", f"digits={DIGITS}", "--version", "2", "--no-check").code == OK
    assert version(project) == 2


def test_a_new_version_becomes_the_configured_one(project: Project, remote: Storage) -> None:
    """Only after its files are there; and a rollback goes back, leaving both in the bucket."""
    project("push", "web", f"digits={DIGITS}", "--no-check")
    said = project("push", "web", f"digits={DIGITS}", "--version", "2", "--no-check")
    assert said.code == OK
    assert version(project) == 2
    assert project.config.read_text() == STACK.replace("version: 1", "version: 2")
    listed = project("list", "web", "--json").json()["models"]
    assert [(r["version"], r["served"], r["complete"]) for r in listed] == [(1, False, True), (2, True, True)]
    back = project("rollback", "web", "digits")
    assert back.code == OK
    assert project.config.read_text() == STACK
    assert remote.keys("models") == ["digits/1/model.onnx", "digits/2/model.onnx"]


def test_a_rollback_to_what_is_not_there_is_refused(project: Project, remote: Storage) -> None:
    remote.put("models", "digits/1/model.onnx", b"x")
    remote.put("models", "digits/3/labels.txt", b"x")  # cut off before its main file
    for more in ([], ["--to", "3"], ["--to", "7"]):
        said = project("rollback", "web", "digits", *more)
        assert said.code == FAILED
        assert "is whole in the bucket" in said.err
    assert project.config.read_text() == STACK
    listed = project("list", "web")
    assert "incomplete" in listed.out


def test_a_version_is_never_overwritten(project: Project, remote: Storage, tmp_path: Path) -> None:
    project("push", "web", f"digits={DIGITS}", "--no-check")
    other = tmp_path / "model.onnx"
    other.write_bytes(DIGITS.read_bytes() + b"\0\0")  # an unknown field of length 0 behind the graph
    said = project("push", "web", f"digits={other}", "--no-check")
    assert said.code == FAILED
    assert "with another content" in said.err or "cannot load" in said.err
    assert remote.content("models", "digits/1/model.onnx") == DIGITS.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digit=x"], "there is no such file"),
        (["digits"], "not of the form NAME=PATH"),
        ([f"numbers={DIGITS}"], "is no model of the stack; allowed: digits"),
        ([f"digits={ROOT / 'README.md'}"], "ONNX Runtime cannot load it"),
    ],
)
def test_wrong_sources_are_refused_before_anything_is_sent(
    project: Project, remote: Storage, arguments: list[str], words: str
) -> None:
    said = project("push", "web", *arguments, "--no-check")
    assert said.code in (USAGE, FAILED)
    assert words in said.err
    assert remote.keys("models") == []


@pytest.mark.real
def test_a_push_tries_the_model_in_the_local_triton(project: Project, remote: Storage) -> None:
    """With the plan's settings; what this does not prove is said."""
    said = project("push", "web", f"digits={DIGITS}")
    assert said.code == OK, said.err
    assert "the local Triton loads it" in said.out
    assert "not proven: digits: backend onnxruntime" in said.out
    assert remote.keys("models") == ["digits/1/model.onnx"]


def big(path: Path, mib: int) -> tuple[Path, str]:
    content = b"".join(bytes([i % 251]) * (1 << 20) for i in range(mib)) + b"end"
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def test_a_cut_off_upload_to_google_goes_on(remote: Storage, tmp_path: Path) -> None:
    """The second run sends what is missing, no chunk twice."""
    path, digest = big(tmp_path / "big", 30)
    state = tmp_path / "state/uploads.json"
    target = gs.Gs("models", state, session(), remote.url)
    remote.breaks_after = 2
    with pytest.raises(requests.ConnectionError):
        target.upload("m/1/model.onnx", path, digest, lambda _: None)
    assert state.stat().st_mode & 0o077 == 0
    remote.breaks_after = None
    seen: list[int] = []
    gs.Gs("models", state, session(), remote.url).upload("m/1/model.onnx", path, digest, seen.append)
    assert remote.chunks == 4
    assert seen[0] > 2 * gs.CHUNK
    assert remote.content("models", "m/1/model.onnx") == path.read_bytes()
    assert state.read_text() == "{}"


def test_another_content_does_not_go_on_with_the_old_session(remote: Storage, tmp_path: Path) -> None:
    path, digest = big(tmp_path / "big", 20)
    target = gs.Gs("models", tmp_path / "uploads.json", session(), remote.url)
    remote.breaks_after = 1
    with pytest.raises(requests.ConnectionError):
        target.upload("k", path, digest, lambda _: None)
    remote.breaks_after = None
    other, changed = big(tmp_path / "other", 18)
    target.upload("k", other, changed, lambda _: None)
    assert remote.content("models", "k") == other.read_bytes()
    assert target.digest("k") == changed


def test_an_empty_file_is_uploaded_too(remote: Storage, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    target = gs.Gs("models", tmp_path / "uploads.json", session(), remote.url)
    target.upload("k", tmp_path / "empty", hashlib.sha256(b"").hexdigest(), lambda _: None)
    assert remote.content("models", "k") == b""


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        made = boto3.client("s3", region_name="us-east-1")
        made.create_bucket(Bucket="models")
        yield made


def test_a_cut_off_upload_to_amazon_goes_on(client: Any, tmp_path: Path) -> None:
    """Parts that are there with the same content are not sent again."""
    path, digest = big(tmp_path / "big", 17)
    sent: list[int] = []

    class Counting:
        """The client, which loses its connection at the third part the first time."""

        cut = True

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def upload_part(self, **given: Any) -> Any:
            if self.cut and given["PartNumber"] == 3:
                self.cut = False
                raise KeyboardInterrupt
            sent.append(given["PartNumber"])
            return client.upload_part(**given)

    target = s3.S3("models", tmp_path / "uploads.json", Counting(), part=5 << 20)
    with pytest.raises(KeyboardInterrupt):
        target.upload("m/1/model.onnx", path, digest, lambda _: None)
    assert sent == [1, 2]
    target.upload("m/1/model.onnx", path, digest, lambda _: None)
    assert sent == [1, 2, 3, 4]
    assert client.get_object(Bucket="models", Key="m/1/model.onnx")["Body"].read() == path.read_bytes()
    assert target.digest("m/1/model.onnx") == digest
    assert target.digest("m/1/nothing") is None
    assert [(o.key, o.size) for o in target.list("m/")] == [("m/1/model.onnx", path.stat().st_size)]


def test_a_bucket_that_is_not_there_is_told_in_its_own_words(client: Any, tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"s3://nowhere.*NoSuchBucket"):
        s3.S3("nowhere", tmp_path / "uploads.json", client).list("")


def test_the_last_file_makes_a_version_whole(tmp_path: Path) -> None:
    """Cut off before it, the version is no model yet: a list says incomplete, a rollback passes over it."""
    (tmp_path / "variables").mkdir()
    for name in ("saved_model.pb", "variables/variables.index", "zz.txt"):
        (tmp_path / name).write_bytes(b"x")
    values = yaml.safe_load(STACK)["config"] | {"slipway:server": "tf-serving"}
    values["slipway:models"][0]["format"] = "savedmodel"
    spec = parse({k.removeprefix("slipway:"): v for k, v in values.items()})
    found = layout(spec, spec.models[0], tmp_path, 4)
    assert list(found.files) == ["4/variables/variables.index", "4/zz.txt", "4/saved_model.pb"]


BLOCK = """\
config:
  slipway:models:
    # the first
    - name: a   # its name
      profile: {vcpu: {base_ms: 1}}
    - name: b
      version: 3  # served
  other: 1
"""


@pytest.mark.parametrize(
    ("text", "index", "changed"),
    [
        (BLOCK, 1, BLOCK.replace("version: 3 ", "version: 8 ")),
        (BLOCK, 0, BLOCK.replace("- name: a ", "- version: 8\n      name: a ")),
        (STACK, 0, STACK.replace("version: 1", "version: 8")),
        (STACK.replace(" version: 1,", ""), 0, STACK.replace(" version: 1,", "").replace("{name", "{version: 8, name")),
    ],
)
def test_a_version_is_changed_and_nothing_else(text: str, index: int, changed: str) -> None:
    assert edit.set_version(text, index, 8) == changed


@pytest.mark.parametrize("text", ['config:\n  slipway:models: \'[{"name": "a"}]\'\n', "config: {}\n", BLOCK])
def test_a_form_that_cannot_be_edited_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(CliError, match=r"set models\[5\].version to 8"):
        edit.set_version(text, 5, 8)
