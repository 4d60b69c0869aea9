"""What `sweeps forget` prints: the trials that go, and the cells that go with them."""

from __future__ import annotations

import pandas as pd
from rich.console import Console

from sweeps.report.answers.analysis import depths_of, labels
from sweeps.report.plain_text import print_line

MOST = 10
"""Trials that are listed."""


def show_forgotten(trials: pd.DataFrame, of: int, cells: pd.DataFrame, shared: int, console: Console) -> None:
    """Print the trials that go (of so many), the cells that go with them, and how many stay for other trials."""
    print_line(console, f"{len(trials)} of {of} trials{_states(trials)}")
    names = labels(trials).tolist() if len(trials) else []
    for name, row in zip(names, trials.head(MOST).to_dict("records"), strict=False):
        error = "" if pd.isna(row["error"]) else f": {row['error']}"
        depths = "/".join(depths_of(pd.Series(row)).values())
        line = f"{row['trial_id']}  {row['status']}  {name} depth {depths} seed {row['config.seed']}{error}"
        print_line(console, f"  {line}", soft_wrap=True)
    if len(trials) > MOST:
        print_line(console, f"  and {len(trials) - MOST} more")
    stay = f"; {shared} stay, since other trials use them" if shared else ""
    print_line(console, f"{len(cells)} of their cells{_states(cells)}{stay}")


def _states(rows: pd.DataFrame) -> str:
    counts = rows["status"].value_counts()
    return f" ({', '.join(f'{number} {status}' for status, number in counts.items())})" if len(rows) else ""
