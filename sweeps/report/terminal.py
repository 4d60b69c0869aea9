"""`sweeps show`: the answer of a sweep in the terminal."""

from __future__ import annotations

import json
import math
import sys
from typing import TextIO

import pandas as pd
from rich.console import Console
from rich.table import Table

from sweeps.experiment.depths import DepthMaps
from sweeps.experiment.parse_depths import read_depths
from sweeps.experiment.schema import Experiment
from sweeps.report.analysis import (
    TWIN,
    are_recovered,
    by_depth,
    compare,
    depths_of,
    labels,
    pareto_front,
    recovered,
)
from sweeps.report.confirmed import show_confirmations
from sweeps.report.nested_choice import show_nested
from sweeps.report.planned import contrast_labels
from sweeps.scores import SCORES
from sweeps.storage.current_rows import CurrentRows, experiment_of
from sweeps.storage.load import load

PLAIN_WIDTH = 120
BAR = 20
MOST_TWINS = 3
"""Columns of the table by depth; more would not fit."""
SHORT = {"prediction": "predict.", "dimensionality": "dimens.", "invariance": "invar."}
EIGHTHS = " ▏▎▍▌▋▊▉█"


def show(uri: str, console: Console | None = None, best: int = 5) -> None:
    """Print best trials, the Pareto front, score by depth of every area, the truth beside it, and the contrasts."""
    console = console or console_of(sys.stdout)
    experiment = experiment_of(uri)
    current = CurrentRows.read(uri)
    trials, cells = current.of(load(uri)), current.of(load(uri, "cells"))
    objectives = [name for name in experiment.search.objectives if trials[name].notna().any()]
    _counts(console, trials)
    if current.left_out:
        console.print(f"{current.left_out} rows of other data, splits or versions are in the tables, but not shown")
    if objectives and (trials["status"] == "done").any():
        _trials(console, trials, objectives, best)
    table = by_depth(cells)
    columns = [str(column) for column in trials]
    areas = [name.removeprefix("config.depth.") for name in columns if name.startswith("config.depth.")]
    _depths(console, table, areas)
    show_nested(console, uri, cells, areas)
    _brain(console, cells, areas)
    _truth(console, current.truths(uri), cells, areas)
    _contrasts(console, uri, cells, experiment, areas)
    show_confirmations(console, uri)


def console_of(stream: TextIO) -> Console:
    """Make a console on a stream; wide enough for the tables where it is no terminal."""
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PLAIN_WIDTH)


def _counts(console: Console, trials: pd.DataFrame) -> None:
    counts = trials["status"].value_counts()
    console.print("  ".join(f"{number} {status}" for status, number in counts.items()))
    for (status, error), rows in trials.dropna(subset=["error"]).groupby(["status", "error"]):
        what = "failed" if status == "failed" else "lack a score"
        console.print(f"  {len(rows)} {what}: {error}", style="red", markup=False)


def _columns(objectives: list[str]) -> list[str]:
    report = [f"score.{name.removeprefix('select.')}" for name in objectives]
    return list(dict.fromkeys([*objectives, *report, "score.dimensionality", "score.invariance", "score.transfer"]))


def _heading(column: str) -> str:
    split, _, name = column.partition(".")
    return f"{'report' if split == 'score' else split}\n{SHORT.get(name, name.replace('_', ' '))}"


def _grid(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))


