"""More scores for chosen trials of a sweep: what is stored is not fitted again, and earlier scores stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from models.backbones import BACKBONES
from models.readouts import READOUTS
from models.registry import UnknownName
from sweeps.errors import InputError
from sweeps.experiment.plugins import add_import_paths, plugins_of
from sweeps.experiment.schema import Search, check_score
from sweeps.planning.plan import Plan, make_plan
from sweeps.scores import in_order
from sweeps.storage.columns import configuration_of, is_installed
from sweeps.storage.current_rows import CurrentRows, experiment_of
from sweeps.storage.load import load

WAYS = ("best:N", "all", "trial ids, or their first letters, with commas between")


@dataclass(frozen=True)
class ChosenTrials:
    """Trials to score, and the scores to compute of them."""

    trials: pd.DataFrame
    scores: list[str]


def plan_scores(
    storage: str,
    scores: Sequence[str],
    trials: str,
    data: str | None = None,
    cache: str | None = None,
    shared_cache: bool = False,
) -> tuple[Plan, ChosenTrials]:
    """Make the checked plan of the chosen trials and their scores."""
    add_import_paths([str(Path.cwd())])
    for name in scores:
        check_score(name, "--scores")
    experiment, current = experiment_of(storage), CurrentRows.read(storage)
    by_id = trials != "all" and not trials.startswith("best")
    chosen = choose(current.of(load(storage), edited=by_id), experiment.search.objectives[0], trials)
    _load_named(experiment.space)
    _check_installed(chosen)
    extended = experiment.model_copy(
        update={
            "scores": in_order([*experiment.scores, *scores]),
            "search": Search(method="random", trials=len(chosen), objectives=experiment.search.objectives),
        }
    )
    plan = make_plan(extended, data or current.base, storage, cache or current.cache_here())
    configurations = tuple(configuration_of(row) for row in chosen.to_dict("records"))
    _check_same(plan, chosen, storage)
    plugins = plugins_of(plan.experiment, plan.space, configurations)
    plan = replace(plan, chosen=configurations, plugins=plugins, shared_cache=shared_cache)
    return plan, ChosenTrials(chosen, list(scores))


def choose(trials: pd.DataFrame, objective: str, wanted: str) -> pd.DataFrame:
    """Choose done trials: the best N by an objective, all of them, or those with these ids (or beginnings of ids)."""
    done = trials[trials["status"] == "done"]
    if done.empty:
        raise InputError("no trial is done yet", key="--trials", value=wanted)
    way, _, number = wanted.partition(":")
    if wanted == "all":
        return done
    if way == "best":
        if not number.isdigit() or int(number) < 1:
            raise InputError("not a number of trials", key="--trials", value=wanted, allowed=WAYS)
        return done.sort_values(objective, ascending=False).head(int(number))
    return done.loc[[_one(done, beginning.strip()) for beginning in wanted.split(",")]].drop_duplicates("trial_id")


def _one(trials: pd.DataFrame, beginning: str) -> object:
    matches = trials.index[trials["trial_id"].str.startswith(beginning)] if beginning else trials.index[:0]
    if len(matches) != 1:
        problem = "several trials begin like this" if len(matches) else "no done trial has this id"
        raise InputError(problem, key="--trials", value=beginning, allowed=WAYS)
    return matches[0]


def _check_same(plan: Plan, chosen: pd.DataFrame, storage: str) -> None:
    """Refuse rows that the present data, splits or VERSIONs would not give again."""
    planner = plan.planner
    for row in chosen.to_dict("records"):
        if planner.trial_id(planner.cells(configuration_of(row))) != row["trial_id"]:
            problem = "the recordings or the code have changed since this trial: run the sweep again first"
            raise InputError(problem, key=storage, value=row["trial_id"])


def _load_named(space: Mapping[str, Any]) -> None:
    """Load the plug-ins that a stored experiment names by a dotted path; what cannot be loaded is refused later."""
    for family, registry in (("backbone", BACKBONES), ("readout", READOUTS)):
        entries = space.get(family)
        for entry in entries if isinstance(entries, list) else [entries]:
            for name in entry if isinstance(entry, dict) else [entry]:
                with suppress(UnknownName):
                    registry[str(name)]


def _check_installed(chosen: pd.DataFrame) -> None:
    """Refuse trials of a backbone, readout or loss that is not installed here."""
    for row in chosen.to_dict("records"):
        if not is_installed(configuration_of(row)):
            problem = "a backbone, readout or loss of this trial is not installed here, so that it cannot be scored"
            raise InputError(problem, key="--trials", value=f"{row['config.backbone']}, {row['config.readout']}")
