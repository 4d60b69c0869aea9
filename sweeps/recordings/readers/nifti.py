"""NIfTI volumes, read through nibabel (the extra `fmri`)."""

from __future__ import annotations

import gzip
import io

import numpy as np

from sweeps.errors import InputError
from sweeps.io.untrusted import most_unpacked, reading, refuse_bomb, refuse_infinite


def read_volume(content: bytes, file: str) -> np.ndarray:
    """The array (x, y, z) of a .nii or .nii.gz file; InputError where it is none, or nibabel is not installed."""
    try:
        from nibabel.imageglobals import LoggingOutputSuppressor
        from nibabel.nifti1 import Nifti1Image
    except ImportError:
        raise InputError("needs nibabel: install cortex-sweeps[fmri]", file=file) from None
    with reading(file, "is no NIfTI volume"), LoggingOutputSuppressor():  # what is wrong is reported once
        plain = _unpacked(content, file) if content[:2] == b"\x1f\x8b" else content
        volume = np.asarray(Nifti1Image.from_bytes(plain).dataobj)
    if volume.dtype.kind not in "fiu" or volume.ndim != 3:
        raise InputError("must be a volume (x, y, z) of numbers", file=file, value=(volume.shape, str(volume.dtype)))
    refuse_infinite(volume, file)
    return volume


def _unpacked(content: bytes, file: str) -> bytes:
    """The contents of a gzip file."""
    with gzip.open(io.BytesIO(content)) as stream:
        plain = stream.read(most_unpacked(len(content)) + 1)
    refuse_bomb(len(plain), len(content), file)
    return plain
