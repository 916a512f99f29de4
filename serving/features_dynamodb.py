"""Features in DynamoDB, an item an entity; also copied beside the Python model inside the server."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, HTTPClientError, ReadTimeoutError

from serving.features_types import FeatureStoreError, GoneError, SlowError, ThrottledError

KEY, VALUE, EXPIRES = "id", "v", "expires"
THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
}


class DynamoStore:
    batch = 100  # keys of one BatchGetItem
    write_batch = 25  # items of one BatchWriteItem

    def __init__(self, client: Any, table: str) -> None:
        self._client, self._table = client, table

    def read(self, keys: Sequence[str], seconds: float) -> Mapping[str, bytes | None]:
        asked = {"Keys": [{KEY: {"S": k}} for k in keys], "ExpressionAttributeNames": {"#e": EXPIRES}}
        asked["ProjectionExpression"] = f"{KEY}, {VALUE}, #e"
        answer = self._ask("batch_get_item", RequestItems={self._table: asked})
        now = time.time()
        found: dict[str, bytes | None] = {
            # DynamoDB deletes what has expired within days, not at once
            item[KEY]["S"]: item[VALUE]["B"] if float(item.get(EXPIRES, {"N": "inf"})["N"]) > now else None
            for item in answer["Responses"].get(self._table, [])
        }
        left = {k[KEY]["S"] for k in answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])}
        every = {k: found.get(k) for k in keys if k not in left}
        if left:
            raise ThrottledError(f"DynamoDB left {len(left)} keys for later", every)
        return every

    def write(self, items: Mapping[str, bytes], ttl_s: int | None, seconds: float) -> None:
        expires = {} if ttl_s is None else {EXPIRES: {"N": str(int(time.time()) + ttl_s)}}
        puts = [{"PutRequest": {"Item": {KEY: {"S": k}, VALUE: {"B": v}, **expires}}} for k, v in items.items()]
        answer = self._ask("batch_write_item", RequestItems={self._table: puts})
        left = {p["PutRequest"]["Item"][KEY]["S"] for p in answer.get("UnprocessedItems", {}).get(self._table, [])}
        if left:
            done = {k: None for k in items if k not in left}
            raise ThrottledError(f"DynamoDB left {len(left)} entities for later", done)

    def close(self) -> None:
        self._client.close()

    def _ask(self, operation: str, **request: Any) -> Any:
        try:
            return getattr(self._client, operation)(**request)
        except (ReadTimeoutError, ConnectTimeoutError) as e:
            raise SlowError("the feature store did not answer in time") from e
        except HTTPClientError as e:
            raise GoneError(f"the feature store cannot be reached: {e}") from e
        except ClientError as e:
            kind = ThrottledError if e.response["Error"]["Code"] in THROTTLED else FeatureStoreError
            raise kind(f"the feature store refused: {e}") from e
        except BotoCoreError as e:
            raise FeatureStoreError(f"the feature store cannot be asked: {e}") from e


def connect(url: str, *, deadline_s: float, password: str | None = None, ca: str | None = None) -> DynamoStore:
    """dynamodb://region/table; `?endpoint=` for one that is not AWS's own. Rights are the machine's identity."""
    parts = urlsplit(url)
    client = boto3.client(
        "dynamodb",
        region_name=parts.hostname,
        endpoint_url=parse_qs(parts.query).get("endpoint", [None])[0],
        config=Config(
            connect_timeout=deadline_s,
            read_timeout=deadline_s,
            retries={"total_max_attempts": 1},  # the library's own would try past any deadline
            max_pool_connections=32,
            tcp_keepalive=True,
        ),
    )
    return DynamoStore(client, parts.path.strip("/"))
