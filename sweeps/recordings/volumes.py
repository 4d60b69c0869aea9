"""NIfTI volumes, read through nibabel (the extra `fmri`)."""

from __future__ import annotations

import gzip

import numpy as np

from sweeps.errors import InputError


def read_volume(content: bytes, file: str) -> np.ndarray:
    """The array (x, y, z) of a .nii or .nii.gz file; InputError where it is none, or nibabel is not installed."""
    try:
        from nibabel.nifti1 import Nifti1Image
    except ImportError:
        raise InputError("needs nibabel: install cortex-sweeps[fmri]", file=file) from None
    try:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return np.asarray(Nifti1Image.from_bytes(plain).dataobj)
    except Exception as error:  # whatever a damaged file makes nibabel raise
        raise InputError(f"is no NIfTI volume: {error}", file=file) from None
