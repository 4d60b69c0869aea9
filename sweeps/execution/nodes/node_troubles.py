"""What keeps single nodes from their work, said once and then every minute while it lasts."""

from __future__ import annotations

import time
from collections.abc import Callable

from sweeps.storage.retry import SAY_SECONDS


class NodeTroubles:
    """Troubles by node; `say` is told of each kind on each node at once, and every SAY_SECONDS while it lasts."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.said: dict[tuple[str, str], float] = {}

    def note(self, node: str, trouble: str) -> None:
        """Note what keeps a node from its work."""
        now, key = time.monotonic(), (node, trouble)
        if now - self.said.get(key, float("-inf")) >= SAY_SECONDS:
            self.said[key] = now
            self.say(f"node {node}: {trouble}")
