"""What a worker does with its rows: it writes them, or hands those to the driver that it cannot write."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import ray

from sweeps.storage.retry import Waiting, is_environment, is_transient, meaning_of
from sweeps.storage.store import Store, part_of

WRITE_SECONDS, PUT_SECONDS = 30.0, 60.0
"""For how long a worker tries to write a part, and how long one request of it may take."""

AGAIN_SECONDS = 60.0
"""How long a worker that could not write hands its parts to the driver before it tries again itself."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""For how long a worker keeps a pack whose cells it cannot fit now, lest it swallow all there are."""


class PartWriter:
    """Writes parts of one worker to a storage place.

    A node may lack what the driver has: a role that may write there, a way to the endpoint, room on its disk. Its rows
    then go to the driver as the bytes of parts in `handed` (table, name, bytes), which writes them under the same
    names: no row is lost, none can be there twice. `trouble` says why, empty where all is well. With `limit_minutes` a
    write takes less than a pack may take for a cell.
    """

    def __init__(self, uri: str, limit_minutes: float | None = None) -> None:
        third = math.inf if limit_minutes is None else 20.0 * limit_minutes
        self.write_seconds = min(WRITE_SECONDS, third)
        self.store = Store(uri, self.write_seconds)
        self.store.put_seconds = min(PUT_SECONDS, third)
        self.store.waiting = Waiting(say=lambda line: None)  # the driver says it
        self.trouble = ""
        self.handed: list[tuple[str, str, bytes]] = []
        self._again_at, self._pause, self._reported = 0.0, FIRST_PAUSE, False

    def write(self, table: str, rows: list[dict[str, Any]]) -> str:
        """Write rows as a part; its name once it is durable, empty where it was handed to the driver."""
        name, content = part_of(table, rows)
        if time.monotonic() >= self._again_at and self._written(table, name, content):
            self.trouble = ""
            return name
        self.handed.append((table, name, content))
        return ""

    def report(self, tables: Mapping[str, list[dict[str, Any]]], away: str = "") -> dict[str, Any]:
        """Write rows by table, in that order; what the driver is told of it, and of what else is `away`.

        That is the name of the part of `cells`, the parts that the driver has to write, and what is in this node's way.
        """
        self._pause, self._reported = self._pause if away else FIRST_PAUSE, bool(away)
        names = {table: self.write(table, rows) for table, rows in tables.items() if rows}
        handed, self.handed = self.handed, []
        trouble = away
        if self.trouble and not away:
            trouble = f"cannot write {self.store.uri}: {self.trouble}; the driver writes its rows"
        node = ray.util.get_node_ip_address() if trouble else ""
        return {"part": names.get("cells", ""), "handed": handed, "trouble": trouble, "node": node}

    def give_back(self, away: str) -> dict[str, Any]:
        """What the driver is told of a pack whose cells cannot be fitted here now: why, and its end after a pause."""
        if not self._reported:
            return {**self.report({}, away), "done": False}
        time.sleep(self._pause)
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        report = {**self.report({}, away), "given_back": True, "done": True}
        self._reported = False
        return report

    def _written(self, table: str, name: str, content: bytes, renewed: bool = False) -> bool:
        """Write a part; False where this node cannot. One that could not before does not try for long."""
        self.store.retry_seconds = 0.0 if self.trouble else self.write_seconds
        try:
            self.store.put_part(table, name, content)
        except Exception as error:
            if not is_environment(error):
                raise
            if not renewed and not is_transient(error):
                self.store.renew_credentials()  # those of a file or a role may be newer
                return self._written(table, name, content, renewed=True)
            self.trouble, self._again_at = meaning_of(error), time.monotonic() + AGAIN_SECONDS
            return False
        return True
