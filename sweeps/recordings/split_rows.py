"""From the settings of a split to the folds of a recording: sets that are drawn, and sets that its table names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sweeps.errors import InputError
from sweeps.hashing import digest_bytes
from sweeps.recordings.shared_splits import SharedGroups, confirm_shared, split_shared
from sweeps.recordings.split_settings import NamedRows, Split
from sweeps.recordings.splits import Fold, drawn, is_folded, need_groups, split_groups, strata_of

PUBLISHED = "published_set"
"""Column of a table in which a reader says what a stimulus is in the published split: train, report or unused."""

STRATA_VERSION = 1
"""Raise when random report sets of recordings of unequal repeats become others."""


@dataclass(frozen=True)
class SplitBasis:
    """What splits look at: of every `fit` stimulus its group, its number of repeats, and its row of the table.

    `table` is None where the stimuli are made by the workers alone, `repeats` where all are known to be equal.
    """

    name: str
    groups: np.ndarray
    repeats: np.ndarray | None = None
    table: pd.DataFrame | None = None

    @property
    def uneven(self) -> bool:
        """Whether groups differ in their number of repeats."""
        return len(np.unique(strata_of(self.groups, self.repeats))) > 1

    def of(self, rows: np.ndarray) -> SplitBasis:
        """That of some of the stimuli."""
        repeats = None if self.repeats is None else self.repeats[rows]
        return SplitBasis(self.name, self.groups[rows], repeats)


@dataclass(frozen=True)
class NamedSets:
    """Masks (stimuli,) of what is named: report, select, and what takes no part; None where nothing is."""

    report: np.ndarray | None
    select: np.ndarray | None
    unused: np.ndarray

    def groups_of(self, basis: SplitBasis) -> np.ndarray:
        """Mask of the stimuli whose group has one that is named."""
        masks = [mask for mask in (self.report, self.select, self.unused) if mask is not None]
        return np.isin(basis.groups, basis.groups[np.any(masks, axis=0)])


def folds_of(basis: SplitBasis, split: Split, seed: int, shared: SharedGroups | None = None) -> list[Fold]:
    """The folds of a recording under a trial's seed; see `split_groups` for sets that are drawn.

    Confirm groups are drawn first, as if they had not been recorded; of a recording whose report or select rows are
    named, among the others. A named report set is one fold, whatever the recording's size. Groups are not cut: what
    shares a group with a named report or select row, and is not named, is in no set (see `left_out`). Groups that are
    `shared` with other recordings lie on the same side there, where sets are drawn.

    Raises InputError for rows that the table does not have, and where too few groups are left.
    """
    named = named_sets(basis, split)
    if named.report is None and named.select is None:
        return _drawn_folds(basis, split, seed, named, shared)
    confirm = _confirm(basis, split, named)
    rest = np.setdiff1d(np.arange(len(basis.groups)), confirm)
    return [replace(_named_fold(basis, split, seed, named, rest), confirm=confirm)]


def _drawn_folds(
    basis: SplitBasis, split: Split, seed: int, named: NamedSets, shared: SharedGroups | None
) -> list[Fold]:
    """The folds where nothing is named."""
    assert isinstance(split.report, float), "a report set that is not named is a share"
    assert isinstance(split.select, float), "a select set that is not named is a share"
    if shared is None:
        confirm = _confirm(basis, split, named)
    else:
        confirm = confirm_shared(basis.groups, shared, split.confirm, split.seed)
    rest = np.setdiff1d(np.arange(len(basis.groups)), confirm)
    own, settings = basis.of(rest), (split.report, split.select, split.seed, seed)
    if shared is None:
        folds = split_groups(own.groups, *settings, own.repeats)
    else:
        folds = split_shared(own.groups, shared, *settings)
    return [Fold(rest[f.train], rest[f.select], rest[f.report], confirm) for f in folds]


def confirm_fold(folds: list[Fold]) -> Fold:
    """The fold that predicts the confirm set: from what the report set is predicted from.

    Of outer folds: from all that is not kept, the first one's select set for early stopping.
    """
    first = folds[0]
    if len(folds) == 1:
        return replace(first, report=first.confirm)
    return Fold(np.union1d(first.train, first.report), first.select, first.confirm)


def left_out(basis: SplitBasis, folds: list[Fold]) -> int:
    """Number of stimuli that are in no set, since they share a group with a named one, or are published unused."""
    parts = [part for fold in folds for part in (fold.train, fold.select, fold.report, fold.confirm)]
    return len(basis.groups) - len(np.unique(np.concatenate(parts)))


def split_identity(basis: SplitBasis | None, split: Split) -> dict[str, Any]:
    """What decides the split of a recording: the settings, and what they mean in it where that is not theirs alone.

    Equal to the settings where the report set is drawn from groups of equal repeats.
    """
    identity = split.model_dump()
    if basis is None:
        return identity
    if split.is_random and basis.uneven:
        identity["strata"] = STRATA_VERSION
    named = named_sets(basis, split)
    if named.report is not None or named.select is not None:
        masks = (named.report, named.select, named.unused)
        identity["rows"] = digest_bytes(b"" if mask is None else np.packbits(mask).tobytes() for mask in masks)
    return identity


def named_sets(basis: SplitBasis, split: Split) -> NamedSets:
    """What a split names of a recording; InputError for a column, value or published set that it does not have."""
    unused = np.zeros(len(basis.groups), dtype=bool)
    report = select = None
    if split.report == "published":
        report, unused = _published(basis, unused)
    elif isinstance(split.report, NamedRows):
        report = _rows(basis, split.report, "split.report")
    if isinstance(split.select, NamedRows):
        select = _rows(basis, split.select, "split.select")
    return NamedSets(report, select, unused)


def _published(basis: SplitBasis, unused: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the published report set, and of what is published but in neither set."""
    if basis.table is None or PUBLISHED not in basis.table:
        problem = f"recording {basis.name} has no published report set"
        raise InputError(problem, key="split.report", value="published")
    sets = basis.table[PUBLISHED].to_numpy(dtype=str)
    if not (sets == "report").any():
        problem = f"recording {basis.name} holds no stimulus of its published report set (are its tiers, sessions or "
        raise InputError(problem + "stories read?)", key="split.report", value="published")
    return sets == "report", unused | (sets == "unused")


