"""Ray-distributed sweeps over digital twins of visual cortex.

    import sweeps

    trials = sweeps.load("s3://lab/sweeps/macaque-depth")  # a DataFrame, one row per trial
    result = sweeps.run("experiment.yaml", storage="results/mine")  # the same as `sweeps run` in a shell

`load` and `show` read results, beside any other package called `models` or `metrics` too; `check`, `run` and `score`
need those of this project, and say so where others come first on the import path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    import pandas as pd

    from sweeps.commands.run import Result
    from sweeps.planning.plan import Plan

__version__ = "0.1.0"
__all__ = ["__version__", "check", "load", "run", "score", "show"]


def __dir__() -> list[str]:
    return list(__all__)


def load(storage: str, table: str = "trials") -> pd.DataFrame:
    """Load a table of a sweep as a DataFrame, every row once, with what is newer than the folded table.

    storage: the sweep's place, a folder or a URL such as "s3://lab/sweeps/macaque-depth".
    table: "trials" (one row per trial), "cells" (one per fitted readout of a recording and area), "areas" (one per
        trial, recording and area: the trial's configuration beside the cell's scores), "bootstraps", "truths" or
        "guidance"; README.md says what each holds.

    May be called at any time, also while the sweep runs. Rows of a plug-in that is not installed here load too: types
    come from the files themselves. Raises InputError when there is no such sweep or table.

    >>> trials = load("results/quickstart")  # doctest: +SKIP
    >>> trials.loc[trials["status"] == "done", "score.prediction"].max()  # doctest: +SKIP
    """
    from sweeps.storage.load import load as read

    return read(storage, table)


def show(storage: str, best: int = 5) -> None:
    """Print the answer of a sweep: best trials, Pareto front, score by depth of every area, truths and contrasts.

    storage: the sweep's place, a folder or a URL.
    best: how many of the best trials are listed.

    Where another package called `models` or `metrics` comes first on the import path, a process of its own prints it.
    Raises InputError when there is no such sweep.

    >>> show("results/quickstart", best=3)  # doctest: +SKIP
    """
    from sweeps.errors import InputError
    from sweeps.io.import_guard import check_names

    try:
        check_names()
    except InputError:
        from sweeps.commands.elsewhere import show_elsewhere

        show_elsewhere(storage, best)
        return
    from sweeps.report.terminal import show as show_answer

    show_answer(storage, best=best)


def check(
    experiment: str | Path | Mapping[str, Any],
    storage: str | None = None,
    data: str | None = None,
    cache: str | None = None,
) -> Plan:
    """Check an experiment without running it, and return its plan; one stimulus of every recording is read.

    experiment: an experiment file, the name of a shipped experiment, or a mapping with the same keys.
    storage: where rows would go, a folder or a URL (default: the experiment's own, else "results/<name>").
    data: the folder or URL that paths of recordings are relative to (default: the file's folder).
    cache: the folder of every node for features and fits (default: "~/.cache/cortex-sweeps").

    Nothing is written. Raises InputError, which names file, key, value and what is allowed.

    >>> check("quickstart").cell_count()
    68
    """
    from sweeps.io.import_guard import check_names

    check_names()
    from sweeps.planning.plan import make_plan

    return make_plan(experiment, data, storage, cache)


def run(
    experiment: str | Path | Mapping[str, Any],
    storage: str | None = None,
    address: str | None = None,
    data: str | None = None,
    cache: str | None = None,
    retry_failed: bool = False,
    cpus: int | None = None,
    quiet: bool = True,
    join: bool = False,
    shared_cache: bool = False,
    require_all_nodes: bool = False,
) -> Result:
    """Run an experiment to its end, or go on with it; what is finished is never done again.

    experiment: an experiment file, the name of a shipped experiment, or a mapping with the same keys.
    storage: where rows go, a folder or a URL (default: the experiment's own, else "results/<name>").
    address: a Ray cluster (default: the one in RAY_ADDRESS, else an own local one that ends with the run).
    data: the folder or URL that paths of recordings are relative to (default: the file's folder).
    cache: the folder of every node for features and fits (default: "~/.cache/cortex-sweeps").
    retry_failed: run trials again that ended in an error.
    cpus: cores of an own local Ray (default: all that this process may use).
    quiet: show no progress.
    join: work beside a run of the same experiment that is at work in the same storage.
    shared_cache: take a cache that other users can write, too; their entries are not read.
    require_all_nodes: raise InputError where a node of the cluster is not ready, instead of leaving it out.

    Returns a Result: `.trials` and `.areas` are DataFrames; `.finished` is False when the run was interrupted (Ctrl-C,
    a notebook's stop), and the same call then goes on. SIGTERM and SIGHUP raise SystemExit once what is under way is
    written, unless the program handles them itself. Raises InputError for bad input before anything is written, and
    where another run is at work in the same storage.

    >>> result = run("quickstart", storage="results/quickstart", cpus=2)  # doctest: +SKIP
    >>> result.trials["status"].value_counts()  # doctest: +SKIP
    """
    from sweeps.io.import_guard import check_names

    check_names()
    from dataclasses import replace

    from sweeps.commands.run import run_plan
    from sweeps.planning.plan import make_plan

    plan = replace(make_plan(experiment, data, storage, cache), shared_cache=shared_cache)
    return _unless_terminated(run_plan(plan, address, retry_failed, cpus, quiet, join, require_all_nodes))


def score(
    storage: str,
    scores: Sequence[str],
    trials: str = "best:20",
    data: str | None = None,
    cache: str | None = None,
    address: str | None = None,
    cpus: int | None = None,
    retry_failed: bool = False,
    quiet: bool = True,
    shared_cache: bool = False,
) -> Result:
    """Compute scores for chosen trials of a finished sweep; they become columns of its tables.

    storage: the sweep's place, a folder or a URL.
    scores: names of scores, such as ["rsa", "invariance-battery"].
    trials: "best:N" by the sweep's first objective, "all", or trial ids with commas between.
    data: where the recordings lie (default: where the sweep found them).
    cache: where fits were kept (default: where the sweep kept them).
    address, cpus, quiet, shared_cache: as in `run`.
    retry_failed: compute scores again that ended in an error.

    A score that a trial has already under its present VERSION is not computed again. Raises InputError for bad input
    before anything is written.

    >>> score("results/quickstart", ["rsa"], trials="best:5")  # doctest: +SKIP
    """
    from sweeps.io.import_guard import check_names

    check_names()
    from sweeps.commands.rescore import plan_scores
    from sweeps.commands.run import run_plan

    plan, _ = plan_scores(storage, scores, trials, data, cache, shared_cache)
    return _unless_terminated(run_plan(plan, address, retry_failed, cpus, quiet))


def _unless_terminated(result: Result) -> Result:
    """Give the result; SIGTERM and SIGHUP end the program, as they would have without a run."""
    from signal import SIGINT

    if result.signal not in (0, SIGINT):
        raise SystemExit(128 + result.signal)
    return result
