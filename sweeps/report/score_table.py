"""What `sweeps score` prints: the new scores of the best of the chosen trials, area by area."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pandas as pd
from rich.console import Console

from sweeps.report.plain_text import PlainTable, name_text, print_line
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
        print_line(console, f"{len(rows)} cells lack a score (--retry-failed): {error}", style="red")
    for name in scores:
        columns = [f"score.{column}" for column in SCORES[name].columns]
        well = chosen[chosen["error"].isna()].reindex(columns=columns)
        numbers = well.drop(columns=f"score.{name}_reason", errors="ignore")
        reasons = nan_reasons(chosen, [name])
        for line in reasons:
            print_line(console, line)
        if len(well) and numbers.isna().all(axis=None) and not reasons:
            print_line(console, f"{name} is NaN throughout: {SCORES[name].absent or 'it does not apply here'}")
    if len(trials) > SHOWN:
        print_line(console, f"all {len(trials)} trials: sweeps.load({uri!r}, table='areas')")
    return int(chosen["error"].notna().sum())


def _table(trial: str, areas: pd.DataFrame, scores: Sequence[str]) -> PlainTable:
    table = PlainTable(f"trial {trial}")
    table.column("score", no_wrap=True)
    for _, row in areas.iterrows():
        heading = f"{name_text(row['recording'])}\n{name_text(row['area'])}, depth {row['depth']}"
        table.column(heading, justify="right", no_wrap=True)
    for name in scores:
        for column in SCORES[name].columns:
            key = f"score.{column}"
            values = areas[key] if key in areas else pd.Series(dtype=float)
            if values.notna().any():
                table.row(column.replace("_", " "), *("" if pd.isna(v) else f"{v:.3f}" for v in values))
    return table
