"""Features in Bigtable, a row an entity; also copied beside the Python model inside the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from google.api_core import exceptions
from google.cloud.bigtable.data import (
    BigtableDataClient,
    MutationsExceptionGroup,
    ReadRowsQuery,
    RowMutationEntry,
    SetCell,
    Table,
)
from google.cloud.bigtable.data.row_filters import (
    CellsColumnLimitFilter,
    FamilyNameRegexFilter,
    RowFilter,
    RowFilterChain,
    TimestampRangeFilter,
)

from serving.features_google import known
from serving.features_types import FeatureStoreError, ThrottledError

QUALIFIER = b"v"


class BigtableStore:
    batch = 1000
    write_batch = 1000

    def __init__(self, client: BigtableDataClient, table: Table, family: str, ttl_s: int | None) -> None:
        self._client, self._table, self._family, self._ttl_s = client, table, family, ttl_s

    def read(self, keys: Sequence[str], seconds: float) -> Mapping[str, bytes | None]:
        query = ReadRowsQuery(row_keys=list(keys), row_filter=self._filter())
        try:
            rows = self._table.read_rows(query, operation_timeout=seconds, attempt_timeout=seconds, retryable_errors=())
        except exceptions.GoogleAPICallError as e:
            raise known(e) from e
        found = {row.row_key.decode(): row.cells[0].value for row in rows if row.cells}
        return {key: found.get(key) for key in keys}

    def write(self, items: Mapping[str, bytes], ttl_s: int | None, seconds: float) -> None:
        entries = [RowMutationEntry(key, [SetCell(self._family, QUALIFIER, raw)]) for key, raw in items.items()]
        try:
            self._table.bulk_mutate_rows(
                entries, operation_timeout=seconds, attempt_timeout=seconds, retryable_errors=()
            )
        except MutationsExceptionGroup as e:
            causes = [x.__cause__ for x in e.exceptions]
            first = next((c for c in causes if isinstance(c, exceptions.GoogleAPICallError)), None)
            if first is None:
                raise FeatureStoreError(f"the feature store refused: {e}") from e
            error = known(first)
            if isinstance(error, ThrottledError):
                failed = {x.entry.row_key.decode() for x in e.exceptions}
                error.done = {key: None for key in items if key not in failed}
            raise error from e
        except exceptions.GoogleAPICallError as e:
            raise known(e) from e

    def close(self) -> None:
        self._client.close()

    def _filter(self) -> RowFilter:
        """The newest value; Bigtable collects what has aged within a week, not at once."""
        chain: list[RowFilter] = [FamilyNameRegexFilter(self._family), CellsColumnLimitFilter(1)]
        if self._ttl_s is not None:
            oldest = datetime.now(UTC) - timedelta(seconds=self._ttl_s)
            chain.append(TimestampRangeFilter(start=oldest))
        return RowFilterChain(filters=chain)


def connect(url: str, *, deadline_s: float, password: str | None = None, ca: str | None = None) -> BigtableStore:
    """bigtable://project/instance/table?app_profile=p&family=f[&ttl_s=n]. Rights are the machine's identity."""
    parts = urlsplit(url)
    instance, table = parts.path.strip("/").split("/")
    query = parse_qs(parts.query)
    lives = query.get("ttl_s")
    client = BigtableDataClient(project=parts.netloc)
    its = client.get_table(instance, table, app_profile_id=query.get("app_profile", [None])[0])
    return BigtableStore(client, its, query["family"][0], int(lives[0]) if lives else None)
