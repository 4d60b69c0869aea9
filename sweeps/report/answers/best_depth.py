"""How sure the best depth of an area is: its interval, its chance level, and what cannot be told from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from metrics import bootstrap_interval, model_confidence_set, permutation_p
from sweeps.report.answers.analysis import TWIN, blocks_read, labels

CANDIDATES = 60
"""Most pairs of a twin and a depth that are compared: the best by select prediction."""

CHANCE = 0.05
"""A prediction is above chance where its p is at most this."""

LEVEL = 0.95

Draws = Mapping[str, Mapping[str, np.ndarray]]
"""By cell_id the arrays `replicates` and `chance` of its report prediction; either may be missing."""


@dataclass(frozen=True)
class Candidate:
    """A twin at a depth for one area: its mean select and report prediction, and the cells that these are of."""

    twin: str
    blocks: str
    select: float
    report: float
    cells: pd.DataFrame


@dataclass(frozen=True)
class BestDepth:
    """The best depth of an area by select prediction, and what the report stimuli say of it.

    `low` and `high` bound its 95 % interval, `p` is that of its prediction by chance, `groups` the number of stimulus
    groups that they rest on (of the recording with fewest); NaN where the cells have no such draws. `alike` are the
    pairs (twin, blocks) that cannot be told from the best one of `compared`, empty where there are no replicates.
    """

    best: Candidate
    low: float
    high: float
    p: float
    groups: float
    alike: tuple[tuple[str, str], ...]
    compared: int

    @property
    def above_chance(self) -> bool:
        """Whether the prediction is above chance; False also where that is not known."""
        return self.p <= CHANCE

    def depths(self, twin: str) -> list[str]:
        """The depths of a twin that cannot be told from the best."""
        return [blocks for name, blocks in self.alike if name == twin]


def candidates_of(cells: pd.DataFrame) -> dict[str, list[Candidate]]:
    """Return the pairs of a twin and a depth of every area, best by select prediction first.

    Predictions are means over recordings of the means over seeds, as in `by_depth`; pairs without one are left out.
    """
    done = cells[cells["status"] == "done"]
    if done.empty:
        return {}
    frame = done.assign(**{TWIN: labels(done), "blocks": blocks_read(done)})
    areas: dict[str, list[Candidate]] = {}
    for (area, twin, blocks), rows in frame.groupby(["area", TWIN, "blocks"], sort=False):
        select, report = (_mean_of(rows, column) for column in ("select.prediction", "score.prediction"))
        areas.setdefault(str(area), []).append(Candidate(str(twin), str(blocks), select, report, rows))
    scored = {area: [pair for pair in pairs if not np.isnan(pair.select)] for area, pairs in areas.items()}
    return {area: sorted(pairs, key=lambda pair: -pair.select) for area, pairs in scored.items() if pairs}


def best_depths(cells: pd.DataFrame, draws: Draws) -> dict[str, BestDepth]:
    """Say for every area which depth is best, and how sure that is."""
    return {area: best_depth(candidates, draws) for area, candidates in candidates_of(cells).items()}


def cells_compared(cells: pd.DataFrame) -> list[str]:
    """The ids of the cells whose draws `best_depths` takes."""
    pairs = [pair for candidates in candidates_of(cells).values() for pair in candidates[:CANDIDATES]]
    return [cell_id for pair in pairs for cell_id in pair.cells["cell_id"]]


def _mean_of(cells: pd.DataFrame, column: str) -> float:
    return float(cells.groupby("recording")[column].mean().mean())


def best_depth(candidates: list[Candidate], draws: Draws) -> BestDepth:
    """Say how sure the best of these candidates is, given the draws of their cells.

    The choice is made on the select stimuli, all that is said of it on the report stimuli: they were not used for it.
    The set holds what may be the best on those: a model confidence set over the CANDIDATES that are best on select, of
    those that have replicates in the same recordings as the best one. All cells of a recording share the resamples.
    """
    best = candidates[0]
    replicates, null = _drawn(best.cells, draws, "replicates"), _drawn(best.cells, draws, "chance")
    low, high = (float("nan"),) * 2 if replicates is None else bootstrap_interval(replicates, LEVEL)
    p = float("nan") if null is None else permutation_p(best.report, null)
    alike, compared = ((), 0) if replicates is None else _alike(candidates[:CANDIDATES], best, draws)
    return BestDepth(best, low, high, p, _groups(best.cells), alike, compared)


def _alike(candidates: list[Candidate], best: Candidate, draws: Draws) -> tuple[tuple[tuple[str, str], ...], int]:
    """The pairs that cannot be told from the best one on the report stimuli, and how many were compared."""
    recordings = set(best.cells["recording"])
    rivals = [pair for pair in candidates if set(pair.cells["recording"]) == recordings and not np.isnan(pair.report)]
    drawn = [(pair, _drawn(pair.cells, draws, "replicates")) for pair in rivals]
    complete = [(pair, array) for pair, array in drawn if array is not None]
    if not complete:
        return (), 0
    arrays = np.stack([array for _, array in complete])
    members = model_confidence_set(arrays, [pair.report for pair, _ in complete], LEVEL).members
    alike = [(pair.twin, pair.blocks) for (pair, _), member in zip(complete, members, strict=True) if member]
    return tuple(alike), len(complete)


def _drawn(cells: pd.DataFrame, draws: Draws, name: str) -> np.ndarray | None:
    """Mean over recordings of the mean over cells of their draws; None where a cell has none."""
    arrays = [draws.get(cell_id, {}).get(name) for cell_id in cells["cell_id"]]
    found = [array for array in arrays if array is not None]
    if len(found) < len(arrays) or len({len(array) for array in found}) != 1:
        return None
    stacked, recording = np.stack(found).astype(float), cells["recording"].to_numpy()
    means = [stacked[recording == name].mean(axis=0) for name in dict.fromkeys(recording)]
    return np.asarray(np.mean(means, axis=0))


def _groups(cells: pd.DataFrame) -> float:
    column = cells.get("score.prediction_groups", pd.Series(dtype=float))
    return float(column.min()) if len(column) else float("nan")
