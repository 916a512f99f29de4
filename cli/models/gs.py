"""Google Cloud Storage over its JSON interface: listing, and uploads in sessions that a later run goes on with."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path
from typing import IO, Any, Protocol

from cli import google
from cli.errors import CliError
from cli.models.bucket import DIGEST, Progress, Stored
from cli.models.sessions import Sessions

URL = "https://storage.googleapis.com"
CHUNK = 8 << 20  # a multiple of 256 KiB, as the interface asks
TIMEOUT_S = 60


class Answer(Protocol):
    status_code: int
    headers: Any
    text: str

    def json(self) -> Any: ...


class Session(Protocol):
    """requests.Session, or google-auth's with a token in every request."""

    def request(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        headers: Any = None,
        timeout: Any = None,
        stream: bool = False,
    ) -> Any: ...


def opened(name: str, state: Path) -> Gs:
    """With the credentials of this machine (gcloud auth application-default login, or a service account)."""
    return Gs(name, state, google.session("devstorage.read_write"))


class Gs:
    """One bucket."""

    def __init__(self, name: str, state: Path, session: Session, url: str = URL) -> None:
        self._name, self._sessions, self._session, self._url = name, Sessions(state), session, url

    def list(self, prefix: str) -> list[Stored]:
        found: list[Stored] = []
        page = ""
        while True:
            query = {"prefix": prefix, "fields": "items(name,size,updated),nextPageToken", "pageToken": page}
            words = urllib.parse.urlencode({k: v for k, v in query.items() if v})
            said = self._ask("GET", f"{self._url}/storage/v1/b/{self._name}/o?{words}").json()
            found += [Stored(key=i["name"], size=int(i["size"]), updated=i["updated"]) for i in said.get("items", ())]
            page = said.get("nextPageToken", "")
            if not page:
                return found

    def digest(self, key: str) -> str | None:
        path = f"{self._url}/storage/v1/b/{self._name}/o/{urllib.parse.quote(key, safe='')}"
        answer = self._ask("GET", path, allowed=(200, 404))
        if answer.status_code == 404:
            return None
        value = answer.json().get("metadata", {}).get(DIGEST)
        return str(value) if value is not None else None

    def read(self, key: str, into: IO[bytes]) -> None:
        path = f"{self._url}/storage/v1/b/{self._name}/o/{urllib.parse.quote(key, safe='')}?alt=media"
        answer = self._session.request("GET", path, stream=True, timeout=TIMEOUT_S)
        if answer.status_code != 200:
            raise CliError(f"gs://{self._name}/{key}: {answer.status_code} {answer.text[:300]}")
        for block in answer.iter_content(1 << 20):
            into.write(block)

    def upload(self, key: str, path: Path, digest: str, progress: Progress) -> None:
        size, mine = path.stat().st_size, f"gs://{self._name}/{key} {digest}"
        session = self._sessions.get(mine)
        start = None if session is None else self._reached(session, size)
        if session is None or start is None:
            session, start = self._begun(key, digest), 0
            self._sessions.put(mine, session)
        with path.open("rb") as file:
            while start < size or size == 0:
                file.seek(start)
                data = file.read(CHUNK)
                span = f"bytes {start}-{start + len(data) - 1}/{size}" if data else "bytes */0"
                answer = self._ask("PUT", session, data=data, headers={"Content-Range": span}, allowed=(200, 201, 308))
                if answer.status_code != 308:
                    break
                start = _held(answer)
                progress(start)
        progress(size)
        self._sessions.drop(mine)

    def _begun(self, key: str, digest: str) -> str:
        words = urllib.parse.urlencode({"uploadType": "resumable", "name": key})
        body = json.dumps({"name": key, "metadata": {DIGEST: digest}}).encode()
        url = f"{self._url}/upload/storage/v1/b/{self._name}/o?{words}"
        answer = self._ask("POST", url, data=body, headers={"Content-Type": "application/json"})
        return str(answer.headers["Location"])

    def _reached(self, session: str, size: int) -> int | None:
        """Bytes that a session holds; None: it is over (a week old, or finished)."""
        answer = self._ask(
            "PUT", session, data=b"", headers={"Content-Range": f"bytes */{size}"}, allowed=(200, 201, 308, 404, 410)
        )
        if answer.status_code in (200, 201):
            return size
        return _held(answer) if answer.status_code == 308 else None

    def _ask(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        allowed: tuple[int, ...] = (200,),
    ) -> Answer:
        answer: Answer = self._session.request(method, url, data=data, headers=headers, timeout=TIMEOUT_S)
        if answer.status_code not in allowed:
            raise CliError(f"gs://{self._name}: {answer.status_code} {answer.text[:300]}")
        return answer


def _held(answer: Answer) -> int:
    said = answer.headers.get("Range")
    return int(said.rpartition("-")[2]) + 1 if said else 0
