"""What fMRI formats share: HDF5 arrays of a tree, z-scores within a run, voxels without data."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import h5py
import numpy as np

from sweeps.errors import InputError
from sweeps.recordings.tree import Tree

LARGEST = 4e9
"""Bytes of responses above which a recording is refused unless fewer voxels are asked for."""


def hdf5_arrays(tree: Tree, name: str, keys: Sequence[str]) -> list[np.ndarray]:
    """Numeric arrays of an HDF5 file, remembered in the tree's digest; InputError names what is missing."""
    content = tree.read(name)
    try:
        with h5py.File(io.BytesIO(content), "r") as held:
            missing = [key for key in keys if key not in held]
            if missing:
                raise InputError("missing dataset", file=tree.file(name), key=missing[0], allowed=sorted(held))
            found = [np.asarray(held[key]) for key in keys]
    except OSError as error:
        raise InputError(f"is no HDF5 file: {error}", file=tree.file(name)) from None
    for key, array in zip(keys, found, strict=True):
        if array.dtype.kind not in "fiu":
            raise InputError(f"must hold numbers, not {array.dtype}", file=tree.file(name), key=key)
    return found


def zscored(samples: np.ndarray) -> np.ndarray:
    """Samples (samples, voxels) less their mean, divided by their deviation (ddof 0); a constant voxel becomes 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, deviation = np.nanmean(samples, axis=0), np.nanstd(samples, axis=0)
    return np.asarray((samples - mean) / np.where(deviation > 0, deviation, 1.0))


def with_data(samples: np.ndarray) -> np.ndarray:
    """Numbers of the voxels that are finite throughout and vary, of (samples, voxels)."""
    finite = np.isfinite(samples).all(axis=0)
    varies = np.zeros(samples.shape[1], dtype=bool)
    varies[finite] = np.ptp(samples[:, finite], axis=0) > 0
    return np.flatnonzero(varies)


def check_size(rows: int, voxels: int, repeats: int, file: str) -> None:
    """Refuse responses that would not fit into a worker's memory, before they are read together."""
    size = 4.0 * rows * voxels * repeats
    if size > LARGEST:
        raise InputError(
            f"{voxels} voxels, {rows} samples, {repeats} repeats are {size / 1e9:.1f} GB: ask for fewer, `units: N`",
            file=file,
            key="units",
        )
