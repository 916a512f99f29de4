"""Pins: digests from a registry that speaks the distribution protocol, boot images from moto, and the stack's file."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml
from cli_project import Command

from cli.errors import FAILED, OK, USAGE
from cli.pins import registry
from cli.pins.registry import MANIFESTS, PinError, digest, reference
from infra.plan import Plan, make_plan
from infra.spec import parse
from serving.images import server_image, stock, used
from stacks import registry as kinds

INDEX = json.dumps({"schemaVersion": 2, "mediaType": MANIFESTS[0], "manifests": []}).encode()
RIGHT = f"sha256:{hashlib.sha256(INDEX).hexdigest()}"
OTHER = "sha256:" + 64 * "e"


@dataclass
class Published:
    """A registry on this machine; `says` alters what it answers."""

    host: str = ""
    tags: dict[str, bytes] = field(default_factory=lambda: {"team/server:1": INDEX, "team/server:2": INDEX})
    says: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def image(self, name: str) -> str:
        return f"{self.host}/{name}"


@pytest.fixture
def published() -> Iterator[Published]:
    known = Published()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append(self.path)
            if self.path.startswith("/token?"):
                return self.send(200, b'{"token": "anonymous"}', {})
            if self.headers.get("Authorization") != "Bearer anonymous":
                realm = known.says.get("realm", f"http://{known.host}/token")
                scope = 'service="here",scope="repository:team/server:pull"'
                return self.send(401, b"{}", {"WWW-Authenticate": f'Bearer realm="{realm}",{scope}'})
            name, _, tag = self.path.removeprefix("/v2/").partition("/manifests/")
            body = known.tags.get(f"{name}:{tag}")
            if body is None:
                return self.send(404, b"{}", {})
            stated = known.says.get("digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
            kind = known.says.get("type", MANIFESTS[0])
            assert kind not in MANIFESTS or kind in self.headers["Accept"]
            return self.send(200, body, {"Content-Type": kind, "Docker-Content-Digest": stated})

        def send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield known
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("image", "repository", "tag", "default"),
    [
        ("python:3.12", "library/python", "3.12", True),
        ("team/server:2.20.0-gpu", "team/server", "2.20.0-gpu", True),
        ("registry.example:5000/a/b/c:1", "a/b/c", "1", False),
        ("registry.example/server:1", "server", "1", False),
    ],
)
def test_a_name_says_where_it_is_published(image: str, repository: str, tag: str, default: bool) -> None:
    found = reference(image)
    assert (found.repository, found.tag) == (repository, tag)
    assert found.url.startswith("https://")
    assert (found.host != image.split("/")[0]) is default


@pytest.mark.parametrize("image", ["python", "registry.example:5000/server"])
def test_without_a_tag_there_is_nothing_to_resolve(image: str) -> None:
    with pytest.raises(PinError, match="no tag"):
        reference(image)


def test_the_digest_is_of_what_came_and_by_an_anonymous_token(published: Published) -> None:
    assert digest(published.image("team/server:1")) == RIGHT
    asked = [path.partition("?")[0] for path in published.asked]
    assert asked == ["/v2/team/server/manifests/1", "/token", "/v2/team/server/manifests/1"]
    assert "scope=repository%3Ateam%2Fserver%3Apull" in published.asked[1]


@pytest.mark.parametrize(
    ("says", "name", "said"),
    [
        ({"digest": OTHER}, "team/server:1", f"says {OTHER}"),
        ({"type": "text/html"}, "team/server:1", "gave text/html"),
        ({}, "team/server:9", "answers 404"),
        ({"realm": "http://token.example/token"}, "team/server:1", "not https"),
    ],
)
def test_nothing_is_pinned_to_what_is_in_doubt(
    published: Published, says: dict[str, str], name: str, said: str
) -> None:
    published.says |= says
    with pytest.raises(PinError, match=said):
        digest(published.image(name))


def test_a_registry_that_is_not_there_is_told(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "TIMEOUT_S", 1.0)
    with pytest.raises(PinError, match=r"cannot be reached.*To fix"):
        digest("127.0.0.1:1/team/server:1")


def values(**changes: object) -> dict[str, Any]:
    model = {
        "name": "digits",
        "storage_uri": "gs://models/digits",
        "profile": {"vcpu": {"base_ms": 1, "per_item_ms": 1}},
    }
    found: dict[str, Any] = {"cloud": "gcp", "region": "us-central1", "project": "my-project", "models": [model]}
    found |= {"load": {"mean_rps": 50, "peak_rps": 100}, "slo": {"p99_ms": 200}}
    return found | changes


def plan(**changes: object) -> Plan:
    spec = parse(values(**changes))
    return make_plan(spec, kinds.kinds(), kinds.catalog(spec.cloud))


def test_a_pin_is_in_every_use_of_the_image_and_makes_a_new_generation() -> None:
    tags = plan()
    every = used(tags)
    assert {stock(tags, "envoy"), stock(tags, "python"), server_image(tags, tags.pools[0])} == set(every)
    pinned = plan(pins=dict.fromkeys(every, RIGHT))
    assert server_image(pinned, pinned.pools[0]) == f"{server_image(tags, tags.pools[0])}@{RIGHT}"
    assert stock(pinned, "envoy").endswith(f"@{RIGHT}")
    assert pinned.generation != tags.generation
    assert [w for w in tags.warnings if "slipway pin" in w]
    assert not [w for w in pinned.warnings if "slipway pin" in w]


def test_an_image_of_ones_own_is_pinned_too() -> None:
    found = plan(image="example/server:1", pins={"example/server:1": RIGHT})
    assert server_image(found, found.pools[0]) == f"example/server:1@{RIGHT}"
    assert "example/server:1" in used(found)
    assert not [i for i in used(plan(image=f"example/server@{RIGHT}")) if "example" in i]


@pytest.fixture
def stack(slipway: Command, published: Published, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A stack of the cloud whose images are all of that registry."""
    config = {f"slipway:{k}": v for k, v in values(image=published.image("team/server:1")).items()}
    path = slipway.folder / "stacks/config/Pulumi.dev.yaml"
    path.write_text("# mine\n" + yaml.safe_dump({"config": config}))
    monkeypatch.setattr("serving.images.used", lambda plan: (plan.spec.image, published.image("team/server:2")))
    return slipway


