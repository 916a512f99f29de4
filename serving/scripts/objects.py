"""Objects of a bucket by plain HTTP: list, read, write; gs:// with the node's identity, s3:// with the pod's role.

Stands alone: it runs in a stock Python image, with the standard library, beside the script that needs it. For a server
of one's own, SLIPWAY_GS_URL, SLIPWAY_METADATA_URL, SLIPWAY_S3_URL and SLIPWAY_STS_URL take the clouds' place.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

TRIES, PAUSE_S, TIMEOUT_S = 5, 1.0, 60
AGAIN = (408, 429, 500, 502, 503, 504)
EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Item:
    key: str
    size: int
    version: str  # changes with the content


class Bucket(Protocol):
    """What the scripts ask of either cloud's storage."""

    prefix: str  # of the address, with a slash at its end, or empty

    def list(self, prefix: str) -> Iterator[Item]: ...
    def read(self, key: str, into: IO[bytes]) -> int: ...
    def get(self, key: str) -> bytes | None: ...
    def put(self, key: str, content: bytes) -> None: ...


def bucket(address: str) -> Bucket:
    """The bucket of an address, with the rest of it as prefix."""
    scheme, _, rest = address.partition("://")
    name, _, path = rest.partition("/")
    prefix = path.rstrip("/") + "/" if path.rstrip("/") else ""
    kinds: dict[str, Callable[[str, str], Bucket]] = {"gs": Gs, "s3": S3}
    if scheme not in kinds or not name:
        raise ValueError(f"{address} is no address of a bucket; allowed: gs://bucket/path, s3://bucket/path")
    return kinds[scheme](name, prefix)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """The answer, tried again where the fault may pass."""
    for left in reversed(range(TRIES)):
        try:
            answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
            assert isinstance(answer, http.client.HTTPResponse)
            return answer
        except urllib.error.HTTPError as e:
            if e.code not in AGAIN or not left:
                raise
        except (urllib.error.URLError, OSError):
            if not left:
                raise
        time.sleep(PAUSE_S * (TRIES - left))
    raise AssertionError("the last try returns or raises")


class Gs:
    """Google Cloud Storage, JSON interface; the token is the one of the pod's workload identity."""

    def __init__(self, name: str, prefix: str) -> None:
        self.prefix, self._name = prefix, name
        self._url = os.environ.get("SLIPWAY_GS_URL", "https://storage.googleapis.com")
        self._metadata = os.environ.get("SLIPWAY_METADATA_URL", "http://metadata.google.internal")
        self._token, self._until = "", 0.0

    def list(self, prefix: str) -> Iterator[Item]:
        page = ""
        while True:
            query = {"prefix": prefix, "fields": "items(name,size,generation),nextPageToken", "pageToken": page}
            path = f"/storage/v1/b/{self._name}/o?" + urllib.parse.urlencode({k: v for k, v in query.items() if v})
            with _open(self._request("GET", path)) as answer:
                found = json.load(answer)
            yield from (Item(i["name"], int(i["size"]), str(i["generation"])) for i in found.get("items", ()))
            page = found.get("nextPageToken", "")
            if not page:
                return

    def read(self, key: str, into: IO[bytes]) -> int:
        with _open(self._request("GET", self._object(key) + "?alt=media")) as answer:
            shutil.copyfileobj(answer, into, 1 << 20)
        return into.tell()

    def get(self, key: str) -> bytes | None:
        try:
            with _open(self._request("GET", self._object(key) + "?alt=media")) as answer:
                return answer.read()
        except urllib.error.HTTPError as e:
            if e.code == 404:
                return None
            raise

    def put(self, key: str, content: bytes) -> None:
        query = urllib.parse.urlencode({"uploadType": "media", "name": key})
        with _open(self._request("POST", f"/upload/storage/v1/b/{self._name}/o?{query}", content)) as answer:
            answer.read()

    def _object(self, key: str) -> str:
        return f"/storage/v1/b/{self._name}/o/{urllib.parse.quote(key, safe='')}"

    def _request(self, method: str, path: str, body: bytes | None = None) -> urllib.request.Request:
        headers = {"Authorization": f"Bearer {self._fresh()}", "Content-Type": "application/octet-stream"}
        return urllib.request.Request(self._url + path, data=body, headers=headers, method=method)

    def _fresh(self) -> str:
        if time.monotonic() >= self._until:
            path = "/computeMetadata/v1/instance/service-accounts/default/token"
            asked = urllib.request.Request(self._metadata + path, headers={"Metadata-Flavor": "Google"})
            with _open(asked) as answer:
                given = json.load(answer)
            self._token, self._until = given["access_token"], time.monotonic() + max(0, int(given["expires_in"]) - 60)
        return self._token


@dataclass(frozen=True)
class Keys:
    access: str
    secret: str
    session: str
    until: float


