"""Recordings of one experiment that show the same: what is held out of one of them is held out of the others too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.recordings.contents import Contents, content_labels
from sweeps.recordings.readers.screens import linked, near_copies
from sweeps.recordings.recording import RecordingFacts
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


def shared_groups(facts: Sequence[RecordingFacts]) -> dict[str, SharedGroups]:
    """Return, by name, the shared groups of those recordings that must be split together.

    Recordings whose groups show the same one by one, in the same order, are left out: they are split alike as it is.
    """
    known = [recording for recording in facts if recording.contents is not None and len(recording.contents.groups)]
    if len(known) < 2:
        return {}
    component_of = _components(known)
    holders: dict[int, set[int]] = {}
    for (owner, _), component in component_of.items():
        holders.setdefault(component, set()).add(owner)
    shared = {component: owners for component, owners in holders.items() if len(owners) > 1}
    together = _connected(len(known), list(shared.values()))
    results: dict[str, SharedGroups] = {}
    for cluster in dict.fromkeys(together.tolist()):
        owners = np.flatnonzero(together == cluster).tolist()
        if len(owners) > 1 and not _alike(known, owners, component_of):
            results |= _of_cluster(known, owners, component_of, shared)
    return results


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


def _components(known: Sequence[RecordingFacts]) -> dict[tuple[int, str], int]:
    """Number of what a group shows, directly or through others, by (recording, group)."""
    parts = [recording.contents for recording in known if recording.contents is not None]
    owners = np.repeat(np.arange(len(parts)), [len(part.groups) for part in parts])
    starts = np.cumsum([0, *(len(part.groups) for part in parts)])

    def exact(entries: np.ndarray) -> list[str]:
        keys = np.empty(len(entries), dtype=object)
        for owner, part in enumerate(parts):
            mine = owners[entries] == owner
            keys[mine] = part.exact(entries[mine] - starts[owner])
        return list(keys)

    labels = content_labels(np.concatenate([part.sketches for part in parts]), owners, exact)
    names = [(int(owner), str(group)) for owner, part in enumerate(parts) for group in part.groups]
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    groups = np.array([number[name] for name in names])
    component = linked(groups, labels, _near(parts))
    return dict(zip(names, component.tolist(), strict=True))


def _near(parts: Sequence[Contents]) -> np.ndarray:
    """A label (entries,) that near copies of clips share; of all other entries, one of its own."""
    count = sum(len(part.groups) for part in parts)
    labels, start = np.arange(count), 0
    clips, signatures = [], []
    for part in parts:
        if part.signatures is not None:
            clips.append(np.arange(start, start + len(part.groups)))
            signatures += list(part.signatures)
        start += len(part.groups)
    if len(clips) > 1:
        entries = np.concatenate(clips)
        labels[entries] = entries[near_copies(signatures)]
    return labels


def _connected(count: int, together: Sequence[set[int]]) -> np.ndarray:
    """A label (recordings,) that recordings share where a chain of shared contents leads from one to another."""
    labels = np.arange(count)
    for owners in together:
        joined = {int(labels[owner]) for owner in owners}
        labels[np.isin(labels, list(joined))] = min(joined)
    return labels


def _alike(known: Sequence[RecordingFacts], owners: Sequence[int], component_of: Mapping[tuple[int, str], int]) -> bool:
    """Whether recordings have groups of the same contents in the same order, and are split in the same way."""
    rows = []
    for owner in owners:
        groups = np.unique([group for other, group in component_of if other == owner])
        components = [component_of[owner, str(group)] for group in groups]
        whole = len(set(components)) == len(components) == known[owner].groups
        rows.append((components if whole else [-1 - owner], is_folded(np.arange(known[owner].stimuli) % len(groups))))
    return all(row == rows[0] for row in rows)


def _of_cluster(
    known: Sequence[RecordingFacts],
    owners: Sequence[int],
    component_of: Mapping[tuple[int, str], int],
    shared: Mapping[int, set[int]],
) -> dict[str, SharedGroups]:
    """Shared groups of recordings that hang together; places follow fingerprints and groups, never names."""
    mine = {name: component for name, component in component_of.items() if component in shared and name[0] in owners}
    holders: dict[int, list[tuple[str, str]]] = {}
    for (owner, group), component in mine.items():
        holders.setdefault(component, []).append((known[owner].fingerprint, group))
    pattern = {component: tuple(sorted({name for name, _ in names})) for component, names in holders.items()}
    order = sorted(holders, key=lambda component: (pattern[component], min(holders[component])))
    place = {component: index for index, component in enumerate(order)}
    sizes: dict[tuple[str, ...], int] = {}
    for component in order:
        sizes[pattern[component]] = sizes.get(pattern[component], 0) + 1
    strata = tuple(sizes.values())
    return {
        known[owner].name: SharedGroups(
            strata, {group: place[component] for (other, group), component in mine.items() if other == owner}
        )
        for owner in owners
    }


# -- the split --------------------------------------------------------------------------------------


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
