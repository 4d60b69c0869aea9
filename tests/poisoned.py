"""Sweeps whose workers do what they are told to (see faults/poison), beside the same sweep undisturbed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sweeps

SEEDS = range(6)
POISON = Path(__file__).parent / "faults" / "poison"


@contextmanager
def poisoned_ray(folder: Path, **variables: str) -> Iterator[Path]:
    """A Ray of two cores, with more variables in its environment, whose workers do what this file says."""
    import ray

    file = folder / "poison.json"
    file.write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"POISON": str(file), **variables}.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(POISON), prepend=os.pathsep)
        ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        yield file
        ray.shutdown()


def errors_of_the_guilty(
    deeds: Mapping[int, str], poison: Path, experiment: dict[str, Any], folder: Path, **compute: Any
) -> dict[int, str]:
    """Errors by seed, once it is shown that the guilty alone fail and the others score as in an undisturbed run."""
    poison.write_text("{}")
    calm = _cells(experiment, folder / "calm")
    assert set(calm["status"]) == {"done"}
    poison.write_text(json.dumps(deeds))
    cells = _cells(experiment, folder / "poisoned", **compute)
    guilty = cells["config.seed"].isin(deeds.keys())
    assert set(cells[guilty]["status"]) == {"failed"}
    assert set(cells[~guilty]["status"]) == {"done"}
    scores = [name for name in cells if name.startswith(("select.", "score."))]
    pd.testing.assert_frame_equal(cells[~guilty][scores], calm[~guilty][scores], rtol=0, atol=1e-9)
    return dict(cells[guilty].groupby("config.seed")["error"].first())


def _cells(experiment: dict[str, Any], folder: Path, **compute: Any) -> pd.DataFrame:
    """Cells of six trials, one of each seed, two cells each, in packs of four."""
    space = {
        "backbone": {"efficientnet-lite0": {"weights": "random"}},
        "depth": {"V1": [1], "V4": [1]},
        "readout": {"ridge": {"pool": 4}},
        "seed": list(SEEDS),
    }
    held = {**experiment, "space": space, "scores": ["prediction"], "compute": {"cells_per_pack": 4, **compute}}
    found = sweeps.run(held, storage=str(folder / "rows"), cache=str(folder / "cache"), cpus=2)
    assert found.finished
    cells = sweeps.load(found.storage, "cells")
    assert len(cells) == 2 * len(SEEDS)
    assert not cells["cell_id"].duplicated().any()
    assert sorted(found.trials["config.seed"]) == list(SEEDS)
    return cells.set_index("cell_id").sort_index()
