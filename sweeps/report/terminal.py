"""`sweeps show`: the answer of a sweep in the terminal."""

from __future__ import annotations

import math

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from sweeps.errors import InputError
from sweeps.experiment import Experiment, parse_experiment
from sweeps.report.answer import TWIN, by_depth, compare, depth_map, labels, pareto_front, recovered
from sweeps.results import load
from sweeps.storage import Store

BAR = 20
EIGHTHS = " ▏▎▍▌▋▊▉█"


def show(uri: str, console: Console | None = None, best: int = 5) -> None:
    """Print best trials, the Pareto front, score by depth of every area, the truth beside it, and the contrasts."""
    console = console or Console(highlight=False)
    experiment = read_stored(uri)
    trials, cells = load(uri), load(uri, "cells")
    objectives = [name for name in experiment.search.objectives if trials[name].notna().any()]
    _counts(console, trials)
    if objectives and (trials["status"] == "done").any():
        _best(console, trials, objectives, best)
        if len(objectives) > 1:
            _front(console, trials, objectives)
    table = by_depth(cells)
    _depths(console, table)
    _brain(console, cells, experiment)
    _truth(console, uri, table)
    _contrasts(console, uri, cells, experiment)


def read_stored(uri: str) -> Experiment:
    """The experiment whose rows lie at `uri`."""
    content = Store(uri).get("experiment.yaml")
    if content is None:
        raise InputError("no finished sweep has written here", key="storage", value=uri)
    return parse_experiment(yaml.safe_load(content), file=f"{uri}/experiment.yaml")


def _counts(console: Console, trials: pd.DataFrame) -> None:
    counts = trials["status"].value_counts()
    console.print("  ".join(f"{number} {status}" for status, number in counts.items()))
    for error, rows in trials[trials["status"] == "failed"].groupby("error"):
        console.print(f"  failed {len(rows)} times: {error}", style="red", markup=False)


def _columns(objectives: list[str]) -> list[str]:
    report = [f"score.{name.removeprefix('select.')}" for name in objectives]
    return list(dict.fromkeys([*objectives, *report, "score.dimensionality", "score.invariance", "score.transfer"]))


