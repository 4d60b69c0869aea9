"""Stimuli that several recordings share: a core that is trained on all of them must not learn what one reports."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sweeps.fitting.twin_inputs import TwinInputs
from sweeps.recordings.splits import Fold


def rows_without_leakage(
    inputs: Mapping[str, TwinInputs], groups: Mapping[str, np.ndarray], folds: Mapping[str, Fold]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows that a twin of several recordings is trained on and stopped early with, by recording.

    Those of each fold's train and select sets, less every group of which another recording holds a stimulus out: for
    training in its select, report or confirm set, for early stopping in the latter two. Stimuli are the same where the
    pixels that are shown are equal. What is predicted and scored stays as it is, so report sets are those of any other
    twin.
    """
    if len(inputs) == 1:
        return {name: (folds[name].train, folds[name].select) for name in inputs}
    contents = {name: _contents(one, groups[name]) for name, one in inputs.items()}
    rows = {}
    for name, fold in folds.items():
        others = [other for other in folds if other != name]
        unseen = {other: np.concatenate([folds[other].report, folds[other].confirm]) for other in others}
        reported = set().union(*(_digests(contents[other], groups[other], unseen[other]) for other in others))
        selected = set().union(*(_digests(contents[other], groups[other], folds[other].select) for other in others))
        rows[name] = (
            _without(fold.train, groups[name], contents[name], reported | selected),
            _without(fold.select, groups[name], contents[name], reported),
        )
    return rows


def _contents(inputs: TwinInputs, groups: np.ndarray) -> dict[str, set[bytes]]:
    """Digests of the stimuli of every group."""
    contents: dict[str, set[bytes]] = {}
    for digest, rows in zip(inputs.digests, inputs.rows, strict=True):
        contents.setdefault(str(groups[np.max(rows)]), set()).add(digest)
    return contents


def _digests(contents: Mapping[str, set[bytes]], groups: np.ndarray, rows: np.ndarray) -> set[bytes]:
    return set().union(*(contents.get(str(group), set()) for group in np.unique(groups[rows])))


def _without(
    rows: np.ndarray, groups: np.ndarray, contents: Mapping[str, set[bytes]], others: set[bytes]
) -> np.ndarray:
    shared = [group for group, digests in contents.items() if digests & others]
    return rows[~np.isin(groups[rows].astype(str), shared)]
