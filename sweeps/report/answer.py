"""The answer of a sweep as tables: score by depth, recovered depth, contrasts, the Pareto front."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from metrics import bootstrap_interval
from sweeps.experiment import Contrast, Side

TWIN = "twin"


def labels(frame: pd.DataFrame) -> pd.Series:
    """What each row reads with: backbone and readout with their parameters that vary, as one text."""
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
    """Mean scores of each (area, twin, depth) over seeds and recordings: columns select, score, cells."""
    done = cells[cells["status"] == "done"]
    if done.empty:
        return pd.DataFrame(columns=["area", TWIN, "depth", "select", "score", "cells"])
    frame = done.assign(**{TWIN: labels(done)})
    within = frame.groupby(["area", TWIN, "depth", "recording"], sort=False)[["select.prediction", "score.prediction"]]
    means = within.mean().groupby(["area", TWIN, "depth"], sort=False).mean().reset_index()
    counts = frame.groupby(["area", TWIN, "depth"]).size().rename("cells").reset_index()
    joined = means.merge(counts, on=["area", TWIN, "depth"])
    return joined.rename(columns={"select.prediction": "select", "score.prediction": "score"})


def recovered(table: pd.DataFrame) -> dict[str, tuple[str, int]]:
    """For every area the twin and the depth with the highest mean select prediction."""
    answer = {}
    for area, rows in table.dropna(subset=["select"]).groupby("area", sort=False):
        best = rows.iloc[int(np.argmax(rows["select"].to_numpy()))]
        answer[str(area)] = (str(best[TWIN]), int(best["depth"]))
    return answer


def pareto_front(trials: pd.DataFrame, objectives: list[str]) -> pd.DataFrame:
    """Finished trials that no other trial beats in every objective, best first objective first."""
    done = trials[trials["status"] == "done"].dropna(subset=objectives)
    values = done[objectives].to_numpy(dtype=float)
    best = [not np.any(np.all(values >= row, axis=1) & np.any(values > row, axis=1)) for row in values]
    return done[best].sort_values(objectives, ascending=False)


@dataclass(frozen=True)
class Compared:
    """A contrast: difference of the means of the report prediction, with a 95% interval over stimulus groups."""

    name: str
    left: float
    right: float
    difference: float
    low: float
    high: float


def compare(cells: pd.DataFrame, bootstraps: pd.DataFrame, contrast: Contrast) -> Compared | None:
    """Difference between two sets of cells of an area, paired over resampled stimulus groups.

    Each side is the mean over recordings of the mean over its cells. All cells of a recording share the resamples,
    so that the interval is of the paired difference. None when a side has no cells.
    """
    first = _side(cells, bootstraps, contrast.area, contrast.left)
    second = _side(cells, bootstraps, contrast.area, contrast.right)
    if first is None or second is None:
        return None
    (left, left_draws), (right, right_draws) = first, second
    low, high = bootstrap_interval(left_draws - right_draws)
    return Compared(contrast.name, left, right, left - right, low, high)


def _side(cells: pd.DataFrame, bootstraps: pd.DataFrame, area: str, side: Side) -> tuple[float, np.ndarray] | None:
    chosen = (cells["area"] == area) & (cells["status"] == "done")
    if side.depth is not None:
        chosen &= cells["depth"].isin(side.depth)
    for key, value in side.where.items():
        column = f"config.{key}"
        if column not in cells:
            return None
        chosen &= cells[column].astype(str) == str(value)
    held = cells[chosen].merge(bootstraps, on="cell_id")
    if held.empty:
        return None
    groups = [rows for _, rows in held.groupby("recording")]
    mean = float(np.mean([rows["score.prediction"].mean() for rows in groups]))
    draws = np.mean([np.mean(np.stack(rows["replicates"].to_list()), axis=0) for rows in groups], axis=0)
    return mean, draws


def depths_of(row: pd.Series) -> dict[str, int]:
    """The depth of every area of a trial."""
    held: dict[str, int] = json.loads(row["config"])["depth"]
    return held