def pins(command: Command) -> dict[str, str]:
    text = (command.folder / "stacks/config/Pulumi.dev.yaml").read_text()
    assert text.startswith("# mine\n")
    found: dict[str, str] = yaml.safe_load(text)["config"].get("slipway:pins", {})
    return found


def test_pins_are_written_stay_and_are_read_again_when_asked(stack: Command, published: Published) -> None:
    first, second = (published.image(f"team/server:{n}") for n in (1, 2))
    assert stack("pin", "dev", "--dry-run").code == OK
    assert pins(stack) == {}
    assert stack("pin", "dev").code == OK
    assert pins(stack) == {first: RIGHT, second: RIGHT}
    published.tags["team/server:1"] = INDEX + b" "
    asked = len(published.asked)
    assert "unchanged" in stack("pin", "dev").out
    assert len(published.asked) == asked
    moved = stack("pin", "dev", "--update", "--json").json()
    assert moved["pins"][first] == pins(stack)[first] == f"sha256:{hashlib.sha256(INDEX + b' ').hexdigest()}"
    assert pins(stack)[second] == RIGHT


def test_what_cannot_be_read_is_named_and_not_written(stack: Command, published: Published) -> None:
    del published.tags["team/server:2"]
    said = stack("pin", "dev")
    assert said.code == FAILED
    assert "answers 404" in said.err
    assert pins(stack) == {published.image("team/server:1"): RIGHT}
    published.tags.clear()
    assert stack("pin", "dev", "--update").code == FAILED
    assert pins(stack) == {published.image("team/server:1"): RIGHT}, "what was pinned stays"


def test_the_local_stack_has_nothing_to_pin(slipway: Command) -> None:
    said = slipway("pin", "local")
    assert (said.code, "nothing to pin" in said.err) == (USAGE, True)


def test_a_boot_image_is_what_its_parameter_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (extra `aws`)")
    moto = pytest.importorskip("moto", reason="moto is not installed (extra `test`)")
    from cli.pins.parameters import image_id

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(key, "testing")
    with moto.mock_aws():
        client = boto3.client("ssm", region_name="us-east-1")
        client.put_parameter(Name="/slipway/image", Type="String", Value="ami-0123456789abcdef0")
        client.put_parameter(Name="/slipway/text", Type="String", Value="latest")
        assert image_id("/slipway/image", "us-east-1") == "ami-0123456789abcdef0"
        with pytest.raises(PinError, match=r"'latest'.*no image's id"):
            image_id("/slipway/text", "us-east-1")
        with pytest.raises(PinError, match="cannot be read in eu-west-1"):
            image_id("/slipway/image", "eu-west-1")


FAMILY = "projects/cos-cloud/global/images/family/cos-125-lts"


def test_a_family_of_google_is_pinned_to_its_newest_image() -> None:
    """And machines of the plan then start from that one, in a generation of their own."""
    from cli.pins.families import newest
    from cli.pins.look import names

    asked: list[str] = []

    def get(url: str) -> tuple[int, Any]:
        asked.append(url)
        return 200, {"selfLink": "https://www.googleapis.com/compute/v1/projects/cos-cloud/global/images/cos-125-1-2"}

    image = newest(FAMILY, get)
    assert image == "projects/cos-cloud/global/images/cos-125-1-2"
    assert asked == [f"https://compute.googleapis.com/compute/v1/{FAMILY}"]
    loose = plan(shape="vm")
    assert FAMILY in names(loose)
    assert FAMILY not in names(plan()), "nodes of a cluster are GKE's"
    assert plan(shape="vm", pins={FAMILY: image}).generation != loose.generation


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, {"error": {"message": "no"}}), "answers 403.*To fix"),
        ((200, {"selfLink": "https://www.googleapis.com/compute/v1/projects/p/zones/a"}), "no image's address"),
        ((200, "<html>"), "no image's address"),
    ],
)
def test_a_family_that_is_not_read_is_not_pinned(answer: tuple[int, Any], said: str) -> None:
    from cli.pins.families import newest

    with pytest.raises(PinError, match=said):
        newest(FAMILY, lambda url: answer)
