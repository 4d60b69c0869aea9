"""`sweeps show`: the answer of a sweep in the terminal."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import TextIO

import numpy as np
import pandas as pd
from rich.console import Console

from sweeps.experiment.depths import DepthMaps
from sweeps.experiment.parse_depths import read_depths
from sweeps.experiment.schema import Experiment
from sweeps.report.answers.analysis import (
    TWIN,
    are_recovered,
    by_depth,
    compare,
    depths_of,
    labels,
    number_text,
    pareto_front,
    recovered,
)
from sweeps.report.answers.best_depth import CHANCE, BestDepth, best_depths, cells_compared
from sweeps.report.answers.nested_choice import show_nested
from sweeps.report.confirmed import show_confirmations
from sweeps.report.depth_lines import lines_of, short_blocks, why_the_best_trial_differs
from sweeps.report.plain_text import LONGEST_TWIN, PlainTable, name_text, print_line
from sweeps.report.planned import contrast_labels
from sweeps.scores import SCORES
from sweeps.storage.current_rows import CurrentRows, experiment_of
from sweeps.storage.load import load, load_rows
from sweeps.storage.store import Store, warn_foreign

PLAIN_WIDTH = 120
BAR = 20
MOST_TWINS = 3
"""Columns of the table by depth; more would not fit."""
SHORT = {"prediction": "predict.", "dimensionality": "dimens.", "invariance": "invar."}
EIGHTHS = " ▏▎▍▌▋▊▉█"
LEAST_CEILING = 0.1
"""A noise ceiling below this is no measure of a bar: it then stands for 1."""


def show(uri: str, console: Console | None = None, best: int = 5) -> None:
    """Print best trials, the Pareto front, score by depth of every area, the truth beside it, and the contrasts."""
    console = console or console_of(sys.stdout)
    experiment = experiment_of(uri)
    current = CurrentRows.read(uri)
    warn_foreign(Store(uri))
    trials, cells = current.of(load(uri)), current.of(load(uri, "cells"))
    objectives = [name for name in experiment.search.objectives if trials[name].notna().any()]
    _counts(console, trials)
    if current.left_out:
        print_line(
            console, f"{current.left_out} rows of other data, splits or versions are in the tables, but not shown"
        )
    if current.edited_out:
        print_line(
            console, f"{current.edited_out} rows of configurations that the experiment no longer has are left out"
        )
    if objectives and (trials["status"] == "done").any():
        _trials(console, trials, objectives, best)
    table = by_depth(cells)
    columns = [str(column) for column in trials]
    areas = [name.removeprefix("config.depth.") for name in columns if name.startswith("config.depth.")]
    answers = best_depths(cells, _draws(uri, cells))
    for area in areas:
        _depths(console, area, table, cells, answers.get(area))
        for line in lines_of(answers[area], uri) if area in answers else ():
            print_line(console, f"  {line}")
    _difference(console, trials, objectives, {area: answers[area] for area in areas if area in answers})
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
    print_line(console, "  ".join(f"{number} {status}" for status, number in counts.items()))
    for (status, error), rows in trials.dropna(subset=["error"]).groupby(["status", "error"]):
        what = "failed" if status == "failed" else "lack a score"
        print_line(console, f"  {len(rows)} {what}: {error}", style="red")


def _columns(objectives: list[str]) -> list[str]:
    report = [f"score.{name.removeprefix('select.')}" for name in objectives]
    return list(dict.fromkeys([*objectives, *report, "score.dimensionality", "score.invariance", "score.transfer"]))


def _heading(column: str) -> str:
    split, _, name = column.partition(".")
    return f"{'report' if split == 'score' else split}\n{SHORT.get(name, name.replace('_', ' '))}"


def _trial_table(title: str, rows: pd.DataFrame, letters: pd.Series, columns: list[str]) -> PlainTable:
    """Trials as rows; twins as letters."""
    table = PlainTable(title, padding=1)
    areas = [str(column).removeprefix("config.depth.") for column in rows if str(column).startswith("config.depth.")]
    for name in ("\ntrial", "\ntwin", f"depth\n{'/'.join(map(name_text, areas))}", "\nseed"):
        table.column(name, no_wrap=True)
    shown = [column for column in columns if column in rows and rows[column].notna().any()]
    for column in shown:
        table.column(_heading(column), justify="right", no_wrap=True)
    for (_, row), letter in zip(rows.iterrows(), letters, strict=True):
        numbers = ["" if pd.isna(row[c]) else f"{row[c]:.3f}" for c in shown]
        depths = depths_of(row)
        read = "/".join(short_blocks(depths[area]) for area in areas if area in depths)
        table.row(row["trial_id"][:6], letter, read, str(row["config.seed"]), *numbers)
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
        print_line(console, f"  twin {letter} = {name}")


def _draws(uri: str, cells: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Read the draws of the cells that are compared, as far as they have any."""
    rows = load_rows(uri, "bootstraps", cells_compared(cells))
    names = [name for name in ("replicates", "chance") if name in rows]
    return {
        row["cell_id"]: {name: row[name] for name in names if isinstance(row[name], np.ndarray)}
        for row in rows.to_dict("records")
    }


def _difference(console: Console, trials: pd.DataFrame, objectives: list[str], answers: dict[str, BestDepth]) -> None:
    """Explain where the best trial and the areas' own best depths differ."""
    done = trials[trials["status"] == "done"]
    if not objectives or done.empty:
        return
    best = done.sort_values(objectives[0], ascending=False).iloc[0]
    reason = why_the_best_trial_differs(depths_of(best), objectives[0], answers)
    if reason:
        console.print()
        print_line(console, reason)


