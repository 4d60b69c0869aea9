"""Splits that may not move: rows of earlier runs stand under ids that hold the settings of a split, not its stimuli.

The digests guard against change alone: that splits are right is tested beside. Where one moves, so must what
`split_identity` gives, or the fingerprint of the recordings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sweeps.hashing import digest_bytes
from sweeps.recordings.shared_splits import SharedGroups, confirm_shared, split_shared
from sweeps.recordings.split_rows import SplitBasis, folds_of
from sweeps.recordings.split_settings import Split
from sweeps.recordings.splits import Fold, split_groups

LARGE = np.array([f"g{number % 61:02d}" for number in range(244)])
SMALL = np.array([f"g{number % 17:02d}" for number in range(68)])
REPEATS = {len(LARGE): np.where(np.arange(244) % 61 < 34, 9, 2), len(SMALL): np.where(np.arange(68) % 17 < 6, 9, 2)}
SHARED = SharedGroups((7, 5), {f"g{number:02d}": place for place, number in enumerate(range(2, 14))})


def drawn(groups: np.ndarray, repeats: bool = False) -> list[Fold]:
    return split_groups(groups, 0.2, 0.15, 3, 5, REPEATS[len(groups)] if repeats else None)


def whole(groups: np.ndarray, shared: SharedGroups | None, **split: float) -> list[Fold]:
    return folds_of(SplitBasis("r", groups, REPEATS[len(groups)]), Split(seed=3, **split), 5, shared)  # type: ignore[arg-type]


CASES: dict[str, tuple[Callable[[], list[Fold]], str]] = {
    "large": (lambda: drawn(LARGE), "4c1a0d3c23f870ee36d7"),
    "large, unequal repeats": (lambda: drawn(LARGE, True), "ba69f1f45819e216e8f6"),
    "folded": (lambda: drawn(SMALL), "d4725185d0742ead2271"),
    "folded, unequal repeats": (lambda: drawn(SMALL, True), "3a8be1da19240546352e"),
    "shared": (lambda: split_shared(LARGE, SHARED, 0.2, 0.15, 3, 5), "783fab4987406397f8d1"),
    "shared, folded": (lambda: split_shared(SMALL, SHARED, 0.2, 0.15, 3, 5), "07548fd26ca4cec599e3"),
    "confirm": (lambda: whole(LARGE, None, confirm=0.15), "b7c3fafa375db89862dd"),
    "confirm, folded": (lambda: whole(SMALL, None, confirm=0.15), "92ec86d13717b9a809e5"),
    "confirm, shared": (lambda: whole(LARGE, SHARED, confirm=0.15), "194ee27a2df96d24b474"),
    "confirm, shared, folded": (lambda: whole(SMALL, SHARED, confirm=0.15), "2891821897ed26b8d859"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_split_moves_with_its_identity_alone(case: str) -> None:
    make, digest = CASES[case]
    parts = [part for fold in make() for part in (fold.train, fold.select, fold.report, fold.confirm)]
    assert digest_bytes(np.asarray(part, dtype="<i8").tobytes() for part in parts) == digest


def test_what_is_kept_of_shared_groups_does_not_move() -> None:
    rows = [confirm_shared(groups, SHARED, 0.25, 3) for groups in (LARGE, SMALL)]
    assert [digest_bytes([row.astype("<i8").tobytes()]) for row in rows] == [
        "cc155447ed58332b65ec",
        "37fd1251019e8fee2d29",
    ]
