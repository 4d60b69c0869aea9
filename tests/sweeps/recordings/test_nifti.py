"""NIfTI volumes of both versions and byte orders, where they lie, and masks that name the voxels of NSD."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import InputError
from sweeps.recordings import open_recording
from sweeps.recordings.examples import load_example
from sweeps.recordings.readers.fmri import labels_moved, whole_labels
from sweeps.recordings.readers.nifti import check_same_grid, read_placed, read_volume

nifti1 = pytest.importorskip("nibabel.nifti1")
nifti2 = pytest.importorskip("nibabel.nifti2")

ROIS = Path("nsddata/ppdata/subj01/func1pt8mm/roi")
RATIO = Path("nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz")
PLAIN, SCALED = np.eye(4), np.diag([1.8, 1.8, 1.8, 1.0])


def image(values: np.ndarray, affine: np.ndarray | None = SCALED, version: int = 1, order: str = "<") -> Any:
    kind, header = ((nifti1.Nifti1Image, nifti1.Nifti1Header), (nifti2.Nifti2Image, nifti2.Nifti2Header))[version - 1]
    made = kind(values, affine, header(endianness=order))
    made.set_data_dtype(values.dtype)
    return made


def content(values: np.ndarray, *args: Any) -> bytes:
    return bytes(image(values, *args).to_bytes())


# -- volumes ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.sampled_from(["<", ">"]),
    st.booleans(),
    st.sampled_from(["u1", "i2", "i4", "f4", "f8"]),
    st.integers(0, 3),
)
def test_both_versions_byte_orders_and_axes_of_length_one(
    version: int, order: str, packed: bool, kind: str, ones: int
) -> None:
    values = np.random.default_rng(ones).integers(0, 99, (3, 4, 2)).astype(kind)
    plain = content(values.reshape(3, 4, 2, *[1] * ones), SCALED, version, order)
    volume = read_placed(gzip.compress(plain) if packed else plain, "mask")
    assert np.array_equal(volume.values, values)
    assert volume.affine is not None
    assert np.allclose(volume.affine, SCALED)


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_no_single_volume_is_refused(version: int) -> None:
    with pytest.raises(InputError, match=r"^here: \(\(3, 4, 2, 2\), '.*'\): must be a volume \(x, y, z\) of numbers"):
        read_volume(content(np.zeros((3, 4, 2, 2), np.int16), SCALED, version), "here")
    plain = bytearray(content(np.zeros((3, 4, 2), np.int16), SCALED, version))
    place = 344 if version == 1 else 4
    assert plain[place : place + 3] == b"n+%d" % version
    plain[place + 1] = ord("i")
    with pytest.raises(InputError, match=r"here: is the header of a pair \(.hdr, .img\): save it as one .nii"):
        read_volume(bytes(plain), "here")
    with pytest.raises(InputError, match="here: is no NIfTI volume"):
        read_volume(content(np.zeros((3, 4, 2), np.int16), SCALED, version)[:-4], "here")


def affines() -> Any:
    """Affines of rotations, flips, voxel sizes and origins."""

    def made(angles: list[float], flips: list[bool], sizes: list[float], origin: list[float]) -> np.ndarray:
        turn = np.eye(3)
        for axis, angle in enumerate(angles):
            i, j = [other for other in range(3) if other != axis]
            step = np.eye(3)
            step[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
            turn = turn @ step
        affine = np.eye(4)
        affine[:3, :3] = turn * np.where(flips, -1, 1) * sizes
        affine[:3, 3] = origin
        return affine

    three: dict[str, Any] = {"min_size": 3, "max_size": 3}
    return st.builds(
        made,
        st.lists(st.floats(-3, 3), **three),
        st.lists(st.booleans(), **three),
        st.lists(st.floats(0.5, 4), **three),
        st.lists(st.floats(-120, 120), **three),
    )


SHAPE = (20, 25, 15)


def furthest(first: np.ndarray, second: np.ndarray) -> float:
    """Voxels between the places of one voxel, at most, by every voxel of the volume."""
    voxels = np.stack([axis.ravel() for axis in np.indices(SHAPE)] + [np.ones(int(np.prod(SHAPE)))])
    apart = np.linalg.norm((first @ voxels - second @ voxels)[:3], axis=0).max()
    return float(apart / np.linalg.norm(first[:3, :3], axis=0).min())


@settings(max_examples=40, deadline=None)
@given(affines(), affines(), st.sampled_from([0.0, 1e-9, 1e-6, 1e-4, 1e-2, 1.0]))
def test_volumes_lie_on_one_grid_exactly_where_all_their_voxels_do(
    affine: np.ndarray, other: np.ndarray, share: float
) -> None:
    second = (1 - share) * affine + share * other
    volumes = [read_placed(content(np.zeros(SHAPE, np.int8), a, 2), f"file{i}") for i, a in enumerate((affine, second))]
    apart = furthest(affine, second)
    if apart < 0.0005:
        check_same_grid(*volumes)
    elif apart > 0.002:
        with pytest.raises(InputError, match="file1: lies elsewhere than file0: their affines differ"):
            check_same_grid(*volumes)


def test_the_sform_counts_then_the_qform_then_none() -> None:
    values, flipped = np.zeros((3, 4, 2), np.int16), np.diag([-1.8, 1.8, 1.8, 1.0])
    both = image(values)
    both.set_qform(flipped, 1)
    both.set_sform(SCALED, 4)
    by_qform, by_none = image(values), image(values)
    by_qform.set_qform(flipped, 1)
    by_qform.set_sform(SCALED, 0)
    by_none.set_qform(flipped, 0)
    by_none.set_sform(SCALED, 0)
    first, second, third = (read_placed(made.to_bytes(), "f") for made in (both, by_qform, by_none))
    assert first.affine is not None
    assert second.affine is not None
    assert np.allclose(first.affine, SCALED)
    assert np.allclose(second.affine, flipped)
    assert third.affine is None
    for pair in ((first, third), (third, second), (third, third)):
        check_same_grid(*pair)
    with pytest.raises(InputError, match="lies elsewhere"):
        check_same_grid(first, second)


def test_metres_and_millimetres_are_told_apart() -> None:
    values = np.zeros((3, 4, 2), np.int16)
    metres = image(values, SCALED @ np.diag([1e-3, 1e-3, 1e-3, 1]))
    metres.header.set_xyzt_units("meter")
    check_same_grid(read_placed(content(values), "a"), read_placed(metres.to_bytes(), "b"))


def test_a_qform_of_the_same_grid_is_the_same_grid() -> None:
    """Quaternions of 32 bits are inexact, most near half a turn."""
    turn = np.array([[-1, 2e-4, 0], [2e-4, 1, 1e-4], [0, 1e-4, -1]])
    rotation, _ = np.linalg.qr(turn)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * 1.8, (90, -126, -72)
    by_sform, by_qform = (
        image(np.zeros((81, 104, 83), np.int8), affine),
        image(np.zeros((81, 104, 83), np.int8), affine),
    )
    by_qform.set_qform(affine, 1)
    by_qform.set_sform(affine, 0)
    check_same_grid(*(read_placed(made.to_bytes(), name) for made, name in ((by_sform, "s"), (by_qform, "q"))))


# -- labels -----------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.integers(-3, 9), st.just(None)), min_size=1, max_size=9), st.sampled_from(["f4", "f8"]))
def test_whole_labels_are_themselves_and_nan_is_outside(labels: list[int | None], kind: str) -> None:
    values = np.array([np.nan if label is None else label for label in labels], kind)
    expected = [label or 0 for label in labels]
    assert whole_labels(values, "f").tolist() == expected
    assert not labels_moved(values, whole_labels(values, "f"))


@given(st.integers(0, 9), st.floats(1e-3, 0.999), st.integers(0, 4))
def test_fractions_are_refused(label: int, fraction: float, place: int) -> None:
    values = np.arange(5.0)
    values[place] = label + fraction
    with pytest.raises(InputError, match=r"^f: .*: labels must be whole numbers: resample with nearest neighbours$"):
        whole_labels(values, "f")


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 2000), st.integers(0, 9))
def test_labels_that_a_header_scales_are_rounded(highest: int, seed: int) -> None:
    """Nibabel stores floats as 16-bit numbers with a slope: labels come back within half a step of it."""
    labels = np.random.default_rng(seed).integers(0, highest + 1, (3, 4, 2))
    made = nifti1.Nifti1Image(labels * (1 + 1e-7), SCALED)
    made.set_data_dtype(np.int16)
    volume = read_placed(made.to_bytes(), "f")
    assert np.array_equal(whole_labels(volume.values, "f", volume.step), labels)
    with pytest.raises(InputError, match="whole numbers"):
        whole_labels(volume.values + 0.5, "f", volume.step)


def test_a_label_that_was_cut_to_another_is_told() -> None:
    assert labels_moved(np.array([0.0, 1.9999]), np.array([0, 2]))
    assert labels_moved(np.array([1e-5, 1.0]), np.array([0, 1]))
    assert not labels_moved(np.array([-1e-5, 1.00001, np.nan]), np.array([0, 1, 0]))


# -- NSD --------------------------------------------------------------------------------------------


@pytest.fixture
def nsd(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    load_example("nsd")().write(folder, 0)
    return folder


def opened(folder: Path, **options: Any) -> Any:
    return open_recording({"format": "nsd", "path": str(folder), **options}, "", folder.parent / "cache")


def stored(path: Path) -> np.ndarray:
    return np.asarray(nifti1.load(path).dataobj)


def put(path: Path, values: np.ndarray, affine: np.ndarray | None = PLAIN, version: int = 1) -> None:
    plain = content(values, affine, version)
    path.write_bytes(gzip.compress(plain, mtime=0) if path.suffix == ".gz" else plain)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", ["i2", "f4"])
def test_masks_of_any_kind_name_the_same_voxels(nsd: Path, version: int, kind: str) -> None:
    before, mask = opened(nsd), stored(nsd / ROIS / "prf-visualrois.nii.gz")
    values = mask.astype(kind)
    if kind == "f4":
        values[mask <= 0] = np.nan
    put(nsd / ROIS / "prf-visualrois.nii.gz", values[..., None], np.eye(4), version)
    after = opened(nsd)
    assert after.areas.tolist() == before.areas.tolist()
    assert np.array_equal(after.fit.responses, before.fit.responses, equal_nan=True)


def test_a_plain_file_serves_and_a_pair_is_refused(nsd: Path) -> None:
    before, packed = opened(nsd), nsd / ROIS / "prf-visualrois.nii.gz"
    (nsd / ROIS / "prf-visualrois.nii").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert opened(nsd).areas.tolist() == before.areas.tolist()
    (nsd / ROIS / "prf-visualrois.nii").rename(nsd / ROIS / "prf-visualrois.hdr")
    with pytest.raises(InputError, match=r"prf-visualrois.hdr: is one of a pair \(.hdr, .img\)"):
        opened(nsd)


def test_masks_and_ratio_lie_on_one_grid(nsd: Path) -> None:
    mask, flip = stored(nsd / ROIS / "prf-visualrois.nii.gz"), np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = mask.shape[0] - 1
    put(nsd / ROIS / "mine.nii.gz", mask[::-1], flip)
    both = ["prf-visualrois", "mine"]
    with pytest.raises(InputError, match=r"mine.nii.gz: lies elsewhere than .*prf-visualrois.nii.gz: their affines"):
        opened(nsd, rois=both)
    with pytest.raises(InputError, match=r"ncsnr.nii.gz: lies elsewhere than .*mine.nii.gz"):
        opened(nsd, rois=["mine"])
    with pytest.raises(InputError, match=r"ncsnr.nii.gz: lies elsewhere than .*mine.nii.gz"):
        opened(nsd, rois=["mine"], least_ncsnr=0.1)
    put(nsd / ROIS / "mine.nii.gz", mask)
    assert opened(nsd, rois=both).areas.tolist() == opened(nsd).areas.tolist()
    put(nsd / ROIS / "mine.nii.gz", mask[:-1])
    with pytest.raises(InputError, match=r"mine.nii.gz: \(4, 4, 3\): must be \(5, 4, 3\) like .*prf-visualrois"):
        opened(nsd, rois=both)


def test_a_ratio_that_is_not_asked_for_may_be_missing_or_damaged(nsd: Path) -> None:
    before = opened(nsd)
    (nsd / RATIO).write_bytes(b"/annex/objects/MD5E")
    assert opened(nsd).fingerprint == before.fingerprint
    with pytest.raises(InputError, match=r"ncsnr.nii.gz: is a pointer of git-annex"):
        opened(nsd, least_ncsnr=0.1)
    (nsd / RATIO).unlink()
    assert opened(nsd).fingerprint == before.fingerprint


def test_labels_between_two_are_refused_and_rounded_ones_are_another_recording(nsd: Path) -> None:
    place, mask = nsd / ROIS / "prf-visualrois.nii.gz", stored(nsd / ROIS / "prf-visualrois.nii.gz")
    put(place, np.where(mask > 0, mask + 0.5, 0).astype(np.float32))
    with pytest.raises(InputError, match=r"prf-visualrois.nii.gz: .*: labels must be whole numbers: resample with"):
        opened(nsd)
    made = nifti1.Nifti1Image(np.where(mask > 0, mask, 0) * (1 - 1e-7), np.eye(4))
    made.set_data_dtype(np.int16)
    place.write_bytes(gzip.compress(made.to_bytes(), mtime=0))
    volume = read_placed(place.read_bytes(), "")
    assert volume.step > 0
    assert set(opened(nsd).areas) == {"V1v", "V1d", "prf-visualrois-7"}


@pytest.mark.parametrize("values", [[0.0, 1.0, 2.5, 0.0], [0.5, 0.0, 1.0, 1.0]])
def test_algonauts_masks_hold_whole_labels(tmp_path: Path, values: list[float]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    load_example("algonauts")().write(folder, 0)
    raw = {"format": "algonauts", "path": str(folder)}
    before = open_recording(raw, "", tmp_path)
    place = folder / "subj01" / "roi_masks" / "lh.prf-visualrois_challenge_space.npy"
    mask = np.load(place).astype(float)
    np.save(place, np.where(mask > 0, mask, np.nan))
    after = open_recording(raw, "", tmp_path)
    assert before is not None
    assert after is not None
    assert after.areas.tolist() == before.areas.tolist()
    np.save(place, np.resize(values, mask.shape))
    with pytest.raises(InputError, match=r"lh.prf-visualrois_challenge_space.npy: .*labels must be whole numbers"):
        open_recording(raw, "", tmp_path)
