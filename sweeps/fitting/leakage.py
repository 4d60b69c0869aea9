"""What several recordings were shown alike: a core that is trained on all of them must not learn what one reports."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sweeps.fitting.trained_inputs import Items
from sweeps.recordings.splits import Fold


def kept_apart(
    items: Mapping[str, Items], groups: Mapping[str, np.ndarray], folds: Mapping[str, Fold]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows that a twin of several recordings is trained on and stopped early with, by recording.

    Those of each fold's train and select sets, less every group of which another recording holds a stimulus out: for
    training in its select or report set, for early stopping in its report set. Stimuli are the same where the pixels
    that are shown are equal. What is predicted and scored stays as it is, so report sets are those of any other twin.
    """
    if len(items) == 1:
        return {name: (folds[name].train, folds[name].select) for name in items}
    seen = {name: _contents(held, groups[name]) for name, held in items.items()}
    kept = {}
    for name, fold in folds.items():
        others = [other for other in folds if other != name]
        reported = set().union(*(_held(seen[other], groups[other], folds[other].report) for other in others))
        selected = set().union(*(_held(seen[other], groups[other], folds[other].select) for other in others))
        kept[name] = (
            _without(fold.train, groups[name], seen[name], reported | selected),
            _without(fold.select, groups[name], seen[name], reported),
        )
    return kept


def _contents(items: Items, groups: np.ndarray) -> dict[str, set[bytes]]:
    """Digests of the stimuli of every group."""
    found: dict[str, set[bytes]] = {}
    for digest, rows in zip(items.digests, items.rows, strict=True):
        found.setdefault(str(groups[np.max(rows)]), set()).add(digest)
    return found


def _held(contents: Mapping[str, set[bytes]], groups: np.ndarray, rows: np.ndarray) -> set[bytes]:
    return set().union(*(contents.get(str(group), set()) for group in np.unique(groups[rows])))


def _without(
    rows: np.ndarray, groups: np.ndarray, contents: Mapping[str, set[bytes]], others: set[bytes]
) -> np.ndarray:
    shared = [group for group, held in contents.items() if held & others]
    return rows[~np.isin(groups[rows].astype(str), shared)]
