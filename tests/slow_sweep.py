"""A sweep that lasts long enough to be disturbed, and what its workers have written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parts import read_part

from sweeps.storage.store import Store


def slow_sweep(experiment: Mapping[str, Any], epochs: int = 20, seeds: int = 2, **compute: Any) -> dict[str, Any]:
    """Ten cells for each seed, of some tenths of a second each, and twelve trials of them."""
    gaussian = {"loss": "gaussian", "epochs": epochs, "patience": epochs, "pool": 8, "l1": [0.01, 0.1]}
    space = {
        "backbone": "efficientnet-lite0",
        "depth": {"V1": [0, 1], "V4": [0, 1, 2]},
        "readout": {"gaussian": gaussian},
        "seed": list(range(seeds)),
    }
    return {**experiment, "space": space, "scores": ["prediction"], "compute": compute}


def written(storage: Path | str) -> Counter[str]:
    """How many durable rows each cell has: once for every time that it was fitted."""
    store = Store(str(storage))
    parts = [read_part(store, "cells", name) for name in store.part_names("cells")]
    return Counter(cell for part in parts for cell in part["cell_id"].to_pylist())
