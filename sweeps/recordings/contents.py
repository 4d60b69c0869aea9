"""What stimuli show: equal content is one group, whatever its name, within a recording and between recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.recordings.readers.screens import linked
from sweeps.stimuli.picture_contents import content_of, sketch_of


@dataclass(frozen=True)
class Contents:
    """What the `fit` stimuli of a recording show: an entry (entries,) for every picture, clip or story.

    `groups` are the entries' groups. `sketches` are texts, equal for equal content, and seldom for other content;
    `exact(entries)` gives texts that are equal only for equal content, in any recording, of some entries by number.
    `signatures` (entries, frames, parts) tell near copies of clips (see `near_copies`), where they are known.
    """

    groups: np.ndarray
    sketches: np.ndarray
    exact: Callable[[np.ndarray], Sequence[str]]
    signatures: np.ndarray | None = None

    @classmethod
    def known(cls, groups: Sequence[str] | np.ndarray, keys: Sequence[str] | np.ndarray) -> Contents:
        """Return contents whose exact keys are known from the start."""
        texts = np.asarray(keys, dtype=str)
        return cls(np.asarray(groups, dtype=str), texts, lambda entries: texts[entries].tolist())

    @classmethod
    def of(
        cls,
        groups: Sequence[str] | np.ndarray,
        pairs: Sequence[tuple[str, str]],
        signatures: Sequence[np.ndarray] | None = None,
    ) -> Contents:
        """Return contents whose pairs (sketch, exact key) are known from the start."""
        sketches, keys = (np.array(texts, dtype=str) for texts in zip(*pairs, strict=True))
        shapes = None if signatures is None else np.stack(signatures)
        return cls(np.asarray(groups, dtype=str), sketches, lambda entries: keys[entries].tolist(), shapes)

    def joined_groups(self) -> dict[str, str]:
        """Return {group: first group that shows the same, directly or through others} of those that are not it."""
        labels = content_labels(self.sketches, self.groups, self.exact)
        first = self.groups[linked(self.groups, labels)]
        pairs = zip(self.groups.tolist(), first.tolist(), strict=True)
        return {group: other for group, other in pairs if group != other}

    def in_groups(self, joined: Mapping[str, str]) -> Contents:
        """Return the same contents after groups were joined."""
        return Contents(in_joined(self.groups.tolist(), joined), self.sketches, self.exact)

    def among(self, entries: np.ndarray) -> Contents:
        """Return some of the entries."""
        return Contents(self.groups[entries], self.sketches[entries], lambda chosen: self.exact(entries[chosen]))

    def of_clips(self, clips: Sequence[np.ndarray]) -> Contents:
        """Return entries for clips, given the entries of the frames of each: equal where all frames are, in order."""

        def exact(chosen: np.ndarray) -> list[str]:
            return [clip_key(self.exact(clips[clip])) for clip in chosen]

        sketches = [clip_key(self.sketches[frames]) for frames in clips]
        groups = self.groups[[frames[0] for frames in clips]]
        return Contents(groups, np.array(sketches, dtype=str), exact)


def clip_keys(frames: np.ndarray) -> tuple[str, str]:
    """Return sketch and exact key of a clip (frames, h, w[, 3]) uint8."""
    return clip_key([sketch_of(frame) for frame in frames]), clip_key([content_of(frame) for frame in frames])


def clip_key(keys: Sequence[str] | np.ndarray) -> str:
    """Return the key of a clip, given those of its frames."""
    return f"{len(keys)} frames {hashlib.blake2b(' '.join(keys).encode(), digest_size=16).hexdigest()}"


def content_labels(
    sketches: np.ndarray, owners: np.ndarray, exact: Callable[[np.ndarray], Sequence[str]]
) -> np.ndarray:
    """Return texts (entries,) that two entries of different `owners` share exactly if their contents are equal.

    Exact keys are asked for only where owners share a sketch.
    """
    _, sketch = np.unique(sketches, return_inverse=True)
    _, owner = np.unique(owners, return_inverse=True)
    pairs = np.unique(np.stack([sketch, owner]), axis=1)
    shared = np.flatnonzero(np.bincount(pairs[0], minlength=sketch.max(initial=-1) + 1)[sketch] > 1)
    labels = np.array([f"entry {number}" for number in range(len(sketch))], dtype=object)
    if len(shared):
        labels[shared] = [f"content {key}" for key in exact(shared)]
    return labels.astype(str)


def row_keys(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Return a key for every row of feature sets (rows, features): equal where all sets are; "" where all are 0.

    Rows of zeros say nothing of a stimulus, so they are equal to none.
    """
    keys = []
    for row in range(len(next(iter(arrays.values()), ()))):
        parts = {name: array[row] + 0.0 for name, array in sorted(arrays.items())}  # -0.0 becomes 0.0
        total = hashlib.blake2b(digest_size=16)
        for name, part in parts.items():
            total.update(f"{name} {part.shape} ".encode() + part.tobytes())
        keys.append(f"features {total.hexdigest()}" if any(part.any() for part in parts.values()) else "")
    return keys


def in_joined(groups: Iterable[str], joined: Mapping[str, str]) -> np.ndarray:
    """Return the groups (n,) once those that show the same were joined, see `Contents.joined_groups`."""
    return np.array([joined.get(group, group) for group in groups], dtype=str)


def joined_notes(before: np.ndarray, after: np.ndarray) -> dict[str, str]:
    """Return what `sweeps check` says of stimuli (n,) whose groups were joined; nothing where none were."""
    if np.array_equal(before, after):
        return {}
    names, group = np.unique(after, return_inverse=True)
    earlier, label = np.unique(before, return_inverse=True)
    pairs = np.unique(np.stack([group, label]), axis=1)
    mixed = np.bincount(pairs[0], minlength=len(names)) > 1
    problem = f"{int(mixed[group].sum())} stimuli joined: groups that show the same are one"
    return {"joined": f"{problem} ({len(earlier)} groups became {len(names)})"}
