"""Damages of .npy and HDF5 files: other arrays where one should be."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from damages.files import rewrite


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=allow_pickle)
    return held.getvalue()


def header(descr: Any, shape: Any, fortran: Any = False) -> bytes:
    """The header of a .npy file that says so."""
    content = f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}".encode()
    content += b" " * (-len(content) % 64 + 53) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content


def placed(held: np.ndarray, value: float, random: Random) -> np.ndarray:
    """The same with one value, or all of them, replaced."""
    held = held.astype(np.float64)
    if held.size:
        place = slice(None) if random.random() < 0.2 else random.randrange(held.size)
        held.reshape(-1)[place] = value
    return held


def odd_array(held: np.ndarray, random: Random) -> bytes:
    """What a .npy file may hold in place of an array."""
    numeric = held.dtype.kind in "fiub"
    forms: list[Callable[[], bytes]] = [
        lambda: npy(held.astype(object), allow_pickle=True),
        lambda: npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        lambda: npy(held[None]),
        lambda: npy(held[..., None]),
        lambda: npy(held.ravel()),
        lambda: npy(held.reshape(-1)[0]) if held.size else npy(np.float64(0)),
        lambda: npy(held[:0]),
        lambda: npy(held[..., :0]),
        lambda: npy(held[:-1]),
        lambda: npy(np.concatenate([held, held[-1:]]) if held.ndim else held),
        lambda: npy(held.T),
        lambda: npy(held.astype("U20")),
        lambda: npy(held.astype("S20")),
        lambda: npy(np.zeros(held.shape, "M8[s]")),
        lambda: npy(np.zeros(held.shape, [("a", "f4"), ("b", "i4")])),
        lambda: npy(np.zeros(held.shape, complex)),
        lambda: npy(np.zeros(held.shape, bool)),
        lambda: npy(np.zeros(held.shape)),
        lambda: npy(np.full(held.shape, 2**63, np.uint64)),
        lambda: npy(np.full(held.shape, -(2**63), np.int64)),
        lambda: header("<f8", (10**13,)) + bytes(80),
        lambda: header("<f8", (10**9, 2)) + bytes(80),
        lambda: header("<f8", (-1, 4)) + bytes(80),
        lambda: header("<f8", (2**62, 2**62)) + bytes(80),
        lambda: header("<f8", (0, 10**13)),
        lambda: header("<f8", "text") + bytes(80),
        lambda: header("<f8", (2.5,)) + bytes(80),
        lambda: header("<f8", (4,), "yes") + bytes(80),
        lambda: header("|V0", (4,)),
        lambda: header(("<f8", (10**9,)), (1,)),
        lambda: header("<f8,", (4,)) + bytes(80),
        lambda: header("|O", held.shape) + b"cos\nsystem\n(S'false'\ntR.",
        lambda: b"\x93NUMPY\x07\x07" + npy(held)[8:],
        lambda: npy(held).replace(b"{", b"(" * 40, 1),
        lambda: npy(held).replace(b"'descr'", b"\n\t'descr", 1),
    ]
    for value in (np.nan, np.inf, -np.inf, 1e300, -1.0, 0.5) if numeric else ():
        forms.append(lambda value=value: npy(placed(held, value, random)))
    return random.choice(forms)()


def array_odd(path: Path, random: Random) -> None:
    rewrite(path, odd_array(np.load(path), random))


def hdf5_odd(path: Path, random: Random) -> None:
    """An HDF5 file with a dataset less, or another one in its place."""
    rewrite(path, path.read_bytes())
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, held: names.append(name) if isinstance(held, h5py.Dataset) else None)
        name = random.choice(names)
        values = file[name][()]
        del file[name]
        with np.errstate(all="ignore"):
            forms = list(hdf5_forms(file, name, np.asarray(values), random))
        random.choice(forms)()


def hdf5_forms(file: h5py.File, name: str, held: np.ndarray, random: Random) -> Iterator[Callable[[], Any]]:
    """What may stand in place of a dataset: writers of it."""
    parent = name.rsplit("/", 1)[0]
    yield lambda: None
    yield lambda: file.create_group(name)
    yield lambda: file.pop(parent, None)
    if held.dtype.kind in "OSU":
        yield from (lambda value=value: file.create_dataset(name, data=value) for value in ("", b"\xff", [1.0], "VISp"))
        return
    flat = np.atleast_1d(held)
    for values in (
        *(held[None], held[..., None], flat.ravel()[:1], flat.ravel()[0], flat[:0], flat[..., :0], flat[:-1]),
        *(held.astype("S8"), held.astype(complex), np.zeros(held.shape, [("a", "f4")]), np.zeros(held.shape)),
        *(placed(held, value, random) for value in (np.nan, np.inf, -1.0, 1e300, 1e5, 0.5)),
        *(held.astype(np.int8), np.full(held.shape, 2**63, np.uint64), held.astype(bool), h5py.Empty("f4")),
    ):
        yield lambda values=values: file.create_dataset(name, data=values)
    huge = (*[10**7] * held.ndim,)
    yield lambda: file.create_dataset(name, huge, "f4", chunks=(*[1] * held.ndim,))
    yield lambda: file.create_dataset(name, (30000, *held.shape[1:], 30000)[: held.ndim], "f8", chunks=True)
    yield lambda: file.create_dataset(name, data=held, chunks=held.shape, compression="gzip", shuffle=True)
    yield lambda: file.create_dataset(name, data=held.astype(held.dtype.newbyteorder(">")))
    yield lambda: file.create_dataset(name, held.shape, held.dtype, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])
    yield lambda: file.__setitem__(name, h5py.ExternalLink("../outside.hdf5", "data"))
    yield lambda: file.__setitem__(name, h5py.SoftLink(f"/{name}"))
    yield lambda: file.__setitem__(name, h5py.SoftLink("/"))
    yield lambda: file.create_virtual_dataset(name, virtual(held))


def virtual(held: np.ndarray) -> h5py.VirtualLayout:
    """A dataset that lies in a file outside."""
    layout = h5py.VirtualLayout(held.shape, held.dtype)
    layout[...] = h5py.VirtualSource("../outside.hdf5", "data", held.shape)
    return layout