def _trial_table(title: str, rows: pd.DataFrame, letters: pd.Series, columns: list[str]) -> Table:
    """Trials as rows; twins as letters."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    areas = [str(column).removeprefix("config.depth.") for column in rows if str(column).startswith("config.depth.")]
    for name in ("\ntrial", "\ntwin", f"depth\n{'/'.join(areas)}", "\nseed"):
        table.add_column(name, no_wrap=True)
    shown = [column for column in columns if column in rows and rows[column].notna().any()]
    for column in shown:
        table.add_column(_heading(column), justify="right", no_wrap=True)
    for (_, row), letter in zip(rows.iterrows(), letters, strict=True):
        numbers = ["" if pd.isna(row[c]) else f"{row[c]:.3f}" for c in shown]
        depths = depths_of(row)
        read = "/".join(short_blocks(depths[area]) for area in areas if area in depths)
        table.add_row(row["trial_id"][:6], letter, read, str(row["config.seed"]), *numbers)
    return table


def _letters(names: pd.Series) -> dict[str, str]:
    """Give every twin a short name: A, B, ... in order of first appearance, numbers after Z."""
    distinct = list(dict.fromkeys(names))
    return {name: chr(65 + place) if place < 26 else str(place) for place, name in enumerate(distinct)}


def _trials(console: Console, trials: pd.DataFrame, objectives: list[str], best: int, most: int = 10) -> None:
    """Print best trials, the Pareto front where there are several objectives, and what the twins' letters mean."""
    names, done = labels(trials), trials[trials["status"] == "done"]
    tables = {f"Best trials by {objectives[0]}": done.sort_values(objectives[0], ascending=False).head(best)}
    if len(objectives) > 1:
        front = pareto_front(trials, objectives)
        tables[f"Pareto front of {', '.join(objectives)}: {len(front)} trials"] = front.head(most)
    letters = _letters(names[pd.concat(list(tables.values())).index])
    for title, rows in tables.items():
        console.print()
        console.print(_trial_table(title, rows, names[rows.index].map(letters), _columns(objectives)))
    for name, letter in letters.items():
        console.print(f"  twin {letter} = {name}", markup=False)


def _depths(console: Console, table: pd.DataFrame, areas: list[str]) -> None:
    for area in areas:
        rows = table[table["area"] == area]
        if rows.empty:
            continue
        best = rows.groupby(TWIN)["select"].max().sort_values(ascending=False)
        twins = [str(twin) for twin in best.index[:MOST_TWINS]]
        more = f"; the best {MOST_TWINS} of {len(best)} twins" if len(best) > MOST_TWINS else ""
        grid = _grid(f"{area}: select prediction by depth (* best{more})")
        grid.add_column("depth", justify="right")
        for twin in twins:
            grid.add_column(twin)
        scores = rows.set_index(["blocks", TWIN])["select"]
        top = max(float(scores.max()), 1e-9)
        for depth in sorted(rows["blocks"].unique(), key=_order):
            values = [float(scores.get((depth, twin), math.nan)) for twin in twins]
            marks = [" *" if value == scores.max() else "" for value in values]
            grid.add_row(
                short_blocks(depth), *(f"{bar(v / top)} {_number(v)}{m}" for v, m in zip(values, marks, strict=True))
            )
        console.print()
        console.print(grid)


def short_blocks(blocks: str) -> str:
    """Shorten blocks for a table: a run of four or more of them by its ends.

    >>> short_blocks("0+1+2+3+5"), short_blocks("3+5+7"), short_blocks("4")
    ('0-3+5', '3+5+7', '4')
    """
    runs: list[list[int]] = []
    for block in map(int, blocks.split("+")):
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return "+".join(f"{run[0]}-{run[-1]}" if len(run) > 3 else "+".join(map(str, run)) for run in runs)


def _order(blocks: str) -> tuple[bool, list[int]]:
    """Sort single blocks first, then those that are read together."""
    parts = [int(part) for part in blocks.split("+")]
    return len(parts) > 1, parts


