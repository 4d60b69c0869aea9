"""The answers of a sweep as tables: score by depth, recovered depth, contrasts, the Pareto front."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from metrics import bootstrap_interval
from models.backbones import BACKBONES
from sweeps.experiment.depths import DepthMaps, depth_text
from sweeps.experiment.schema import Contrast, Side

TWIN = "twin"

TIE = 1e-9
"""Mean correlations closer than this are equal: such twins predict the same."""


def labels(frame: pd.DataFrame) -> pd.Series:
    """Name the twin of every row: backbone and readout with their parameters that vary, as one text."""
    varying = [c for c in frame.columns if _is_setting(c) and frame[c].nunique(dropna=False) > 1]
    names = list(dict.fromkeys(["config.backbone", *varying]))
    rows = frame[names].itertuples(index=False, name=None)
    texts = [
        " ".join(_setting(name, value) for name, value in zip(names, row, strict=True) if not pd.isna(value))
        for row in rows
    ]
    return pd.Series(texts, index=frame.index)


def _is_setting(column: str) -> bool:
    return column.startswith(("config.backbone", "config.readout"))


def _setting(column: str, value: Any) -> str:
    if column in ("config.backbone", "config.readout"):
        return str(value)
    if isinstance(value, str):
        return value
    return f"{column.rsplit('.', 1)[-1]}={value:g}"


def by_depth(cells: pd.DataFrame) -> pd.DataFrame:
    """Average scores of each (area, twin, blocks) over seeds and recordings: columns depth, select, score, cells.

    `blocks` is the depth as a text, "3+5+7" where blocks are read together; `depth` the deepest.
    """
    done = cells[cells["status"] == "done"]
    keys = ["area", TWIN, "blocks", "depth"]
    if done.empty:
        return pd.DataFrame(columns=[*keys, "select", "score", "cells"])
    frame = done.assign(**{TWIN: labels(done), "blocks": blocks_read(done)})
    within = frame.groupby([*keys, "recording"], sort=False)[["select.prediction", "score.prediction"]]
    means = within.mean().groupby(keys, sort=False).mean().reset_index()
    counts = frame.groupby(keys).size().rename("cells").reset_index()
    joined = means.merge(counts, on=keys)
    return joined.rename(columns={"select.prediction": "select", "score.prediction": "score"})


def blocks_read(cells: pd.DataFrame) -> pd.Series:
    """Return the blocks of every cell as a text; rows of earlier versions have one block, their depth."""
    single = cells["depth"].astype("Int64").astype(str)
    return cells["blocks"].fillna(single) if "blocks" in cells else single


def recovered(cells: pd.DataFrame) -> pd.DataFrame:
    """Return a cell of the twin and depth with the highest mean select prediction, for one area of one recording.

    The mean is over seeds. Several rows where twins cannot be told apart (means within `TIE`), none where no cell has a
    score.
    """
    done = cells[(cells["status"] == "done") & cells["select.prediction"].notna()]
    frame = done.assign(**{TWIN: labels(done), "blocks": blocks_read(done)})
    means = frame.groupby([TWIN, "blocks"], sort=False)["select.prediction"].transform("mean")
    return frame[means >= means.max() - TIE].drop_duplicates([TWIN, "blocks"])


def are_recovered(answers: pd.DataFrame, teacher: Mapping[str, str], alike: Collection[int]) -> pd.Series:
    """Mark the answers that are true: the teacher's own backbone and weights, at an indistinguishable depth `alike`."""
    weights = answers.get("config.backbone.weights", pd.Series(None, index=answers.index, dtype=object))
    own = (answers["config.backbone"] == teacher["backbone"]) & (weights == teacher["weights"])
    single = answers["blocks"] == answers["depth"].astype("Int64").astype(str)
    return own & single & answers["depth"].isin(list(alike))


