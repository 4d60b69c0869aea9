"""Which version of NWB a file is, by its own statement; other files and stores are told by what they are."""

from __future__ import annotations

import h5py
import numpy as np

from sweeps.errors import InputError, listed
from sweeps.io.filesystem import open_filesystem
from sweeps.io.untrusted import reading
from sweeps.recordings.readers.hdf5 import opened, refuse_zarr, text
from sweeps.recordings.readers.nwb.nwb_1 import NEEDED, read_nwb_1
from sweeps.recordings.readers.nwb.nwb_2 import read_nwb_2
from sweeps.recordings.readers.nwb.session import ImagingSession, holds

ROOTS = ("general", "processing", "stimulus")
"""Groups that files of every version have."""


def nwb_file(url: str) -> str:
    """The file itself, or the only NWB file of a folder."""
    if url.endswith(".nwb"):
        return url
    filesystem, path = open_filesystem(url)
    refuse_zarr(url)
    with reading(url):
        files = sorted(str(file) for file in filesystem.glob(f"{path.rstrip('/')}/*.nwb"))
        stores = sorted(str(file) for file in filesystem.glob(f"{path.rstrip('/')}/*.zarr"))
    names = [file.rsplit("/", 1)[-1] for file in files]
    if not names and stores:
        refuse_zarr(f"{url.rstrip('/')}/{stores[0].rsplit('/', 1)[-1]}")
    if len(names) != 1:
        shown = f": {listed(names, most=4)}" if names else ""
        problem = f"must be an .nwb file, or a folder with one; it has {len(names)}{shown}"
        raise InputError(problem, file=url, key="path")
    return f"{url.rstrip('/')}/{names[0]}"


def read_session(url: str, area: str | None) -> ImagingSession:
    """Read an imaging session in the layout of the file's version; the `area` of its cells where the user names it."""
    with opened(url) as file:
        version = _version(file, url)
        read = read_nwb_1 if version.startswith("1") else read_nwb_2
        return read(file, version, area, url)


def _version(file: h5py.File, url: str) -> str:
    """The version that an attribute (NWB 2) or a dataset (NWB 1) states, else 1 or 2 by where its data lie."""
    stated = file.attrs.get("nwb_version")
    if stated is None and holds(file, "nwb_version"):
        stated = text(file, "nwb_version", url)
    if stated is not None:
        first = np.asarray(stated).ravel()[0]
        word = first.decode() if isinstance(first, bytes) else str(first)
        return word.strip().upper().removeprefix("NWB").lstrip("-_ V").lower()
    if not any(isinstance(file.get(name), h5py.Group) for name in ROOTS):
        content = listed(sorted(file), most=8) or "nothing"
        raise InputError(f"is HDF5, but no NWB file: it states no nwb_version, and holds {content}", file=url)
    return "1" if any(holds(file, name) for name in NEEDED) else "2"
