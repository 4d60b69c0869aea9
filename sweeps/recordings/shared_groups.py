"""Which groups of stimuli the recordings of one experiment share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sweeps.recordings.contents import Contents, content_labels
from sweeps.recordings.readers.screens import linked, near_copies
from sweeps.recordings.recording import RecordingFacts
from sweeps.recordings.shared_splits import SharedGroups
from sweeps.recordings.splits import is_folded


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