def bar(share: float, width: int = BAR) -> str:
    """Draw a bar of `width` characters filled to `share`; nothing for NaN or below zero."""
    if math.isnan(share) or share <= 0:
        return " " * width
    eighths = round(min(share, 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _short(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _brain(console: Console, cells: pd.DataFrame, areas: list[str]) -> None:
    """Print the report scores of each area's best cell, with the brain's own value beside them; one column per area."""
    done = cells[(cells["status"] == "done") & cells["select.prediction"].notna()]
    if done.empty:
        return
    best = done.loc[done.groupby("area", sort=False)["select.prediction"].idxmax()].set_index("area")
    references = {name: reference for score in SCORES.values() for name, reference in score.shown.items()}
    shown = [name for name in references if f"score.{name}" in best and best[f"score.{name}"].notna().any()]
    table = _grid("Each area's best cell by select prediction: report scores, the brain's own value in brackets")
    table.add_column("score", no_wrap=True)
    here = [area for area in areas if area in best.index]
    for area in here:
        table.add_column(area, justify="right")
    for name in shown:
        table.add_row(
            name.replace("_", " "),
            *(_beside(best[best.index == area].iloc[0], name, references[name]) for area in here),
        )
    console.print()
    console.print(table)


def _beside(row: pd.Series, name: str, reference: str | None) -> str:
    own = _short(float(row[f"score.{name}"]))
    other = _short(float(row[f"score.{reference}"])) if reference and f"score.{reference}" in row else ""
    return f"{own} [{other}]" if other else own


def _truth(console: Console, truths: pd.DataFrame, cells: pd.DataFrame, areas: list[str]) -> None:
    if truths.empty:
        return
    grid = _grid("Planted against recovered depth")
    for name in ("area", "planted", "cannot be told apart", "recovered", ""):
        grid.add_column(name)
    right = 0
    order = [areas.index(area) if area in areas else len(areas) for area in truths["area"]]
    for _, row in truths.iloc[sorted(range(len(order)), key=order.__getitem__)].iterrows():
        own = cells[(cells["recording"] == row["recording"]) & (cells["area"] == row["area"])]
        answers = recovered(own)
        true = are_recovered(answers, json.loads(row["teacher"]), list(row["alike"]))
        right += int(true.any())
        depth, verdict = _verdict(answers, true)
        grid.add_row(row["area"], str(row["planted"]), ", ".join(str(d) for d in row["alike"]), depth, verdict)
    console.print()
    console.print(grid)
    console.print(f"{right} of {len(truths)} areas recovered")


def _verdict(answers: pd.DataFrame, true: pd.Series) -> tuple[str, str]:
    """Return the recovered depth, and whether it is the planted one; twins that predict the same are all named."""
    if answers.empty:
        return "-", "NOT recovered"
    ordered = answers.assign(true=true).sort_values("true", ascending=False, kind="stable")
    first, *others = ordered[TWIN]
    depth = short_blocks(str(ordered["blocks"].iloc[0]))
    tied = f", a tie with {', '.join(dict.fromkeys(others))}" if others else ""
    return depth, ("recovered" if true.any() else f"NOT recovered, read from {first}") + tied


def _maps(experiment: Experiment, areas: list[str]) -> DepthMaps | None:
    """Return the maps that a contrast may name."""
    depths = read_depths(experiment.space.get("depth", {"shared": "all"}), areas)
    return depths if isinstance(depths, DepthMaps) else None


def _contrasts(console: Console, uri: str, cells: pd.DataFrame, experiment: Experiment, areas: list[str]) -> None:
    if not experiment.contrasts:
        return
    bootstraps = load(uri, "bootstraps")
    table = _grid("Contrasts of the report prediction, 95% bootstrap interval over stimulus groups")
    for name in ("contrast", "left", "right", "difference", "interval", ""):
        table.add_column(name, justify="left" if name in ("contrast", "") else "right")
    maps, label = _maps(experiment, areas), contrast_labels(uri, experiment)
    for contrast in experiment.contrasts:
        result = compare(cells, bootstraps, contrast, maps)
        if result is None:
            table.add_row(label(contrast), "", "", "", "", "no such cells")
            continue
        clear = "above 0" if result.low > 0 else "below 0" if result.high < 0 else "includes 0"
        table.add_row(
            label(contrast),
            f"{result.left:.3f}",
            f"{result.right:.3f}",
            f"{result.difference:+.3f}",
            f"{result.low:+.3f} to {result.high:+.3f}",
            clear,
        )
    console.print()
    console.print(table)