class S3:
    """Amazon S3, signed by hand (signature version 4); the keys come from the pod's role, or from the environment."""

    def __init__(self, name: str, prefix: str) -> None:
        self.prefix, self._name = prefix, name
        self._region = os.environ.get("AWS_REGION") or os.environ["SLIPWAY_REGION"]
        self._url = os.environ.get("SLIPWAY_S3_URL", f"https://s3.{self._region}.amazonaws.com")
        self._keys: Keys | None = None

    def list(self, prefix: str) -> Iterator[Item]:
        token = ""
        while True:
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else {})
            with _open(self._request("GET", "", query)) as answer:
                root = ElementTree.fromstring(answer.read())
            space = root.tag.partition("}")[0] + "}" if "}" in root.tag else ""
            for found in root.findall(f"{space}Contents"):
                key, tag = found.findtext(f"{space}Key") or "", found.findtext(f"{space}ETag") or ""
                yield Item(key, int(found.findtext(f"{space}Size") or 0), tag)
            token = root.findtext(f"{space}NextContinuationToken") or ""
            if not token:
                return

    def read(self, key: str, into: IO[bytes]) -> int:
        with _open(self._request("GET", key)) as answer:
            shutil.copyfileobj(answer, into, 1 << 20)
        return into.tell()

    def get(self, key: str) -> bytes | None:
        try:
            with _open(self._request("GET", key)) as answer:
                return answer.read()
        except urllib.error.HTTPError as e:
            if e.code == 404:
                return None
            raise

    def put(self, key: str, content: bytes) -> None:
        with _open(self._request("PUT", key, body=content)) as answer:
            answer.read()

    def _request(
        self, method: str, key: str, query: dict[str, str] | None = None, body: bytes | None = None
    ) -> urllib.request.Request:
        """Path style: the bucket's name may have dots."""
        path = urllib.parse.quote(f"/{self._name}/{key}" if key else f"/{self._name}")
        words = "&".join(f"{_quoted(k)}={_quoted(v)}" for k, v in sorted((query or {}).items()))
        url = self._url + path + (f"?{words}" if words else "")
        headers = self._signed(method, urllib.parse.urlsplit(url).netloc, path, words, body)
        return urllib.request.Request(url, data=body, headers=headers, method=method)

    def _signed(self, method: str, host: str, path: str, query: str, body: bytes | None) -> dict[str, str]:
        keys, now = self._fresh(), datetime.datetime.now(datetime.UTC)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        digest = EMPTY if body is None else hashlib.sha256(body).hexdigest()
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        if body is not None:
            headers["content-type"] = "application/octet-stream"
        if keys.session:
            headers["x-amz-security-token"] = keys.session
        names = ";".join(sorted(headers))
        lines = "".join(f"{k}:{headers[k]}\n" for k in sorted(headers))
        scope = f"{day}/{self._region}/s3/aws4_request"
        asked = hashlib.sha256("\n".join((method, path, query, lines, names, digest)).encode()).hexdigest()
        key = f"AWS4{keys.secret}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, "\n".join(("AWS4-HMAC-SHA256", stamp, scope, asked)).encode(), "sha256").hex()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def _fresh(self) -> Keys:
        if self._keys is None or time.time() >= self._keys.until:
            role = os.environ.get("AWS_ROLE_ARN")
            self._keys = self._assumed(role) if role else _own_keys()
        return self._keys

    def _assumed(self, role: str) -> Keys:
        """The web identity that the cluster put into the pod, exchanged for keys of its role."""
        with open(os.environ["AWS_WEB_IDENTITY_TOKEN_FILE"]) as file:
            token = file.read().strip()
        words = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": role,
            "RoleSessionName": "slipway",
            "WebIdentityToken": token,
        }
        url = os.environ.get("SLIPWAY_STS_URL", f"https://sts.{self._region}.amazonaws.com")
        asked = urllib.request.Request(url + "/", data=urllib.parse.urlencode(words).encode(), method="POST")
        with _open(asked) as answer:
            root = ElementTree.fromstring(answer.read())
        given = {e.tag.rpartition("}")[2]: e.text or "" for e in root.iter()}
        until = datetime.datetime.fromisoformat(given["Expiration"].replace("Z", "+00:00")).timestamp() - 300
        return Keys(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], until)


def _own_keys() -> Keys:
    """A container's address (pod identity), plain variables (tests), or the role of the machine."""
    relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if relative:
        with open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]) as file:
            headers = {"Authorization": file.read().strip()}
        with _open(urllib.request.Request(relative, headers=headers)) as answer:
            return _keys(json.load(answer))
    if "AWS_ACCESS_KEY_ID" in os.environ:
        session = os.environ.get("AWS_SESSION_TOKEN", "")
        return Keys(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], session, float("inf"))
    return _machine_keys()


def _machine_keys() -> Keys:
    """Instance metadata, version 2: a token first, then the role's name, then its keys."""
    metadata = os.environ.get("SLIPWAY_METADATA_URL", "http://169.254.169.254") + "/latest"
    words = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    with _open(urllib.request.Request(f"{metadata}/api/token", headers=words, method="PUT")) as answer:
        headers = {"X-aws-ec2-metadata-token": answer.read().decode()}
    roles = f"{metadata}/meta-data/iam/security-credentials/"
    with _open(urllib.request.Request(roles, headers=headers)) as answer:
        role = answer.read().decode().split()[0]
    with _open(urllib.request.Request(roles + role, headers=headers)) as answer:
        return _keys(json.load(answer))


def _keys(given: dict[str, str]) -> Keys:
    until = datetime.datetime.fromisoformat(given["Expiration"].replace("Z", "+00:00")).timestamp() - 300
    return Keys(given["AccessKeyId"], given["SecretAccessKey"], given["Token"], until)


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="-_.~")
