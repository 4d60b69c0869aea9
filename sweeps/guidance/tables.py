"""What `sweeps guide` prints: gains of every target, by the twin that made the pictures and by those that judge."""

from __future__ import annotations

import sys

import pandas as pd
from rich.console import Console
from rich.table import Table

from sweeps.guidance.gallery import driven, twin_name
from sweeps.guidance.guide import GuidanceResult
from sweeps.report.terminal import console_of


def show_guided(result: GuidanceResult, console: Console | None = None) -> None:
    """Print a table per target, a row per twin, and where its pictures lie."""
    console = console or console_of(sys.stdout)
    for folder, rows in result.rows.groupby("folder", sort=False):
        console.print()
        console.print(_table(rows))
        guide = rows[rows["role"] == "guide"].iloc[0]
        if guide["judges"]:
            console.print(f"under twins that did not make them (transfer gain): {guide['transfer_gain']:+.2f} sd")
        else:
            console.print("no other twin judges these pictures: what its maker predicts of them is no evidence")
        console.print(f"pictures: {result.storage}/{folder}/gallery.png", markup=False, soft_wrap=True)


def _table(rows: pd.DataFrame) -> Table:
    first = rows.to_dict("records")[0]
    title = f"{driven(first)} of {first['recording']}: gains in sd over natural pictures ({first['method']})"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("twin", "", "held-out prediction", "over unguided", "over best natural", "off target"):
        table.add_column(name, justify="left" if name in ("twin", "") else "right", no_wrap=True)
    for row in rows.to_dict("records"):
        names = ("prediction", "gain_over_unguided", "gain_over_best", "off_target_ratio")
        numbers = ["" if pd.isna(row[name]) else f"{row[name]:.2f}" for name in names]
        table.add_row(twin_name(row), row["role"], *numbers)
    return table