def _depths(console: Console, area: str, table: pd.DataFrame, cells: pd.DataFrame, answer: BestDepth | None) -> None:
    """Print the select prediction of an area by depth, a column per twin; a star is for a best above chance."""
    rows = table[table["area"] == area]
    if rows.empty:
        return
    best = rows.groupby(TWIN)["select"].max().sort_values(ascending=False)
    twins = [str(twin) for twin in best.index[:MOST_TWINS]]
    more = f"; the best {MOST_TWINS} of {len(best)} twins" if len(best) > MOST_TWINS else ""
    full, what = _full_bar(cells[cells["area"] == area], answer)
    title = f"{name_text(area)}: select prediction by depth (a full bar is {full:.2f}, {what}{_legend(answer)}{more})"
    grid = PlainTable()
    grid.column("depth", justify="right")
    for twin in twins:
        grid.column(name_text(twin, LONGEST_TWIN))
    scores = rows.set_index(["blocks", TWIN])["select"]
    for depth in sorted(rows["blocks"].unique(), key=_order):
        values = [(twin, float(scores.get((depth, twin), math.nan))) for twin in twins]
        grid.row(
            short_blocks(depth),
            *(f"{bar(value / full)} {number_text(value)}{_mark(answer, twin, depth)}" for twin, value in values),
        )
    console.print()
    print_line(console, title, style="italic")
    console.print(grid)


def _full_bar(cells: pd.DataFrame, answer: BestDepth | None) -> tuple[float, str]:
    """What a full bar stands for: an area's mean noise ceiling over recordings; 1 where none is known, or for noise."""
    name = "select.brain_ceiling"
    if answer is not None and answer.p > CHANCE:
        return 1.0, "a perfect prediction"
    ceiling = cells.groupby("recording")[name].mean().mean() if name in cells and cells[name].notna().any() else 0.0
    return (float(ceiling), "the noise ceiling") if ceiling >= LEAST_CEILING else (1.0, "a perfect prediction")


def _legend(answer: BestDepth | None) -> str:
    if answer is None or not answer.above_chance:
        return ""
    return "; * best, ~ not told from it" if len(answer.alike) > 1 else "; * best"


def _mark(answer: BestDepth | None, twin: str, blocks: str) -> str:
    """Mark the best depth by a star, those that cannot be told from it by a tilde; neither where it may be chance."""
    if answer is None or not answer.above_chance:
        return ""
    if (answer.best.twin, answer.best.blocks) == (twin, blocks):
        return " *"
    return " ~" if (twin, blocks) in answer.alike else ""


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
    table = PlainTable(
        "Each area's best cell by select prediction: report scores [the brain's own value, or the best null]"
    )
    table.column("score", no_wrap=True)
    here = [area for area in areas if area in best.index]
    for area in here:
        table.column(name_text(area), justify="right")
    for name in shown:
        table.row(
            name.replace("_", " "),
            *(_beside(best[best.index == area].iloc[0], name, references[name]) for area in here),
        )
    console.print()
    console.print(table)
    for line in nan_reasons(best.loc[here].reset_index(), [name for name in SCORES if SCORES[name].reasons]):
        print_line(console, line)


def nan_reasons(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Say why scores of cells are NaN, from their columns of reasons: a line for every score and reason."""
    lines = []
    for name in names:
        codes = rows.get(f"score.{name}_reason", pd.Series(dtype=float)).dropna()
        for code, areas in rows.loc[codes.index, "area"].groupby(codes):
            reason = SCORES[name].reason(float(code))
            lines.append(
                f"{name} in {', '.join(map(name_text, dict.fromkeys(areas)))}: NaN ({reason})" if reason else ""
            )
    return [line for line in lines if line]


def _beside(row: pd.Series, name: str, reference: str | None) -> str:
    own = _short(float(row[f"score.{name}"]))
    other = _short(float(row[f"score.{reference}"])) if reference and f"score.{reference}" in row else ""
    return f"{own} [{other}]" if other else own


def _truth(console: Console, truths: pd.DataFrame, cells: pd.DataFrame, areas: list[str]) -> None:
    if truths.empty:
        return
    grid = PlainTable("Planted against recovered depth")
    for name in ("area", "planted", "cannot be told apart", "recovered", ""):
        grid.column(name)
    right = 0
    order = [areas.index(area) if area in areas else len(areas) for area in truths["area"]]
    for _, row in truths.iloc[sorted(range(len(order)), key=order.__getitem__)].iterrows():
        own = cells[(cells["recording"] == row["recording"]) & (cells["area"] == row["area"])]
        answers = recovered(own)
        true = are_recovered(answers, json.loads(row["teacher"]), list(row["alike"]))
        right += int(true.any())
        depth, verdict = _verdict(answers, true)
        grid.row(name_text(row["area"]), str(row["planted"]), ", ".join(str(d) for d in row["alike"]), depth, verdict)
    console.print()
    console.print(grid)
    print_line(console, f"{right} of {len(truths)} areas recovered")


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
    table = PlainTable("Contrasts of the report prediction, 95% bootstrap interval over stimulus groups")
    for name in ("contrast", "left", "right", "difference", "interval", ""):
        table.column(name, justify="left" if name in ("contrast", "") else "right")
    maps, label = _maps(experiment, areas), contrast_labels(uri, experiment)
    for contrast in experiment.contrasts:
        result = compare(cells, bootstraps, contrast, maps)
        if result is None:
            table.row(name_text(label(contrast)), "", "", "", "", "no such cells")
            continue
        clear = "above 0" if result.low > 0 else "below 0" if result.high < 0 else "includes 0"
        table.row(
            name_text(label(contrast)),
            f"{result.left:.3f}",
            f"{result.right:.3f}",
            f"{result.difference:+.3f}",
            f"{result.low:+.3f} to {result.high:+.3f}",
            clear,
        )
    console.print()
    console.print(table)