def pareto_front(trials: pd.DataFrame, objectives: list[str]) -> pd.DataFrame:
    """Return finished trials that no other trial dominates, best first objective first."""
    done = trials[trials["status"] == "done"].dropna(subset=objectives)
    values = done[objectives].to_numpy(dtype=float)
    best = [not np.any(np.all(values >= row, axis=1) & np.any(values > row, axis=1)) for row in values]
    return done[best].sort_values(objectives, ascending=False)


@dataclass(frozen=True)
class ContrastResult:
    """A difference of two means of the report prediction, with a 95% interval over stimulus groups."""

    name: str
    left: float
    right: float
    difference: float
    low: float
    high: float


def compare(
    cells: pd.DataFrame, bootstraps: pd.DataFrame, contrast: Contrast, maps: DepthMaps | None = None
) -> ContrastResult | None:
    """Compare two sets of cells of an area, paired over resampled stimulus groups.

    Each side is the mean over recordings of the mean over its cells; only recordings and seeds that both sides have
    take part; `maps` are those that a side may name. All cells of a recording share the resamples, so that the
    interval is of the paired difference. None when a side has no cells.
    """
    done = cells[(cells["area"] == contrast.area) & (cells["status"] == "done")].merge(
        bootstraps[["cell_id", "replicates"]], on="cell_id"
    )
    sides = [done[_of_side(done, side, maps)] for side in (contrast.left, contrast.right)]
    pairs = [set(zip(side["recording"], side["config.seed"], strict=True)) for side in sides]
    common = pairs[0] & pairs[1]
    if not common:
        return None
    left, right = (
        side[[pair in common for pair in zip(side["recording"], side["config.seed"], strict=True)]] for side in sides
    )
    (mean, draws), (other, others) = _mean(left), _mean(right)
    low, high = bootstrap_interval(draws - others)
    return ContrastResult(contrast.name, mean, other, mean - other, low, high)


def map_names(rows: pd.DataFrame, maps: DepthMaps) -> pd.Series:
    """Name the map of every row (of a cell of a frozen backbone: the first with its depth), None where there is none.

    A backbone that is not installed here has no number of blocks, so its rows have no map.
    """
    names = [_map_name(json.loads(config), maps) for config in rows["config"]]
    return pd.Series(names, index=rows.index, dtype=object)


def _map_name(configuration: Mapping[str, Any], maps: DepthMaps) -> str | None:
    backbone = configuration["backbone"]
    component = BACKBONES.installed(backbone["name"])
    if component is None:
        return None
    return maps.name_of(configuration["depth"], component.block_count(backbone), configuration["seed"])


def _of_side(cells: pd.DataFrame, side: Side, maps: DepthMaps | None) -> pd.Series:
    mask = pd.Series(True, index=cells.index)
    if side.depth is not None:
        mask &= blocks_read(cells).isin([depth_text(depth) for depth in side.depth])
    if side.map is not None:
        assert maps is not None, "plans refuse a map that is not named"
        mask &= map_names(cells, maps) == side.map
    for key, value in side.where.items():
        column = cells.get(f"config.{key}", pd.Series(None, index=cells.index, dtype=object))
        mask &= column.astype(str) == str(value)
    return mask


def _mean(cells: pd.DataFrame) -> tuple[float, np.ndarray]:
    groups = [rows for _, rows in cells.groupby("recording")]
    mean = float(np.mean([rows["score.prediction"].mean() for rows in groups]))
    draws = np.mean([np.mean(np.stack(rows["replicates"].to_list()), axis=0) for rows in groups], axis=0)
    return mean, draws


def number_text(value: float) -> str:
    """Return a number of a table with three decimals; nothing for NaN."""
    return "" if pd.isna(value) else f"{value:.3f}"


def depths_of(row: pd.Series) -> dict[str, str]:
    """Return the depth of every area of a trial as a text."""
    return {area: depth_text(depth) for area, depth in json.loads(row["config"])["depth"].items()}
