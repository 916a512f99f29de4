"""Features in Redis or Valkey, one string value an entity; also copied beside the Python model inside the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serving.features_types import FeatureStoreError, GoneError, SlowError


class _GoogleToken(redis.CredentialProvider):
    """A token of the machine's own identity instead of a password (Valkey on Memorystore)."""

    def __init__(self) -> None:
        import google.auth
        import google.auth.transport.requests

        self._request = google.auth.transport.requests.Request()
        self._credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])

    def get_credentials(self) -> tuple[str]:
        if not self._credentials.valid:
            self._credentials.refresh(self._request)  # type: ignore[no-untyped-call]
        return (str(self._credentials.token),)


class RedisStore:
    batch = 1000  # keys of a read in one round trip
    write_batch = 500  # about 128 kB at 256 bytes a value

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def read(self, keys: Sequence[str], seconds: float) -> Mapping[str, bytes | None]:
        try:
            values = self._redis.mget(keys)
        except redis.RedisError as e:
            raise _known(e) from e
        if not isinstance(values, list):
            raise TypeError("mget of a client that waits gives a list")
        return {k: v.encode() if isinstance(v, str) else v for k, v in zip(keys, values, strict=True)}

    def write(self, items: Mapping[str, bytes], ttl_s: int | None, seconds: float) -> None:
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for key, raw in items.items():
                    pipeline.set(key, raw, ex=ttl_s)
                pipeline.execute()
        except redis.RedisError as e:
            raise _known(e) from e

    def close(self) -> None:
        self._redis.close()


def _known(error: redis.RedisError) -> FeatureStoreError:
    if isinstance(error, redis.TimeoutError):
        return SlowError("the feature store did not answer in time")
    text = f"the feature store cannot be reached: {error}"
    gone = isinstance(error, redis.ConnectionError) and not isinstance(error, redis.AuthenticationError)
    return GoneError(text) if gone else FeatureStoreError(text)


def connect(url: str, *, deadline_s: float, password: str | None = None, ca: str | None = None) -> RedisStore:
    """`?auth=google` in the address: a token instead of a password. `ca`: of this very store, so that its name in the
    certificate says nothing more."""
    parts = urlsplit(url)
    google = parse_qs(parts.query).get("auth") == ["google"]
    encrypted = {"ssl_ca_data": ca, "ssl_check_hostname": False} if ca and parts.scheme == "rediss" else {}
    return RedisStore(
        redis.Redis.from_url(
            urlunsplit(parts._replace(query="")),
            password=password,
            credential_provider=_GoogleToken() if google else None,
            socket_timeout=deadline_s,
            socket_connect_timeout=deadline_s,
            retry=Retry(NoBackoff(), 0),  # the library's own default waits and tries again, past any deadline
            protocol=2,
            **encrypted,
        )
    )
