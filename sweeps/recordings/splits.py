"""Train, select and report stimuli by group: a split never cuts a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweeps.errors import InputError

FOLDED_BELOW_GROUPS = 30
FOLDED_BELOW_STIMULI = 200


@dataclass(frozen=True)
class Fold:
    """Stimulus indices of one fold. Report predictions are scored once per stimulus over all folds."""

    train: np.ndarray
    select: np.ndarray
    report: np.ndarray

    def fitted_on(self, split: str, refit: bool = True) -> np.ndarray:
        """Stimuli that a readout is fitted on: train for select; train + select for report, train without `refit`."""
        return np.union1d(self.train, self.select) if refit and split == "report" else self.train

    def held_out(self, split: str) -> np.ndarray:
        """Stimuli that it then predicts."""
        return self.select if split == "select" else self.report


def is_folded(groups: np.ndarray) -> bool:
    """Whether grouped outer folds take the report set's place (fewer than 30 groups or 200 stimuli)."""
    return len(np.unique(groups)) < FOLDED_BELOW_GROUPS or len(groups) < FOLDED_BELOW_STIMULI


def split_groups(groups: np.ndarray, report: float, select: float, split_seed: int, seed: int) -> list[Fold]:
    """One fold, or several grouped outer folds when the recording is small.

    groups (stimuli,). The report set depends on `split_seed` alone; the rest is divided into train and select
    by `split_seed` and the trial's `seed`. Folded: the groups are dealt into round(1 / report) folds by
    `split_seed`; each fold is the report set once, and another fold, chosen by `seed`, its select set, so that
    every stimulus is predicted once out of fold for either purpose.

    Raises InputError when there are fewer groups than the splits need.
    """
    distinct = np.unique(groups)
    if is_folded(groups):
        return _outer_folds(groups, distinct, round(1 / report), split_seed, seed)
    order = np.random.default_rng([split_seed, 1]).permutation(len(distinct))
    reported = max(1, round(report * len(distinct)))
    rest = np.random.default_rng([split_seed, 2, seed]).permutation(np.sort(order[reported:]))
    selected = max(1, round(select * len(distinct)))
    need_groups(len(rest) - selected, distinct)
    parts = (rest[selected:], rest[:selected], order[:reported])
    return [Fold(*(_members(groups, distinct[part]) for part in parts))]


def _outer_folds(groups: np.ndarray, distinct: np.ndarray, wanted: int, split_seed: int, seed: int) -> list[Fold]:
    count = fold_count(wanted, len(distinct))
    order = np.random.default_rng([split_seed, 1]).permutation(len(distinct))
    parts = [_members(groups, distinct[order[start::count]]) for start in range(count)]
    need_groups(len(distinct) - len(order[0::count]) - len(order[1::count]), distinct)
    return folds_of_parts(parts, split_seed, seed)


def fold_count(wanted: int, groups: int) -> int:
    """Return the number of outer folds, no more than groups; InputError for fewer than three."""
    if wanted < 3:
        raise InputError(
            f"a split.report of 1/{wanted} leaves nothing to train on: the groups of a small recording are dealt "
            "into 1 / report folds, three of them at least",
            key="group",
        )
    return min(wanted, groups)


def folds_of_parts(parts: list[np.ndarray], split_seed: int, seed: int) -> list[Fold]:
    """Return a fold for every part: it is the report set, and another part, chosen by `seed`, the select set."""
    ring = np.random.default_rng([split_seed, 2, seed]).permutation(len(parts))
    folds: list[Fold] = [None] * len(parts)  # type: ignore[list-item]
    for place, report in enumerate(ring):
        select = ring[(place + 1) % len(parts)]
        train = np.sort(np.concatenate([part for i, part in enumerate(parts) if i not in (report, select)]))
        folds[report] = Fold(train, parts[select], parts[report])
    return folds


def _members(groups: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isin(groups, chosen))


def need_groups(train_groups: int, distinct: np.ndarray) -> None:
    """Raise InputError where fewer than two groups are left to train on."""
    if train_groups < 2:
        raise InputError(
            f"fewer groups than splits: {max(0, train_groups)} would be left to train on, 2 are needed "
            "beside those of select and report",
            key="group",
            value=len(distinct),
        )
