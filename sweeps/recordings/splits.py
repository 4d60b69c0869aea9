"""Train, select and report stimuli by group: a split never cuts a group."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sweeps.errors import InputError

FOLDED_BELOW_GROUPS = 30
FOLDED_BELOW_STIMULI = 200

NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Fold:
    """Stimulus indices of one fold. Report predictions are scored once per stimulus over all folds.

    `confirm` are stimuli that are kept out of all three, until `sweeps confirm`.
    """

    train: np.ndarray
    select: np.ndarray
    report: np.ndarray
    confirm: np.ndarray = field(default_factory=lambda: NONE)

    def fitted_on(self, split: str, refit: bool = True) -> np.ndarray:
        """Stimuli that a readout is fitted on: train for select; train + select for report, train without `refit`."""
        return np.union1d(self.train, self.select) if refit and split == "report" else self.train

    def held_out(self, split: str) -> np.ndarray:
        """Stimuli that it then predicts."""
        return self.select if split == "select" else self.report


def is_folded(groups: np.ndarray) -> bool:
    """Whether grouped outer folds take the report set's place (fewer than 30 groups or 200 stimuli)."""
    return len(np.unique(groups)) < FOLDED_BELOW_GROUPS or len(groups) < FOLDED_BELOW_STIMULI


def split_groups(
    groups: np.ndarray, report: float, select: float, split_seed: int, seed: int, repeats: np.ndarray | None = None
) -> list[Fold]:
    """One fold, or several grouped outer folds when the recording is small.

    groups (stimuli,). The report set depends on `split_seed` alone; the rest is divided into train and select
    by `split_seed` and the trial's `seed`. Folded: the groups are dealt into round(1 / report) folds by
    `split_seed`; each fold is the report set once, and another fold, chosen by `seed`, its select set, so that
    every stimulus is predicted once out of fold for either purpose. Where the number of `repeats` (stimuli,) differs
    between groups, the report set, or every fold, has its share of the groups of every number (see `strata_of`).

    Raises InputError when there are fewer groups than the splits need.
    """
    distinct = np.unique(groups)
    strata = strata_of(groups, repeats)
    if is_folded(groups):
        return _outer_folds(groups, strata, round(1 / report), split_seed, seed)
    order = np.random.default_rng([split_seed, 1]).permutation(len(distinct))
    reported = drawn(order, max(1, round(report * len(distinct))), strata)
    rest = np.random.default_rng([split_seed, 2, seed]).permutation(np.setdiff1d(order, reported))
    selected = max(1, round(select * len(distinct)))
    need_groups(len(rest) - selected, distinct)
    parts = (rest[selected:], rest[:selected], reported)
    return [Fold(*(_members(groups, distinct[part]) for part in parts))]


def strata_of(groups: np.ndarray, repeats: np.ndarray | None) -> np.ndarray:
    """The stratum of every distinct group, in sorted order: the most repeats of any of its stimuli; 0 without any.

    >>> strata_of(np.array(["b", "a", "b"]), np.array([1, 10, 2]))
    array([10,  2])
    """
    distinct, member = np.unique(groups, return_inverse=True)
    strata = np.zeros(len(distinct), dtype=np.int64)
    if repeats is not None:
        np.maximum.at(strata, member, repeats)
    return strata


def drawn(order: np.ndarray, count: int, strata: np.ndarray) -> np.ndarray:
    """The first `count` groups of a random `order`, each stratum's share of them from it, by largest remainders.

    `strata` are those of all groups, `order` indices of some of them. One stratum: the first of the order.

    >>> drawn(np.array([3, 0, 2, 1]), 2, np.array([1, 1, 9, 9]))
    array([3, 0])
    """
    own = strata[order]
    values, sizes = np.unique(own, return_counts=True)
    exact = count * sizes / len(order)
    quota = np.floor(exact).astype(int)
    largest = np.lexsort((-values, quota - exact))
    quota[largest[: count - quota.sum()]] += 1
    taken = [order[own == value][:most] for value, most in zip(values, quota, strict=True)]
    return order[np.isin(order, np.concatenate(taken))]


def _outer_folds(groups: np.ndarray, strata: np.ndarray, wanted: int, split_seed: int, seed: int) -> list[Fold]:
    distinct = np.unique(groups)
    count = fold_count(wanted, len(distinct))
    order = np.random.default_rng([split_seed, 1]).permutation(len(distinct))
    order = order[np.argsort(strata[order], kind="stable")]  # groups of as many repeats are dealt one after another
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
