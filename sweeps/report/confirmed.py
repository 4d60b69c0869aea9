"""What the confirm set of a sweep said, and how often it was opened."""

from __future__ import annotations

import pandas as pd
from rich.console import Console

from sweeps.report.answers.analysis import number_text
from sweeps.report.plain_text import PlainTable, name_text, print_line
from sweeps.storage.objects import attempt
from sweeps.storage.store import Store


def show_confirmations(console: Console, uri: str) -> None:
    """Print every opening of the confirm set, area by area; nothing where it was not opened."""
    stored = attempt(lambda: Store(uri).read_table("confirmations"), uri)
    if stored is None or not len(stored):
        return
    rows = stored.to_pandas().sort_values("opened", kind="stable")
    title = "Confirm set: prediction of stimuli that took part in nothing, 95% bootstrap interval over groups"
    table = PlainTable(title)
    for name in ("opened", "trial", "recording", "area", "prediction", "interval", "stimuli", "when"):
        table.column(name, justify="right" if name in ("prediction", "interval", "stimuli") else "left")
    for row in rows.to_dict("records"):
        table.row(
            str(row["opened"]),
            row["trial_id"][:6],
            name_text(row["recording"]),
            name_text(row["area"]),
            number_text(row["prediction"]),
            f"{number_text(row['prediction_low'])} to {number_text(row['prediction_high'])}",
            str(row["stimuli"]),
            pd.Timestamp(row["finished"]).strftime("%Y-%m-%d %H:%M"),
        )
    console.print()
    console.print(table)
    if rows["opened"].max() > 1:
        print_line(console, "opened more than once: only the first opening is a confirmation")
