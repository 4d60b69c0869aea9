"""NIfTI volumes, read through nibabel (the extra `fmri`): NIfTI-1 and NIfTI-2, packed or not, of either byte order."""

from __future__ import annotations

import gzip
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.errors import InputError
from sweeps.io.guards.free_memory import refuse_numbers_beyond_memory
from sweeps.io.untrusted import most_unpacked, reading, refuse_bomb, refuse_infinite

NIFTI_1, NIFTI_2, HEADER = 348, 540, 540
"""Bytes of the headers of both versions, and of the longer one."""

NEAR = {"sform": 0.001, "qform": 0.1}
"""Voxels by which corners of two volumes on one grid may lie apart: a quaternion of 32 bits is exact to no more."""

MILLIMETRES = {1: 1000.0, 3: 0.001}
"""Millimetres in the unit of length that a header states (metres, micrometres); unstated means millimetres."""


@dataclass(frozen=True)
class Volume:
    """Values (x, y, z) of a file, and where they lie.

    `affine` (4, 4) takes voxel numbers to millimetres: that of the sform where it has a code, else of the qform where
    that has one, else None; `near` is how exact it is, in voxels. `step` is the distance of two stored values where a
    header scales them, else 0.
    """

    file: str
    values: np.ndarray
    affine: np.ndarray | None
    near: float = 0.0
    step: float = 0.0


def read_volume(content: bytes, file: str) -> np.ndarray:
    """The array (x, y, z) of a .nii or .nii.gz file; InputError where it is none, or nibabel is not installed."""
    return read_placed(content, file).values


def read_placed(content: bytes, file: str) -> Volume:
    """The array (x, y, z) of a .nii or .nii.gz file and its place; axes of length one behind the third are dropped.

    Pairs of a header and an .img file are refused.
    """
    try:
        from nibabel.imageglobals import LoggingOutputSuppressor
    except ImportError:
        raise InputError("needs nibabel: install cortex-sweeps[fmri]", file=file) from None
    with reading(file, "is no NIfTI volume"), LoggingOutputSuppressor():  # what is wrong is reported once
        packed = content[:2] == b"\x1f\x8b"
        _check_room(_unpacked(content, file, HEADER) if packed else content, len(content), packed, file)
        plain = _unpacked(content, file) if packed else content
        image = _kind(plain, file).from_bytes(plain)
        values, header = np.asarray(image.dataobj), image.header
        affine, near = _affine(header)
        slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.dtype.kind not in "fiu" or values.ndim != 3:
        raise InputError("must be a volume (x, y, z) of numbers", file=file, value=(values.shape, str(values.dtype)))
    refuse_infinite(values, file)
    return Volume(file, values, affine, near, 0.0 if (slope, inter) == (1, 0) else abs(slope))


def check_same_grid(first: Volume, other: Volume) -> None:
    """Raise InputError for two volumes of other shapes, or whose corners lie elsewhere in space.

    Corners may lie apart by what NEAR says of their affines. A volume that states no place is taken as on the grid.
    """
    if other.values.shape != first.values.shape:
        problem = f"must be {first.values.shape} like {first.file}"
        raise InputError(problem, file=other.file, value=other.values.shape)
    if first.affine is None or other.affine is None:
        return
    ends = [(0, max(0, length - 1)) for length in first.values.shape]
    corners = np.stack([*(axis.ravel() for axis in np.meshgrid(*ends)), np.ones(8)])
    apart = np.linalg.norm((first.affine @ corners - other.affine @ corners)[:3], axis=0).max()
    voxel = min(np.linalg.norm(affine[:3, :3], axis=0).min() for affine in (first.affine, other.affine))
    if not apart <= max(first.near, other.near) * voxel:
        problem = f"lies elsewhere than {first.file}: their affines differ, by {apart:.3g} mm at a corner"
        raise InputError(f"{problem}; resample one of them to the grid of the other", file=other.file)


def _kind(plain: bytes, file: str) -> Any:
    """The class of nibabel that reads such contents, by the size of their header and their magic."""
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Image

    sizes = {int.from_bytes(plain[:4], order) for order in ("little", "big")}
    if plain[344:347] == b"ni1" or plain[4:7] == b"ni2":
        raise InputError("is the header of a pair (.hdr, .img): save it as one .nii or .nii.gz file", file=file)
    return Nifti2Image if 540 in sizes else Nifti1Image


def _check_room(start: bytes, size: int, packed: bool, file: str) -> None:
    """Raise InputError where the volume that a header speaks of has no room in memory, or not in so many bytes."""
    header = _kind(start, file).header_class(start[:NIFTI_2] if b"n+2" in start[:8] else start[:NIFTI_1], check=False)
    count = math.prod(int(length) for length in header.get_data_shape())
    itemsize = header.get_data_dtype().itemsize
    if packed:
        refuse_bomb(count * itemsize, size, file)
    refuse_numbers_beyond_memory(count, (2 if packed else 1) * itemsize, file)


def _affine(header: Any) -> tuple[np.ndarray | None, float]:
    """The affine (4, 4) in millimetres that a header states, and how exact it is."""
    for name, stated in (("sform", header.get_sform), ("qform", header.get_qform)):
        coordinates, code = stated(coded=True)
        if code:
            affine = np.array(coordinates, dtype=np.float64)
            affine[:3] *= MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
            if not np.isfinite(affine).all():
                raise ValueError("its affine is not finite")
            return affine, NEAR[name]
    return None, 0.0


def _unpacked(content: bytes, file: str, most: int | None = None) -> bytes:
    """The contents of a gzip file, or its first bytes."""
    with gzip.open(io.BytesIO(content)) as stream:
        if most is not None:
            return stream.read(most)
        plain = stream.read(most_unpacked(len(content)) + 1)
    refuse_bomb(len(plain), len(content), file)
    return plain
