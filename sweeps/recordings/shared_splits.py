"""The splits of recordings that show the same: what is held out of one of them is held out of the others too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.recordings.splits import Fold, fold_count, folds_of_parts, is_folded, need_groups

TRAIN, SELECT, REPORT = range(3)


@dataclass(frozen=True)
class SharedGroups:
    """The groups of a recording that others show too.

    `places` maps such a group to its place among all contents that these recordings share; groups of one place show
    the same. Places lie in `strata` (sizes): contents that are shared by the same recordings.
    """

    strata: tuple[int, ...]
    places: dict[str, int]

    @property
    def key(self) -> str:
        """Identity of what decides a split."""
        return content_id([list(self.strata), self.places])


def split_shared(
    groups: np.ndarray, shared: SharedGroups, report: float, select: float, split_seed: int, seed: int
) -> list[Fold]:
    """Split a recording as `split_groups` does, but for its shared groups, whose sides every recording knows.

    groups (stimuli,). Shared contents are dealt to report, select and train, or to the outer folds, by their places
    alone, evenly within each stratum; groups of the recording's own fill up what its sizes ask for. Recordings with
    outer folds agree among themselves, and those without do.
    """
    distinct = np.unique(groups)
    places = np.array([shared.places.get(str(group), -1) for group in distinct])
    if is_folded(groups):
        return _folds(groups, distinct, places, shared.strata, round(1 / report), split_seed, seed)
    side = np.full(len(distinct), -1)
    dealt = _sides(shared.strata, report, select, split_seed, seed)
    side[places >= 0] = dealt[places[places >= 0]]
    _fill(side, REPORT, max(1, round(report * len(distinct))), np.random.default_rng([split_seed, 1]))
    _fill(side, SELECT, max(1, round(select * len(distinct))), np.random.default_rng([split_seed, 2, seed]))
    side[side < 0] = TRAIN
    need_groups(int((side == TRAIN).sum()), distinct)
    _none_empty([int((side == part).sum()) for part in (SELECT, REPORT)])
    parts = (np.flatnonzero(np.isin(groups, distinct[side == part])) for part in (TRAIN, SELECT, REPORT))
    return [Fold(*parts)]


def confirm_shared(groups: np.ndarray, shared: SharedGroups, share: float, split_seed: int) -> np.ndarray:
    """Rows (stimuli) of the groups that are kept to confirm: of the shared ones those that every recording keeps.

    Groups of the recording's own fill up the share that its size asks for.
    """
    distinct = np.unique(groups)
    places = np.array([shared.places.get(str(group), -1) for group in distinct])
    order = _shuffled(shared.strata, np.arange(sum(shared.strata)), np.random.default_rng([split_seed, 6]))
    kept = np.isin(places, order[_evenly(len(order), share)])
    own = np.random.default_rng([split_seed, 7]).permutation(np.flatnonzero(places < 0))
    kept[own[: max(0, round(share * len(distinct)) - int(kept.sum()))]] = True
    return np.flatnonzero(np.isin(groups, distinct[kept]))


def _shuffled(strata: Sequence[int], chosen: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Chosen places in random order within each stratum, the strata in their order."""
    stops = np.cumsum(strata)
    stratum = np.searchsorted(stops, chosen, side="right")
    return np.concatenate([random.permutation(chosen[stratum == part]) for part in range(len(strata))])


def _evenly(count: int, share: float) -> np.ndarray:
    """Which of `count` in a row are taken, so that of any run of them about a `share` is: (count,) bool.

    >>> np.flatnonzero(_evenly(10, 0.2))
    array([2, 7])
    """
    taken = np.floor(np.arange(count + 1) * share + 0.5)
    return np.diff(taken) > 0


def _sides(strata: Sequence[int], report: float, select: float, split_seed: int, seed: int) -> np.ndarray:
    """Side of every place; the report set depends on `split_seed` alone."""
    side = np.full(sum(strata), TRAIN)
    order = _shuffled(strata, np.arange(sum(strata)), np.random.default_rng([split_seed, 4]))
    reported = _evenly(len(order), report)
    side[order[reported]] = REPORT
    rest = _shuffled(strata, np.sort(order[~reported]), np.random.default_rng([split_seed, 5, seed]))
    side[rest[_evenly(len(rest), select / (1 - report))]] = SELECT
    return side


def _fill(side: np.ndarray, part: int, wanted: int, random: np.random.Generator) -> None:
    """Give a part as many of the groups without a side as it lacks, in place."""
    free = random.permutation(np.flatnonzero(side < 0))
    side[free[: max(0, wanted - int((side == part).sum()))]] = part


def _folds(
    groups: np.ndarray,
    distinct: np.ndarray,
    places: np.ndarray,
    strata: Sequence[int],
    wanted: int,
    split_seed: int,
    seed: int,
) -> list[Fold]:
    """Outer folds: places are dealt in turn within each stratum, own groups to the smallest folds."""
    count = fold_count(wanted, len(np.unique(places[places >= 0])) + int((places < 0).sum()))
    order = _shuffled(strata, np.arange(sum(strata)), np.random.default_rng([split_seed, 4]))
    dealt = np.empty(len(order), dtype=int)
    dealt[order] = np.arange(len(order)) % count
    fold = np.where(places >= 0, dealt[places], -1)
    for group in np.random.default_rng([split_seed, 1]).permutation(np.flatnonzero(fold < 0)):
        fold[group] = int(np.argmin(np.bincount(fold[fold >= 0], minlength=count)))
    sizes = np.bincount(fold, minlength=count)
    _none_empty(sizes.tolist())
    need_groups(len(distinct) - int(np.sort(sizes)[-2:].sum()), distinct)
    return folds_of_parts(
        [np.flatnonzero(np.isin(groups, distinct[fold == part])) for part in range(count)], split_seed, seed
    )


def _none_empty(sizes: Sequence[int]) -> None:
    if not min(sizes):
        problem = "too few groups of its own beside those that it shares with other recordings: a part of the split "
        raise InputError(f"{problem}is empty; choose another split.seed, or read the recordings apart", key="group")
