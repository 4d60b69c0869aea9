"""Single parts of a sweep's log, as no reader of results needs them."""

from __future__ import annotations

import pyarrow as pa

from sweeps.storage.parquet import from_bytes
from sweeps.storage.store import Store


def read_part(store: Store, table: str, name: str) -> pa.Table:
    """Read a part by name; FileNotFoundError when it is gone (compacted meanwhile)."""
    return from_bytes(store.get_part(table, name))
