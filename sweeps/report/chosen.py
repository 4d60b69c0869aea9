"""What `sweeps score` prints: the new scores of the chosen trials, area by area."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

from sweeps.report.terminal import console_of
from sweeps.results import load
from sweeps.scores import SCORES


def show_chosen(uri: str, trials: Sequence[str], scores: Sequence[str], console: Console | None = None) -> None:
    """Print a table per score: a row for every area of every trial, in the order of `trials`."""
    console = console or console_of(sys.stdout)
    areas = load(uri, "areas")
    areas = areas[areas["trial_id"].isin(trials)]
    order = {trial: place for place, trial in enumerate(trials)}
    areas = areas.sort_values("trial_id", key=lambda ids: ids.map(order), kind="stable")
    for name in scores:
        columns = [f"score.{column}" for column in SCORES[name].columns]
        shown = [column for column in columns if column in areas and areas[column].notna().any()]
        console.print()
        if not shown:
            console.print(f"{name}: NaN throughout, since {SCORES[name].absent}")
            continue
        console.print(_table(f"{name}: {SCORES[name].summary}", areas, shown))


def _table(title: str, areas: pd.DataFrame, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("trial", "recording", "area", "depth"):
        table.add_column(heading, no_wrap=True)
    for column in columns:
        table.add_column(column.removeprefix("score.").replace("_", " "), justify="right")
    for _, row in areas.iterrows():
        numbers = ["" if pd.isna(row[column]) else f"{row[column]:.3f}" for column in columns]
        table.add_row(row["trial_id"][:8], row["recording"], row["area"], str(row["depth"]), *numbers)
    return table