def _rows(basis: SplitBasis, rows: NamedRows, key: str) -> np.ndarray:
    """Mask of the stimuli that have one of the values."""
    if basis.table is None:
        problem = f"the stimuli of recording {basis.name} are made by the workers: it has no columns to split by"
        raise InputError(problem, key=f"{key}.column", value=rows.column)
    if rows.column not in basis.table:
        problem = f"recording {basis.name} has no such column"
        raise InputError(problem, key=f"{key}.column", value=rows.column, allowed=list(map(str, basis.table)))
    column = basis.table[rows.column]
    masks = [_equal(column, value) for value in rows.values]
    for value, mask in zip(rows.values, masks, strict=True):
        if not mask.any():
            problem = f"no stimulus of recording {basis.name} has it in the column {rows.column}"
            raise InputError(problem, key=f"{key}.values", value=value, allowed=_some(column))
    return np.asarray(np.any(masks, axis=0))


def _equal(column: pd.Series, value: str | float) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        number = pd.to_numeric(pd.Series([value]), errors="coerce").iloc[0]
        return np.asarray(column.to_numpy() == number)
    return np.asarray(column.astype(str).to_numpy() == str(value))


def _some(column: pd.Series, most: int = 12) -> list[str]:
    values = [str(value) for value in pd.unique(column)]
    return values if len(values) <= most else [*values[:most], f"and {len(values) - most} more"]


def _confirm(basis: SplitBasis, split: Split, named: NamedSets) -> np.ndarray:
    """Rows that are kept to confirm: a share of the groups of which no stimulus is named."""
    if not split.confirm:
        return np.empty(0, dtype=np.int64)
    distinct = np.unique(basis.groups)
    free = np.flatnonzero(np.isin(distinct, basis.groups[~named.groups_of(basis)]))
    if not len(free):
        raise InputError(f"recording {basis.name} has no group that is not named", key="split.confirm")
    order = np.random.default_rng([split.seed, 4]).permutation(free)
    kept = drawn(order, max(1, round(split.confirm * len(free))), strata_of(basis.groups, basis.repeats))
    return np.flatnonzero(np.isin(basis.groups, distinct[kept]))


def _named_fold(basis: SplitBasis, split: Split, seed: int, named: NamedSets, rest: np.ndarray) -> Fold:
    """The one fold where report or select rows are named; `rest` are the rows that are not kept to confirm."""
    distinct = np.unique(basis.groups)
    apart = np.isin(basis.groups, basis.groups[_any(named.report) | named.unused])
    if named.report is None:
        report = _drawn_report(basis, split, named, rest)
        apart |= np.isin(np.arange(len(basis.groups)), report)
    else:
        report = np.flatnonzero(named.report)
    pool = rest[~apart[rest]]
    need_groups(len(np.unique(basis.groups[pool])) - 1, distinct)
    select = _drawn_select(basis, split, seed, pool) if named.select is None else pool[named.select[pool]]
    if not len(select):
        problem = f"every such stimulus of recording {basis.name} shares a group with a report stimulus"
        raise InputError(f"{problem}: none is left to select on", key="split.select")
    train = pool[~np.isin(basis.groups[pool], basis.groups[select])]
    need_groups(len(np.unique(basis.groups[train])), distinct)
    return Fold(train, select, report)


def _any(mask: np.ndarray | None) -> np.ndarray | bool:
    return False if mask is None else mask


def _drawn_report(basis: SplitBasis, split: Split, named: NamedSets, rest: np.ndarray) -> np.ndarray:
    """A report set beside select rows that are named: drawn from the groups without any of those."""
    assert isinstance(split.report, float), "a report set that is not named is a share"
    if is_folded(basis.groups[rest]):
        problem = f"recording {basis.name} is small: outer folds take the report set's place, each with a select fold"
        raise InputError(f"{problem}. Name the report rows too, or give a share", key="split.select")
    distinct = np.unique(basis.groups)
    free = np.flatnonzero(np.isin(distinct, basis.groups[rest][~named.groups_of(basis)[rest]]))
    order = np.random.default_rng([split.seed, 1]).permutation(free)
    count = min(len(order), max(1, round(split.report * len(np.unique(basis.groups[rest])))))
    reported = drawn(order, count, strata_of(basis.groups, basis.repeats))
    return np.flatnonzero(np.isin(basis.groups, distinct[reported]))


def _drawn_select(basis: SplitBasis, split: Split, seed: int, pool: np.ndarray) -> np.ndarray:
    """A select set beside a report set that is named: a share of the groups that are left."""
    assert isinstance(split.select, float), "a select set that is not named is a share"
    distinct = np.unique(basis.groups[pool])
    order = np.random.default_rng([split.seed, 2, seed]).permutation(len(distinct))
    selected = max(1, round(split.select * len(distinct)))
    return pool[np.isin(basis.groups[pool], distinct[order[:selected]])]
