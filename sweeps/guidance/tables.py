"""What `sweeps guide` prints: gains of every target, by the twin that made the pictures and by those that judge."""

from __future__ import annotations

import sys

import pandas as pd
from rich.console import Console

from sweeps.guidance.gallery import driven, twin_name
from sweeps.guidance.guide import GuidanceResult
from sweeps.report.plain_text import PlainTable, name_text, print_line
from sweeps.report.terminal import console_of


def show_guided(result: GuidanceResult, console: Console | None = None) -> None:
    """Print a table per target, a row per twin, and where its pictures lie."""
    console = console or console_of(sys.stdout)
    for folder, rows in result.rows.groupby("folder", sort=False):
        console.print()
        console.print(_table(rows))
        guide = rows[rows["role"] == "guide"].iloc[0]
        if guide["judges"]:
            gain = f"{guide['transfer_gain']:+.2f} sd"
            print_line(console, f"under twins that did not make them (transfer gain): {gain}")
        else:
            print_line(console, "no other twin judges these pictures: what its maker predicts of them is no evidence")
        print_line(console, f"pictures: {result.storage}/{folder}/gallery.png", soft_wrap=True)


def _table(rows: pd.DataFrame) -> PlainTable:
    first = rows.to_dict("records")[0]
    title = f"{driven(first)} of {name_text(first['recording'])}: gains in sd over natural pictures ({first['method']})"
    table = PlainTable(title)
    for name in ("twin", "", "held-out prediction", "over unguided", "over best natural", "off target"):
        table.column(name, justify="left" if name in ("twin", "") else "right", no_wrap=True)
    for row in rows.to_dict("records"):
        names = ("prediction", "gain_over_unguided", "gain_over_best", "off_target_ratio")
        numbers = ["" if pd.isna(row[name]) else f"{row[name]:.2f}" for name in names]
        table.row(twin_name(row), row["role"], *numbers)
    return table
