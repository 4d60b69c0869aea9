"""What `sweeps score` prints: the new scores of the best of the chosen trials, area by area."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

from sweeps.report.terminal import console_of, nan_reasons
from sweeps.scores import SCORES
from sweeps.storage.load import load

SHOWN = 3
"""Trials that are printed; all of them are in the tables."""


def show_chosen(uri: str, trials: Sequence[str], scores: Sequence[str], console: Console | None = None) -> int:
    """Print the report values of every new score for the first of `trials`: a row per column, a column per area.

    Returns how many cells of `trials` have an error.
    """
    console = console or console_of(sys.stdout)
    areas = load(uri, "areas")
    for trial in trials[:SHOWN]:
        console.print()
        console.print(_table(trial, areas[areas["trial_id"] == trial], scores))
    chosen = areas[areas["trial_id"].isin(trials)].drop_duplicates("cell_id")
    for error, rows in chosen.dropna(subset=["error"]).groupby("error"):
        console.print(f"{len(rows)} cells lack a score (--retry-failed): {error}", style="red", markup=False)
    for name in scores:
        columns = [f"score.{column}" for column in SCORES[name].columns]
        well = chosen[chosen["error"].isna()].reindex(columns=columns)
        numbers = well.drop(columns=f"score.{name}_reason", errors="ignore")
        reasons = nan_reasons(chosen, [name])
        for line in reasons:
            console.print(line, markup=False)
        if len(well) and numbers.isna().all(axis=None) and not reasons:
            console.print(f"{name} is NaN throughout: {SCORES[name].absent or 'it does not apply here'}")
    if len(trials) > SHOWN:
        console.print(f"all {len(trials)} trials: sweeps.load({uri!r}, table='areas')", markup=False)
    return int(chosen["error"].notna().sum())


def _table(trial: str, areas: pd.DataFrame, scores: Sequence[str]) -> Table:
    table = Table(title=f"trial {trial}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("score", no_wrap=True)
    for _, row in areas.iterrows():
        table.add_column(f"{row['recording']}\n{row['area']}, depth {row['depth']}", justify="right", no_wrap=True)
    for name in scores:
        for column in SCORES[name].columns:
            key = f"score.{column}"
            values = areas[key] if key in areas else pd.Series(dtype=float)
            if values.notna().any():
                table.add_row(column.replace("_", " "), *("" if pd.isna(v) else f"{v:.3f}" for v in values))
    return table