def _trial_table(title: str, rows: pd.DataFrame, trials: pd.DataFrame, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("trial", "twin", "depths", "seed"):
        table.add_column(name, no_wrap=name != "depths")
    shown = [column for column in columns if column in rows and rows[column].notna().any()]
    for column in shown:
        table.add_column(column.replace("score.", "report "), justify="right")
    names = labels(trials)
    for (_, row), name in zip(rows.iterrows(), names[rows.index], strict=True):
        numbers = ["" if pd.isna(row[c]) else f"{row[c]:.3f}" for c in shown]
        table.add_row(row["trial_id"][:8], name, depth_map(row), str(row["config.seed"]), *numbers)
    return table


def _best(console: Console, trials: pd.DataFrame, objectives: list[str], count: int) -> None:
    done = trials[trials["status"] == "done"].sort_values(objectives[0], ascending=False).head(count)
    console.print()
    console.print(_trial_table(f"Best trials by {objectives[0]}", done, trials, _columns(objectives)))


def _front(console: Console, trials: pd.DataFrame, objectives: list[str], most: int = 10) -> None:
    front = pareto_front(trials, objectives)
    console.print()
    title = f"Pareto front of {', '.join(objectives)}: {len(front)} trials"
    console.print(_trial_table(title, front.head(most), trials, _columns(objectives)))


def _depths(console: Console, table: pd.DataFrame) -> None:
    for area, rows in table.groupby("area", sort=False):
        console.print()
        twins = list(dict.fromkeys(rows[TWIN]))
        grid = Table(title=f"{area}: select prediction by depth", title_justify="left", box=None, padding=(0, 2, 0, 0))
        grid.add_column("depth", justify="right")
        for twin in twins:
            grid.add_column(twin)
        top = max(float(rows["select"].max()), 1e-9)
        held = rows.set_index(["depth", TWIN])["select"]
        for depth in sorted(rows["depth"].unique()):
            values = [held.get((depth, twin), math.nan) for twin in twins]
            marks = [" *" if value == held.max() else "" for value in values]
            grid.add_row(str(depth), *(f"{bar(v / top)} {_number(v)}{m}" for v, m in zip(values, marks, strict=True)))
        console.print(grid)


def bar(share: float, width: int = BAR) -> str:
    """A bar of `width` characters filled to `share`; nothing for NaN or below zero."""
    if math.isnan(share) or share <= 0:
        return " " * width
    eighths = round(min(share, 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _brain(console: Console, cells: pd.DataFrame, experiment: Experiment) -> None:
    """Report scores of each area's best cell, with the brain's own value beside them."""
    done = cells[(cells["status"] == "done") & cells["select.prediction"].notna()]
    if done.empty:
        return
    best = done.loc[done.groupby("area", sort=False)["select.prediction"].idxmax()]
    table = Table(
        title="Each area's best cell by select prediction, on the report split (brain's own value in brackets)",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("area")
    pairs = [
        ("prediction", "brain_ceiling"),
        ("invariance", "brain_invariance"),
        ("invariance_alignment", None),
        ("participation_ratio", "brain_participation_ratio"),
        ("two_nn", "brain_two_nn"),
        ("dimensionality", None),
        ("transfer", "brain_transfer"),
        ("transfer_null", None),
        ("transfer_brain", "brain_transfer_brain"),
        ("feature_transfer", None),
        ("feature_transfer_direct", None),
        ("feature_transfer_other", None),
        ("feature_transfer_null", None),
    ]
    shown = [(a, b) for a, b in pairs if f"score.{a}" in best and best[f"score.{a}"].notna().any()]
    for name, _ in shown:
        table.add_column(name.replace("_", " "), justify="right")
    for _, row in best.iterrows():
        table.add_row(row["area"], *(_beside(row, name, brain) for name, brain in shown))
    console.print()
    console.print(table)


def _beside(row: pd.Series, name: str, brain: str | None) -> str:
    own = _number(float(row[f"score.{name}"]))
    other = _number(float(row[f"score.{brain}"])) if brain and f"score.{brain}" in row else ""
    return f"{own} [{other}]" if other else own


def _truth(console: Console, uri: str, table: pd.DataFrame) -> None:
    truths = load(uri, "truths") if _has(uri, "truths") else pd.DataFrame()
    if truths.empty:
        return
    answer = recovered(table)
    grid = Table(title="Planted against recovered depth", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("area", "planted", "cannot be told apart", "recovered", "from", ""):
        grid.add_column(name)
    right = 0
    for _, row in truths.iterrows():
        twin, depth = answer.get(row["area"], ("", -1))
        fits = depth in list(row["alike"])
        right += fits
        alike = ", ".join(str(d) for d in row["alike"])
        grid.add_row(
            row["area"],
            str(row["planted"]),
            alike,
            str(depth),
            twin,
            "recovered" if fits else "NOT recovered",
        )
    console.print()
    console.print(grid)
    console.print(f"{right} of {len(truths)} areas recovered")


def _has(uri: str, table: str) -> bool:
    return Store(uri).get(f"{table}/{table}.parquet") is not None


def _contrasts(console: Console, uri: str, cells: pd.DataFrame, experiment: Experiment) -> None:
    if not experiment.contrasts:
        return
    bootstraps = load(uri, "bootstraps")
    table = Table(
        title="Contrasts of the report prediction, 95% bootstrap interval over stimulus groups",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for name in ("contrast", "left", "right", "difference", "interval", ""):
        table.add_column(name, justify="left" if name in ("contrast", "") else "right")
    for contrast in experiment.contrasts:
        found = compare(cells, bootstraps, contrast)
        if found is None:
            table.add_row(contrast.name, "", "", "", "", "no such cells")
            continue
        clear = "above 0" if found.low > 0 else "below 0" if found.high < 0 else "includes 0"
        table.add_row(
            found.name,
            f"{found.left:.3f}",
            f"{found.right:.3f}",
            f"{found.difference:+.3f}",
            f"{found.low:+.3f} to {found.high:+.3f}",
            clear,
        )
    console.print()
    console.print(table)
