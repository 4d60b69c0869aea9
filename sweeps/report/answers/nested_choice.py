"""Small recordings: the depth chosen anew in every outer fold, so that no stimulus is chosen on and reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from sweeps.report.answers.analysis import TWIN, blocks_read, labels, number_text
from sweeps.report.plain_text import PlainTable, name_text, print_line
from sweeps.scores.fold_statistics import SUMS, prediction_of
from sweeps.storage.objects import attempt
from sweeps.storage.store import Store

Choice = tuple[str, str]
"""Twin and blocks."""


@dataclass(frozen=True)
class NestedChoice:
    """Of one area of one recording: the report prediction of what each fold chose, and how often each was chosen.

    `plain` is the report prediction of the one twin and depth with the best select prediction over all folds.
    """

    recording: str
    area: str
    nested: float
    plain: float
    wins: dict[Choice, int]


def nested_choices(cells: pd.DataFrame, folds: pd.DataFrame) -> list[NestedChoice]:
    """Choose twin and depth on every outer fold's own select predictions, and score the chosen over all folds.

    `cells` are rows of `cells`, `folds` those of the table `folds`. Per fold the highest select score wins, its mean
    over seeds; the earlier in the tables of equal ones. The report sums of the winners are added up, seed by seed (a
    winner that lacks a seed gives that of its first), and the mean over seeds is the estimate. Areas of which a cell
    that is done has no row in `folds`, as those of earlier versions, are left out: a choice among some of the twins
    would be another one. Source: nested cross-validation, Varma and Simon (2006).
    """
    done = cells[(cells["status"] == "done") & (cells["outer_folds"].fillna(0) > 1)]
    if done.empty or folds.empty:
        return []
    frame = done.assign(**{TWIN: labels(done), "blocks": blocks_read(done)})
    joined = frame.merge(folds[["cell_id", "folds", "select", "sums"]], on="cell_id", how="left")
    groups = joined.groupby(["recording", "area"], sort=False)
    return [
        _nested(str(recording), str(area), rows)
        for (recording, area), rows in groups
        if rows["folds"].notna().all() and rows["folds"].nunique() == 1
    ]


def _nested(recording: str, area: str, rows: pd.DataFrame) -> NestedChoice:
    candidates: dict[Choice, dict[int, Mapping[str, Any]]] = {}
    for row in rows.to_dict("records"):
        candidates.setdefault((row[TWIN], row["blocks"]), {})[int(row["config.seed"])] = {
            str(key): value for key, value in row.items()
        }
    names = list(candidates)
    scores = np.array([_mean([row["select"] for row in candidates[name].values()]) for name in names])
    winners = [names[index] for index in np.argmax(np.where(np.isnan(scores), -np.inf, scores), axis=0)]
    seeds = sorted({seed for seeds in candidates.values() for seed in seeds})
    nested = [prediction_of(_summed([candidates[name] for name in winners], seed)) for seed in seeds]
    means = {name: _mean([[row["select.prediction"]] for row in candidates[name].values()])[0] for name in names}
    best = max(names, key=lambda name: -np.inf if np.isnan(means[name]) else means[name])
    plain = _mean([[row["score.prediction"]] for row in candidates[best].values()])[0]
    return NestedChoice(recording, area, _mean([[value] for value in nested])[0], plain, dict(Counter(winners)))


def _mean(values: Sequence[Any]) -> np.ndarray:
    """Mean over the first axis of what is there."""
    table = np.array([np.asarray(value, dtype=np.float64) for value in values])
    present = ~np.isnan(table)
    with np.errstate(invalid="ignore"):  # none of none is NaN
        return np.asarray(np.where(present, table, 0.0).sum(axis=0) / present.sum(axis=0))


def _summed(winners: Sequence[Mapping[int, Mapping[str, Any]]], seed: int) -> np.ndarray:
    """Report sums (units, SUMS) of the winner of every fold, added up."""
    rows = [seeds.get(seed) or seeds[min(seeds)] for seeds in winners]
    parts = [np.asarray(row["sums"]).reshape(len(winners), -1, SUMS)[fold] for fold, row in enumerate(rows)]
    return np.asarray(np.sum(parts, axis=0))


def show_nested(console: Console, uri: str, cells: pd.DataFrame, areas: list[str]) -> None:
    """Print the nested estimate of every area of a small recording, beside the plain one, with the counts of wins."""
    if not len(cells) or not (cells["outer_folds"].fillna(0) > 1).any():
        return
    stored = attempt(lambda: Store(uri).read_table("folds"), uri)
    choices = nested_choices(cells, pd.DataFrame() if stored is None else stored.to_pandas())
    console.print()
    if choices:
        console.print(_table(sorted(choices, key=lambda choice: areas.index(choice.area)), cells))
    lacking = cells[(cells["outer_folds"].fillna(0) > 1) & (cells["status"] == "done")]
    pairs = set(zip(lacking["recording"], lacking["area"], strict=True))
    missing = sorted(pairs - {(choice.recording, choice.area) for choice in choices})
    if missing:
        names = ", ".join(f"{name_text(recording)}/{name_text(area)}" for recording, area in missing)
        print_line(console, f"no nested estimate of {names}: some cells were scored before folds were kept")


def _table(choices: Iterable[NestedChoice], cells: pd.DataFrame) -> PlainTable:
    title = "Small recordings: report prediction of what each outer fold chose on its own select set (nested)"
    table = PlainTable(title)
    for name in ("area", "recording", "nested", "best depth of all folds", "chosen in folds (depth: times)"):
        table.column(name, justify="right" if name.startswith(("nested", "best")) else "left")
    several = cells[cells["status"] == "done"].pipe(labels).nunique() > 1
    for choice in choices:
        ordered = sorted(choice.wins.items(), key=lambda win: -win[1])
        wins = ", ".join(f"{blocks}{f' of {twin}' if several else ''}: {count}" for (twin, blocks), count in ordered)
        names = name_text(choice.area), name_text(choice.recording)
        table.row(*names, number_text(choice.nested), number_text(choice.plain), wins)
    return table
