"""How many stimuli and groups each set of a split has, for `sweeps check`."""

from __future__ import annotations

import numpy as np

from sweeps.planning.checks import basis_of
from sweeps.planning.plan import Plan
from sweeps.recordings.recording import RecordingFacts
from sweeps.recordings.split_rows import folds_of, left_out
from sweeps.recordings.split_settings import NamedRows
from sweeps.recordings.splits import Fold
from sweeps.report.plain_text import name_text

SETS = ("train", "select", "report", "confirm")


def split_kind(plan: Plan, facts: RecordingFacts) -> str:
    """What the split of a recording is, in a few words."""
    report = plan.experiment.split.report
    if isinstance(report, NamedRows):
        return f"report {report.column}"
    if isinstance(report, str):
        return f"report {report}"
    folds = len(_folds(plan, facts))
    return f"{folds} outer folds" if folds > 1 else f"report {report:g}"


def split_sizes(plan: Plan) -> list[str]:
    """A line for every recording: stimuli (and groups) of its sets, under the first seed."""
    return [f"split of {name_text(facts.name)}: {_sizes(plan, facts)}" for facts in plan.facts]


def _sizes(plan: Plan, facts: RecordingFacts) -> str:
    basis, folds = basis_of(facts), _folds(plan, facts)
    sets = [f"{name} {_counts(basis.groups, folds, name)}" for name in SETS if len(getattr(folds[0], name))]
    lost = left_out(basis, folds)
    more = f"; {lost} left out, which share a group with a named one, or are published in neither set" if lost else ""
    each = f"{len(folds)} outer folds, each with " if len(folds) > 1 else ""
    even = ", drawn by number of repeats" if plan.experiment.split.is_random and basis.uneven else ""
    return f"{each}{', '.join(sets)} stimuli (groups){even}{more}"


def _counts(groups: np.ndarray, folds: list[Fold], name: str) -> str:
    """Stimuli and groups of a set, the fewest to the most over folds."""
    rows = [getattr(fold, name) for fold in folds]
    return f"{_range([len(row) for row in rows])} ({_range([len(np.unique(groups[row])) for row in rows])})"


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)}-{max(numbers)}"


def _folds(plan: Plan, facts: RecordingFacts) -> list[Fold]:
    return folds_of(basis_of(facts), plan.experiment.split, int(plan.space.seeds[0]), plan.shared.get(facts.name))
