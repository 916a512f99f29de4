"""The digest that a registry has for a tag: its HTTP interface (OCI distribution, /v2/), asked without an account."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from ipaddress import ip_address
from typing import IO, Any

from serving.facts import rows

TIMEOUT_S = 20.0
LARGEST = 4 << 20  # bytes of a manifest: registries must take no larger one
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class PinError(Exception):
    """Why one name could not be resolved."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An image's name taken apart."""

    host: str
    repository: str
    tag: str

    @property
    def url(self) -> str:
        scheme = "http" if _on_this_machine(self.host.rpartition(":")[0] or self.host) else "https"
        return f"{scheme}://{self.host}/v2/{self.repository}/manifests/{self.tag}"


def reference(image: str) -> Reference:
    """A first part with a dot or a port is a registry's host; else the image is of the default registry."""
    first, _, rest = image.partition("/")
    host, path = (first, rest) if rest and ("." in first or ":" in first) else ("", image)
    repository, _, tag = path.rpartition(":")
    if not repository or "/" in tag:
        raise PinError(f"{image} has no tag. To fix: set image to name:tag")
    if not host:
        (row,) = rows("registries.csv")
        host, repository = row["host"], repository if "/" in repository else f"{row['single']}/{repository}"
    return Reference(host=host, repository=repository, tag=tag)


def digest(image: str) -> str:
    """sha256:… of the manifest that the tag names now, computed from the bytes that came."""
    asked = reference(image)
    headers = {"Accept": ", ".join(MANIFESTS)}
    try:
        try:
            kind, said, body = _get(asked.url, headers)
        except urllib.error.HTTPError as e:
            challenge = e.headers.get("WWW-Authenticate", "")
            if e.code != 401 or not challenge.lower().startswith("bearer "):
                raise
            kind, said, body = _get(asked.url, {**headers, "Authorization": f"Bearer {_token(challenge)}"})
    except urllib.error.HTTPError as e:
        raise PinError(f"{image}: {asked.host} answers {e.code}: {_meaning(e.code)}") from None
    except (urllib.error.URLError, HTTPException, OSError) as e:
        why = getattr(e, "reason", None) or e
        raise PinError(
            f"{image}: {asked.host} cannot be reached: {why}. To fix: run where there is a network"
        ) from None
    if kind not in MANIFESTS:
        raise PinError(f"{image}: {asked.host} gave {kind or 'something without a type'}, which is no image manifest")
    found = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if said and said != found:
        raise PinError(f"{image}: {asked.host} says {said}, but what it sent is {found}; nothing is pinned to either")
    return found


class _Stay(urllib.request.HTTPRedirectHandler):
    """No redirects: a manifest lies where it was asked for, and a token goes to nobody else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _get(url: str, headers: dict[str, str]) -> tuple[str, str, bytes]:
    """Type, stated digest and bytes."""
    opener = urllib.request.build_opener(_Stay)
    with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        body = answer.read(LARGEST + 1)
        if len(body) > LARGEST:
            raise PinError(f"{url} is larger than {LARGEST} bytes: no manifest")
        return answer.headers.get_content_type(), answer.headers.get("Docker-Content-Digest", ""), body


def _token(challenge: str) -> str:
    """An anonymous token from where the registry points to."""
    given = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = urllib.parse.urlsplit(given.get("realm", ""))
    if realm.scheme != "https" and not (realm.scheme == "http" and _on_this_machine(realm.hostname or "")):
        raise PinError(f"a registry asks for a token from {given.get('realm', 'nowhere')!r}, which is not https")
    query = urllib.parse.urlencode({k: given[k] for k in ("service", "scope") if k in given})
    _, _, body = _get(f"{given['realm']}?{query}", {})
    try:
        value: Any = json.loads(body)
        token = value.get("token") or value["access_token"]
    except (ValueError, KeyError, AttributeError):
        raise PinError(f"{realm.netloc} gave no token") from None
    return str(token)


def _on_this_machine(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _meaning(code: int) -> str:
    return {
        401: "not without an account. To fix: set image to name@sha256:digest",
        403: "not without an account. To fix: set image to name@sha256:digest",
        404: "no such repository or tag. To fix: check image",
        429: "asked too often from here. To fix: run it again later",
    }.get(code, "To fix: run it again later")
