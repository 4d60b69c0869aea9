"""Rows of a backbone and a readout that are not installed here: they load, are shown and are analysed like others."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from rich.console import Console

import sweeps
from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.commands.rescore import plan_scores
from sweeps.errors import InputError
from sweeps.experiment.depths import DepthMaps
from sweeps.experiment.schema import Contrast, Side
from sweeps.guidance.gallery import twin_name
from sweeps.guidance.twins import _reads_pictures, _sees_pictures
from sweeps.report.answers.analysis import by_depth, compare, labels, map_names, pareto_front, recovered
from sweeps.report.score_table import show_chosen
from sweeps.report.terminal import show
from sweeps.storage.columns import as_table
from sweeps.storage.parquet import to_bytes
from sweeps.storage.store import Store

NETWORK, READOUT = "mylab.retina:NET", "mylab.readouts:LINEAR"
HERE = f"pixels@{BACKBONES['pixels'].version} ridge@{READOUTS['ridge'].version}"
MAPS = {"first": {"V1": 0, "V4": 0}, "last": "last"}


def rows_of(name: str, backbone: dict[str, Any], readout: str, components: str, score: float, depth: int) -> Any:
    """A trial that reads two areas from one block, with its two cells and their replicates."""
    config = {"backbone": backbone, "depth": {"V1": depth, "V4": depth}, "readout": {"name": readout}, "seed": 0}
    common = {
        "status": "done",
        "config": json.dumps(config),
        "config.backbone": backbone["name"],
        **{f"config.backbone.{key}": str(value) for key, value in backbone.items() if key != "name"},
        "config.readout": readout,
        "config.seed": 0,
        "score_keys": "",
        "attempt": 0,
        "data_fingerprint": "1234",
        "split": "s",
        "components": components,
        "finished": datetime.now(UTC),
        "select.prediction": score,
        "score.prediction": score - 0.1,
    }
    cells = [
        {**common, "cell_id": f"{name}-{area}", "recording": "r", "area": area, "depth": depth, "blocks": str(depth)}
        for area in ("V1", "V4")
    ]
    places = {f"config.depth.{area}": depth for area in ("V1", "V4")}
    trial = {**common, **places, "trial_id": name, **{f"cell.r.{cell['area']}": cell["cell_id"] for cell in cells}}
    draws = [{"cell_id": cell["cell_id"], "replicates": np.full(8, score - 0.1), "attempt": 0} for cell in cells]
    return trial, cells, draws


def write(store: Store, table: str, rows: list[dict[str, Any]]) -> None:
    """Write a part as a machine does that has the plug-in: its parameter is a whole number there."""
    part, name = as_table(table, rows), "config.backbone.width"
    if name in part.column_names:
        part = part.set_column(part.column_names.index(name), name, part[name].cast(pa.int64()))
    store.put(f"parts/{table}/{len(store.part_names(table))}.parquet", to_bytes(part))


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """Rows of a twin of pixels, of one whose backbone is missing, of one whose readout is, and an outdated one."""
    missing = {"name": NETWORK, "width": 7}
    rows = [
        rows_of("aaaaaaaa", {"name": "pixels"}, "ridge", HERE, 0.5, 0),
        rows_of("bbbbbbbb", missing, "ridge", f"{NETWORK}@3 {HERE.split()[1]}", 0.75, 2),
        rows_of("cccccccc", {"name": "pixels"}, READOUT, f"{HERE.split()[0]} {READOUT}@1", 0.25, 0),
        rows_of("dddddddd", missing, "ridge", f"{NETWORK}@3 ridge@0", 0.95, 1),
    ]
    store = Store(str(tmp_path))
    write(store, "trials", [trial for trial, _, _ in rows])
    write(store, "cells", [cell for _, cells, _ in rows for cell in cells])
    write(store, "bootstraps", [draw for _, _, draws in rows for draw in draws])
    sides = {"left": {"where": {"backbone": NETWORK}}, "right": {"where": {"backbone": "pixels"}}}
    experiment = {
        "name": "plugins",
        "recordings": [{"format": "folder", "path": "r"}],
        "space": {"backbone": ["pixels", NETWORK], "depth": {"maps": MAPS}, "readout": ["ridge", READOUT]},
        "contrasts": [
            {"name": "retina over pixels", "area": "V1", **sides},
            {"name": "first over last", "area": "V1", "left": {"map": "last"}, "right": {"map": "first"}},
        ],
    }
    store.put("experiment.yaml", yaml.safe_dump(experiment).encode())
    store.put("current.json", json.dumps({"split": "s", "fingerprints": {"r": "1234"}, "truth_ids": []}).encode())
    return str(tmp_path)


def printed(storage: str) -> str:
    text = io.StringIO()
    show(storage, Console(file=text, width=160, highlight=False))
    return text.getvalue()


def test_rows_load_with_the_names_and_settings_that_they_have(storage: str) -> None:
    trials = sweeps.load(storage).set_index("trial_id")
    assert trials["config.backbone"].to_dict() == {
        "aaaaaaaa": "pixels",
        "bbbbbbbb": NETWORK,
        "cccccccc": "pixels",
        "dddddddd": NETWORK,
    }
    assert float(trials.loc["bbbbbbbb", "config.backbone.width"]) == 7
    areas = sweeps.load(storage, "areas")
    assert areas.loc[areas["config.readout"] == READOUT, "score.prediction"].tolist() == pytest.approx([0.15, 0.15])
    assert len(sweeps.load(storage, "cells")) == len(sweeps.load(storage, "bootstraps")) == 8


def test_show_prints_them_and_takes_their_version_as_it_is(storage: str) -> None:
    """Outdated is what has another VERSION of a component that is installed, whatever else is missing."""
    text = printed(storage)
    assert "3 done" in text
    assert "3 rows of other data, splits or versions" in text  # one trial and its two cells
    assert f"twin A = {NETWORK} ridge" in text
    assert f"= pixels {READOUT}" in text
    assert "dddddd" not in text
    [contrast] = [line for line in text.splitlines() if line.startswith("retina over pixels")]
    assert "(order unknown)" in contrast  # these rows were written without a log of contrasts
    assert contrast.split()[5:8] == ["0.650", "0.275", "+0.375"]  # 0.65 against the mean of 0.4 and 0.15


def test_their_maps_have_no_name(storage: str) -> None:
    """Words such as `last` need a number of blocks, which nobody knows; a single block is the first of one of them."""
    trials = sweeps.load(storage).set_index("trial_id")
    maps = DepthMaps(("V1", "V4"), {"all": "every", "none": {"V1": 5, "V4": 5}})
    assert map_names(trials, maps).to_dict() == {
        "aaaaaaaa": "all",
        "bbbbbbbb": None,
        "cccccccc": "all",
        "dddddddd": None,
    }
    cells, bootstraps = sweeps.load(storage, "cells"), sweeps.load(storage, "bootstraps")
    contrast = Contrast(name="x", area="V1", left=Side(map="all"), right=Side(where={"readout": READOUT}))
    result = compare(cells, bootstraps, contrast, maps)
    assert result is not None
    assert result.difference == pytest.approx((0.4 + 0.15) / 2 - 0.15)  # without the missing backbone's cells


def test_they_are_analysed_like_others(storage: str) -> None:
    cells = sweeps.load(storage, "cells")
    cells = cells[~cells["cell_id"].str.startswith("d")]
    table = by_depth(cells).set_index(["area", "depth"])
    assert table.loc[("V1", 2), "select"] == 0.75
    assert set(table.loc[("V1", 0), "select"]) == {0.5, 0.25}
    [best] = recovered(cells[cells["area"] == "V1"]).to_dict("records")
    assert best["config.backbone"] == NETWORK
    trials = sweeps.load(storage)
    assert any(NETWORK in name and "7" in name for name in labels(trials))
    assert pareto_front(trials, ["select.prediction"])["trial_id"].tolist() == ["dddddddd"]


def test_scores_of_their_trials_are_printed(storage: str) -> None:
    text = io.StringIO()
    assert show_chosen(storage, ["bbbbbbbb"], ["prediction"], Console(file=text, width=160, highlight=False)) == 0
    assert "trial bbbbbbbb" in text.getvalue()
    assert "0.650" in text.getvalue()


def test_guidance_names_them_and_takes_none_of_them_as_a_twin() -> None:
    config = json.dumps({"backbone": {"name": NETWORK, "width": 7, "weights": "random"}})
    row = {"backbone": NETWORK, "depth": 3, "readout": READOUT, "config": config}
    assert twin_name(row) == f"{NETWORK} 7 random block 3 {READOUT}"
    assert (_sees_pictures("pixels"), _sees_pictures(NETWORK)) == (True, False)
    assert (_reads_pictures("ridge"), _reads_pictures("latent"), _reads_pictures(READOUT)) == (True, False, False)


@pytest.mark.parametrize(("trials", "name"), [("best:2", NETWORK), ("cccccccc", READOUT)])
def test_their_trials_cannot_be_scored_here(storage: str, trials: str, name: str) -> None:
    with pytest.raises(InputError, match=f"--trials = '.*{name}.*': .* is not installed here"):
        plan_scores(storage, ["feve"], trials)


def test_a_present_version_is_still_needed(storage: str) -> None:
    """Where both components are installed and older, a row is left out as ever."""
    store = Store(storage)
    trial, cells, _ = rows_of("eeeeeeee", {"name": "pixels"}, "ridge", "pixels@0 ridge@0", 0.99, 0)
    write(store, "trials", [trial])
    write(store, "cells", cells)
    assert len(sweeps.load(storage)) == 5
    assert "3 done" in printed(storage)
