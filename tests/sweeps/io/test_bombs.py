"""Files that say of themselves that they hold far more than they are: refused by their headers."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from sweeps.errors import InputError
from sweeps.io import untrusted
from sweeps.io.guards import free_memory
from sweeps.io.untrusted import npy_array, npz_arrays, refuse_wide
from sweeps.recordings.readers.hdf5 import numbers, whole


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 4 MB of memory."""
    monkeypatch.setattr(free_memory, "free_bytes", lambda: 4e6)


def zeros(rows: int, columns: int, dtype: str = "<f8", blocks: int = 2**20) -> bytes:
    """An .npz file of zeros, packed, of which no more than a block is ever in memory."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": (rows, columns)})
    left, content = rows * columns * np.dtype(dtype).itemsize, io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("vision.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        while left > 0:
            left -= member.write(bytes(min(blocks, left)))
    return content.getvalue()


def limited(content: bytes) -> str:
    """What is said of an .npz file within a second, and without taking memory."""
    tracemalloc.start()
    try:
        before = time.process_time()
        with pytest.raises(InputError) as caught:
            npz_arrays(content, "features.npz")
        assert time.process_time() - before < 1
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    return str(caught.value)


def test_zeros_that_fill_the_memory_are_refused_by_their_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "LARGE", 10**7)
    content = zeros(1000, 5_000)
    assert len(content) < 5e4
    assert "compress it less" in limited(content)


def test_members_that_fill_it_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "LARGE", 10**6)
    held = io.BytesIO()
    np.savez_compressed(held, **{f"a{index}": np.zeros((100, 500)) for index in range(6)})
    assert "compress it less" in limited(held.getvalue())


@pytest.mark.usefixtures("full")
def test_float64_copies_are_counted() -> None:
    held = io.BytesIO()
    np.savez(held, small=np.zeros((2, 2)), vision=np.zeros((1000, 1000), np.int8))
    assert limited(held.getvalue()) == "features.npz: vision: holds 0.01 GB in float64, 0.004 GB are free"
    held = io.BytesIO()
    np.savez(held, **{f"a{index}": np.zeros((100, 1000), np.float32) for index in range(6)})
    assert limited(held.getvalue()) == "features.npz: holds 0.0056 GB in float64, 0.004 GB are free"


@pytest.mark.usefixtures("full")
def test_what_fits_is_read() -> None:
    held = io.BytesIO()
    np.savez(held, vision=np.arange(6.0).reshape(2, 3), language=np.arange(2, dtype=np.int8))
    arrays = npz_arrays(held.getvalue(), "features.npz")
    assert [(name, array.dtype, array.tolist()) for name, array in arrays.items()] == [
        ("vision", np.float64, [[0, 1, 2], [3, 4, 5]]),
        ("language", np.float64, [0, 1]),
    ]


def test_a_member_that_is_shorter_than_its_header_says_is_not_unpacked() -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**6)})
        archive.writestr("vision.npy", header.getvalue() + bytes(80))
    assert limited(held.getvalue()).startswith("features.npz: vision: is not a plain .npy array: it ends early")


@pytest.mark.usefixtures("full")
def test_copies_of_arrays_are_counted() -> None:
    held = io.BytesIO()
    np.save(held, np.zeros(10**6, np.int8))
    with pytest.raises(InputError, match=r"^r\.npy: holds 0\.009 GB with its copy in float64, 0\.004 GB are free$"):
        npy_array(held.getvalue(), "r.npy")


@pytest.mark.usefixtures("full")
def test_chunked_zeros_of_hdf5_are_counted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.nwb", "w") as file:
        file.create_dataset("data", (1000, 1000), "f4", chunks=(100, 1000), compression="gzip")
    with (
        h5py.File(tmp_path / "s.nwb") as file,
        pytest.raises(InputError, match=r"^s\.nwb: data: holds 0\.012 GB with its copy in float64"),
    ):
        whole(numbers(file, "data", "s.nwb"), "s.nwb")


@pytest.mark.usefixtures("full")
def test_volumes_are_refused_by_their_headers() -> None:
    nibabel = pytest.importorskip("nibabel")
    from sweeps.recordings.readers.nifti import read_placed

    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        plain = kind(np.zeros((100, 100, 100), np.int16), np.eye(4)).to_bytes()
        with pytest.raises(InputError, match=r"^m\.nii: holds 0\.01 GB with its copy in float64, 0\.004 GB are free$"):
            read_placed(plain, "m.nii")
        import gzip

        with pytest.raises(InputError, match=r"^m\.nii\.gz: holds 0\.012 GB with its copy in float64"):
            read_placed(gzip.compress(plain), "m.nii.gz")
        small = kind(np.zeros((10, 10, 10), np.int16), np.eye(4)).to_bytes()
        assert read_placed(gzip.compress(small), "m.nii.gz").values.shape == (10, 10, 10)


def test_a_header_of_a_volume_is_believed_in_no_size() -> None:
    nibabel = pytest.importorskip("nibabel")
    import gzip

    from sweeps.recordings.readers.nifti import read_placed

    plain = bytearray(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).to_bytes())
    struct.pack_into("<8h", plain, 40, 7, *[30_000] * 7)
    with pytest.raises(InputError, match="compress it less"):
        read_placed(gzip.compress(bytes(plain)), "m.nii.gz")
    with pytest.raises(InputError, match=r"holds .* GB with its copy in float64"):
        read_placed(bytes(plain), "m.nii")


def test_tables_of_too_many_columns_are_not_parsed() -> None:
    with pytest.raises(InputError, match=r"^u\.csv: has 400,000 columns, at most 10,000 are read$"):
        refuse_wide(b",".join(b"c%d" % index for index in range(400_000)) + b"\n1\n", "u.csv")
    refuse_wide(b"area," * 9_999 + b"x\n", "u.csv")


def test_memory_is_known_here() -> None:
    assert 0 < free_memory.free_bytes() < float("inf")


def test_memory_of_a_control_group_bounds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tmp_path / "slurm/job"
    job.mkdir(parents=True)
    for group, most in ((job, "max"), (job.parent, "1000000")):
        (group / "memory.max").write_text(f"{most}\n")
        (group / "memory.current").write_text("600000\n")
        (group / "memory.stat").write_text("anon 400000\ninactive_file 200000\n")
    (tmp_path / "own").write_text("0::/slurm/job\n")
    monkeypatch.setattr(free_memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(free_memory, "OWN_CGROUP", tmp_path / "own")
    assert free_memory.free_bytes() == 600_000
