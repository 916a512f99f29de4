"""Features in Firestore, a document an entity; also copied beside the Python model inside the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

from google.api_core import exceptions
from google.cloud import firestore

from serving.features_google import known

VALUE, EXPIRES = "v", "expires"


class FirestoreStore:
    batch = 300
    write_batch = 300

    def __init__(self, client: firestore.Client, collection: str) -> None:
        self._client, self._collection = client, client.collection(collection)

    def read(self, keys: Sequence[str], seconds: float) -> Mapping[str, bytes | None]:
        ids = {quote(key, safe=""): key for key in keys}
        now = datetime.now(UTC)
        found: dict[str, bytes | None] = dict.fromkeys(keys)
        try:
            documents = self._client.get_all([self._collection.document(i) for i in ids], retry=None, timeout=seconds)
            for document in documents:
                content = document.to_dict() or {}
                # Firestore deletes what has expired within a day, not at once
                if VALUE in content and content.get(EXPIRES, now + timedelta(seconds=1)) > now:
                    found[ids[document.id]] = content[VALUE]
        except exceptions.GoogleAPICallError as e:
            raise known(e) from e
        return found

    def write(self, items: Mapping[str, bytes], ttl_s: int | None, seconds: float) -> None:
        expires = {} if ttl_s is None else {EXPIRES: datetime.now(UTC) + timedelta(seconds=ttl_s)}
        batch = self._client.batch()
        for key, raw in items.items():
            batch.set(self._collection.document(quote(key, safe="")), {VALUE: raw, **expires})
        try:
            batch.commit(retry=None, timeout=seconds)
        except exceptions.GoogleAPICallError as e:
            raise known(e) from e

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]


def connect(url: str, *, deadline_s: float, password: str | None = None, ca: str | None = None) -> FirestoreStore:
    """firestore://project/database/collection. Rights are the machine's identity."""
    parts = urlsplit(url)
    database, collection = parts.path.strip("/").split("/")
    return FirestoreStore(firestore.Client(project=parts.netloc, database=database), collection)
