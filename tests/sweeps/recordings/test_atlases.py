"""Allen Visual Coding, NSD and Algonauts: what is read against what was written, by an independent path."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem
from nibabel import load as load_volume
from PIL import Image

from sweeps.errors import InputError
from sweeps.recordings import describe, open_recording
from sweeps.recordings.examples import load_example
from sweeps.recordings.recording import Recording


@pytest.fixture
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The example of a format."""
    folder = tmp_path / "data"
    folder.mkdir()
    load_example(request.param)().write(folder, 0)
    return folder


def opened(kind: str, folder: Path, **options: Any) -> Recording:
    raw = {"format": kind, "path": str(folder), **options}
    [facts] = describe([raw], "")
    found = open_recording(raw, "", folder.parent / "cache")
    assert found is not None
    assert found.fingerprint == facts.fingerprint
    return found


def refused(kind: str, folder: Path, *pieces: str, **options: Any) -> None:
    with pytest.raises(InputError) as error:
        opened(kind, folder, **options)
    for piece in pieces:
        assert piece in str(error.value), str(error.value)


HOME = "processing/brain_observatory_pipeline"
SHOWN = "stimulus/presentation/natural_scenes_stimulus"
TRACES = f"{HOME}/DfOverF/imaging_plane_1"
RUNNING = f"{HOME}/BehavioralTimeSeries/running_speed"


def put(tree: Path, values: dict[str, Any]) -> None:
    """Replace data sets of the experiment; None removes one."""
    with h5py.File(tree / "experiment.nwb", "r+") as held:
        for name, value in values.items():
            held.pop(name)
            if value is not None:
                held[name] = value


@pytest.mark.parametrize("tree", ["allen-nwb"], indirect=True)
def test_presentations_of_a_scene_are_its_repeats(tree: Path) -> None:
    held = opened("allen-nwb", tree, image={"size": 48})
    with h5py.File(tree / "experiment.nwb") as file:
        traces, clock = file[f"{TRACES}/data"][:], file[f"{TRACES}/timestamps"][:]
        own = dict(zip(file[f"{RUNNING}/timestamps"][:], file[f"{RUNNING}/data"][:, 0], strict=True))
        order, windows = file[f"{SHOWN}/data"][:], file[f"{SHOWN}/frame_duration"][:]
        stack = file["stimulus/templates/natural_scenes_image_stack/data"][:]
    running = np.array([own.get(time, np.nan) for time in clock])
    assert len(own) < len(clock)
    assert set(held.areas) == {"LM"}  # VISl
    assert held.fit.table["file"].tolist() == [f"scene{scene:03d}" for scene in range(40)]  # the blank is left out
    assert held.fit.behaviour is not None
    for scene in (0, 7, 39):
        for repeat, place in enumerate(np.flatnonzero(order == scene)):
            during = slice(*windows[place])
            np.testing.assert_allclose(held.fit.responses[scene, :, repeat], traces[:, during].mean(1), rtol=1e-4)
            np.testing.assert_allclose(held.fit.behaviour[scene, 0, repeat], running[during].mean())
    assert held.fit.images is not None
    expected = Image.fromarray(stack[5]).resize((48, 48), Image.Resampling.BICUBIC)
    assert np.array_equal(held.fit.images(slice(5, 6))[0, :, :, 0], np.asarray(expected))
    silent = np.isnan([running[start:end].mean() for start, end in windows[order >= 0]])
    assert 2 <= silent.sum() == np.isnan(held.fit.behaviour).sum()  # within the first presentations, and the last
    with_blank = opened("allen-nwb", tree / "experiment.nwb", blank=True)
    assert with_blank.fit.table["file"].iloc[0] == "blank"
    assert len(with_blank.fit.table) == 41


@pytest.mark.parametrize("tree", ["allen-nwb"], indirect=True)
def test_broken_experiments_are_refused(tree: Path) -> None:
    path = tree / "experiment.nwb"
    with h5py.File(path, "r+") as held:
        held[f"{SHOWN}/data"][0] = 40
    refused("allen-nwb", tree, "experiment.nwb", "must be scenes 0 to 39, or -1 for the blank")
    with h5py.File(path, "r+") as held:
        held[f"{SHOWN}/frame_duration"][0] = (9, 3)
    refused("allen-nwb", tree, "frame_duration", "must be rising samples within the")
    with h5py.File(path, "r+") as held:
        del held["general/optophysiology/imaging_plane_1/location"]
        held["general/optophysiology/imaging_plane_1/location"] = "somewhere"
    refused("allen-nwb", tree, "'somewhere'", "names no visual area such as VISp")
    with h5py.File(path, "r+") as held:
        del held[f"{HOME}/DfOverF"]
    refused("allen-nwb", tree, "experiment.nwb", f"{HOME}/DfOverF/imaging_plane_1/data: missing dataset")
    path.write_bytes(b"no")
    refused("allen-nwb", path, "is no HDF5 file")
    path.unlink()
    refused("allen-nwb", tree, "must be an .nwb file, or a folder with one; it has 0")


@pytest.mark.parametrize("tree", ["allen-nwb"], indirect=True)
def test_running_is_aligned_by_its_own_timestamps(tree: Path) -> None:
    before = opened("allen-nwb", tree).fit.behaviour
    with h5py.File(tree / "experiment.nwb") as file:
        clock, own = file[f"{TRACES}/timestamps"][:], file[f"{RUNNING}/timestamps"][:]
        speed = file[f"{RUNNING}/data"][:, 0]
    assert len(clock) == 30 + len(own) + 15  # late, and early
    put(tree, {f"{RUNNING}/data": speed, f"{RUNNING}/timestamps": own + 0.4 / 30})  # flat; less than half a sample
    np.testing.assert_array_equal(opened("allen-nwb", tree).fit.behaviour, before)
    whole = np.concatenate([np.full(30, np.nan), speed, np.full(15, np.nan)])
    put(tree, {f"{RUNNING}/data": whole[:, None], f"{RUNNING}/timestamps": None})  # as many as the traces: as they are
    np.testing.assert_array_equal(opened("allen-nwb", tree).fit.behaviour, before)
    with h5py.File(tree / "experiment.nwb", "r+") as file:
        del file[RUNNING]
    behaviour = opened("allen-nwb", tree).fit.behaviour
    assert behaviour is not None
    assert np.isnan(behaviour).all()


@pytest.mark.parametrize("tree", ["allen-nwb"], indirect=True)
@pytest.mark.parametrize(
    ("name", "change", "pieces"),
    [
        ("timestamps", lambda own: own + 1e4, ("must overlap with", f"{TRACES}/timestamps")),
        ("timestamps", lambda own: own[1:], ("rising seconds, one a sample of",)),
        ("timestamps", lambda own: own[::-1], ("rising seconds",)),
        ("timestamps", lambda own: None, ("running_speed/data = ", "samples of the traces, or both must have")),
        ("data", lambda own: np.zeros((len(own), 2)), ("must be (samples,) or (samples, 1)",)),
    ],
)
def test_running_that_cannot_be_aligned_is_refused(tree: Path, name: str, change: Any, pieces: tuple[str, ...]) -> None:
    with h5py.File(tree / "experiment.nwb") as file:
        own = file[f"{RUNNING}/timestamps"][:]
    put(tree, {f"{RUNNING}/{name}": change(own)})
    refused("allen-nwb", tree, "experiment.nwb", RUNNING, *pieces)


@pytest.mark.parametrize("tree", ["allen-nwb"], indirect=True)
def test_natural_scenes_have_two_names(tree: Path) -> None:
    before = opened("allen-nwb", tree)
    with h5py.File(tree / "experiment.nwb", "r+") as held:
        held.move(SHOWN, SHOWN.removesuffix("_stimulus"))
    assert np.array_equal(opened("allen-nwb", tree).fit.responses, before.fit.responses)
    with h5py.File(tree / "experiment.nwb", "r+") as held:
        held.move(SHOWN.removesuffix("_stimulus"), "stimulus/presentation/static_gratings_stimulus")
        held.create_group("stimulus/presentation/natural_movie_one_stimulus")
    names = "(natural_scenes_stimulus or natural_scenes)"
    refused("allen-nwb", tree, names, "natural_movie_one_stimulus, static_gratings_stimulus")
    with h5py.File(tree / "experiment.nwb", "r+") as held:
        del held["stimulus/presentation"]
    refused("allen-nwb", tree, names, "what it shows: nothing")


@pytest.mark.parametrize("tree", ["allen-nwb"], indirect=True)
def test_cells_without_a_signal_are_refused_by_their_numbers(tree: Path) -> None:
    with h5py.File(tree / "experiment.nwb", "r+") as held:
        order, windows = held[f"{SHOWN}/data"][:], held[f"{SHOWN}/frame_duration"][:]
        traces = held[f"{TRACES}/data"][:]
        for start, end in windows[order >= 0]:
            traces[3, start:end] = np.nan
        traces[5] = 0.3
        for start, end in windows[order > 2]:
            traces[7, start:end] = np.nan
        held[f"{TRACES}/data"][:] = traces
    refused("allen-nwb", tree, "experiment.nwb", "units 3 are NaN throughout", "exclude_units")
    refused("allen-nwb", tree, "units 5 respond the same to every stimulus", exclude_units=[3])
    refused("allen-nwb", tree, "units 7 have responses in fewer than 4 groups", exclude_units=[3, 5])
    assert len(opened("allen-nwb", tree, exclude_units=[3, 5, 7]).areas) == 9


@pytest.mark.parametrize("tree", ["allen-nwb"], indirect=True)
def test_an_experiment_of_blanks_is_refused(tree: Path) -> None:
    with h5py.File(tree / "experiment.nwb", "r+") as held:
        held[f"{SHOWN}/data"][:] = -1
    refused("allen-nwb", tree, "must be scenes 0 to 39, or -1 for the blank")


BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
MASK = "nsddata/ppdata/subj01/func1pt8mm/roi/prf-visualrois.nii.gz"
TRIALS = "nsddata/ppdata/subj01/behav/responses.tsv"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


@pytest.mark.parametrize("tree", ["nsd"], indirect=True)
def test_betas_are_turned_scaled_and_scored_within_sessions(tree: Path) -> None:
    held = opened("nsd", tree, areas=["V1d"], image={"size": 32})
    mask = np.asarray(load_volume(tree / MASK).dataobj)
    places = sorted(np.argwhere(mask == 2).tolist(), key=lambda xyz: xyz[::-1])
    table = pd.read_csv(tree / TRIALS, sep="\t")
    assert len(held.areas) == len(places)
    expected = np.empty((len(table), len(places)))
    for session in (1, 2, 3):
        with h5py.File(tree / BETAS / f"betas_session{session:02d}.hdf5") as file:
            betas = file["betas"][:]
        own = np.stack([betas[:, z, y, x] / 300 for x, y, z in places], axis=1)
        expected[(table["SESSION"] == session).to_numpy()] = (own - own.mean(0)) / own.std(0)
    images = sorted(table["73KID"].unique())
    assert held.fit.table["file"].tolist() == [f"nsd-{image - 1:05d}" for image in images]
    for row, image in enumerate(images):
        trials = np.flatnonzero(table["73KID"] == image)
        np.testing.assert_allclose(held.fit.responses[row].T, expected[trials], atol=1e-5)
    with h5py.File(tree / STIMULI) as file:
        assert held.fit.images is not None
        assert np.array_equal(held.fit.images(slice(3, 5)), file["imgBrick"][[images[3] - 1, images[4] - 1]])


@pytest.mark.parametrize("tree", ["nsd"], indirect=True)
def test_masks_sessions_and_reliable_voxels(tree: Path) -> None:
    mask = np.asarray(load_volume(tree / MASK).dataobj)
    ratio = np.asarray(load_volume(tree / BETAS / "ncsnr.nii.gz").dataobj)
    held = opened("nsd", tree, least_ncsnr=0.5, sessions=2)
    assert len(held.areas) == int(((mask > 0) & (ratio >= 0.5)).sum())
    assert set(held.areas) <= {"V1v", "V1d", "prf-visualrois-7"}  # a label without a name keeps its number
    assert held.fit.responses.shape[2] <= 3
    assert opened("nsd", tree).fingerprint != held.fingerprint


@pytest.mark.parametrize("tree", ["nsd"], indirect=True)
def test_broken_nsd_is_refused(tree: Path) -> None:
    refused("nsd", tree, "roi/other.nii.gz", "missing file", rois=["other"])
    refused("nsd", tree, "no unit lies there", "areas = 'V9'", areas=["V9"])
    (tree / TRIALS).write_text("SESSION\t73KID\n1\t0\n")
    refused("nsd", tree, "responses.tsv", "73KID: must count pictures from one")
    (tree / TRIALS).write_text("SESSION\t73KID\n1\t1\n")
    refused("nsd", tree, "betas_session01.hdf5", "must be (1, 3, 4, 5): trials, and the masks' axes turned around")
    (tree / TRIALS).write_text("SESSION\n1\n")
    refused("nsd", tree, "has no column 73KID")
    (tree / MASK).write_bytes(b"no")
    refused("nsd", tree, "prf-visualrois.nii.gz", "is no NIfTI volume")


def rechunked(path: Path, chunks: tuple[int, ...] | None, change: Any = None) -> None:
    """Write betas again in other chunks, changed in place before."""
    with h5py.File(path, "r+") as held:
        betas = held["betas"][:]
        if change is not None:
            change(betas)
        del held["betas"]
        held.create_dataset("betas", data=betas, chunks=chunks)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every read of a file of betas from now on."""
    found: list[int] = []

    class Counting(io.FileIO):
        def readinto(self, buffer: Any) -> int:  # type: ignore[override]
            size = super().readinto(buffer)
            found.append(size or 0)
            return size or 0

    class Files(LocalFileSystem):
        def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
            return Counting(path) if "betas_session" in path else super().open(path, mode, **options)

    monkeypatch.setattr(
        "sweeps.recordings.readers.hdf5.open_filesystem", lambda url: (Files(skip_instance_cache=True), url)
    )
    return found


BLOCK_OF_VOXELS = (slice(3, 9), slice(4, 8), slice(2, 5))


@pytest.fixture
def larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sessions of 375 trials of 3,840 voxels, 72 of which lie in the mask."""
    monkeypatch.setattr("sweeps.recordings.examples.nsd.SHAPE", (20, 16, 12))
    load_example("nsd")(sessions=2, images=250).write(tmp_path / "data", 0)
    volume = load_volume(tmp_path / "data" / MASK)
    mask = np.zeros(volume.shape, np.int16)
    mask[BLOCK_OF_VOXELS] = 1
    volume.__class__(mask, np.eye(4)).to_filename(tmp_path / "data" / MASK)
    return tmp_path / "data"


def test_chunks_of_wanted_voxels_alone_are_read(larger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks hold all trials of a voxel: the first session is read twice, to see which voxels have data."""
    found = counted(monkeypatch)
    open_recording({"format": "nsd", "path": str(larger)}, "", larger)
    wanted = 2 * 72 * 375 * 2
    whole = sum((larger / BETAS / f"betas_session0{session}.hdf5").stat().st_size for session in (1, 2))
    assert wanted <= sum(found) <= 2 * wanted + 100_000 < whole / 10
    found.clear()
    open_recording({"format": "nsd", "path": str(larger), "units": 4}, "", larger)
    assert sum(found) < wanted + 100_000


@pytest.mark.parametrize("chunks", [None, (1, 12, 16, 20), (25, 5, 3, 4), (375, 12, 16, 1), (100, 1, 16, 20)])
def test_other_chunks_are_read_once(
    chunks: tuple[int, ...] | None, larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = opened("nsd", larger)
    for session in (1, 2):
        rechunked(larger / BETAS / f"betas_session0{session}.hdf5", chunks)
    found = counted(monkeypatch)
    held = open_recording({"format": "nsd", "path": str(larger)}, "", larger)
    assert held is not None
    assert held.fingerprint == known.fingerprint
    assert np.array_equal(held.fit.responses, known.fit.responses, equal_nan=True)
    assert sum(found) <= 3 * 375 * 3840 * 2 + 200_000  # the first session twice


@pytest.mark.parametrize("tree", ["nsd"], indirect=True)
def test_a_voxel_without_data_in_a_session_is_missing_there(tree: Path) -> None:
    mask = np.asarray(load_volume(tree / MASK).dataobj)
    places = sorted(np.argwhere(mask == 2).tolist(), key=lambda xyz: xyz[::-1])
    table = pd.read_csv(tree / TRIALS, sep="\t")
    whole = opened("nsd", tree, areas=["V1d"])
    (x, y, z), (u, v, w) = places[1], places[2]

    def emptied(session: int) -> Any:
        def change(betas: np.ndarray) -> None:
            betas[:, w, v, u] = session  # of no session has it data
            if session == 2:
                betas[:, z, y, x] = 0

        return change

    for session in (1, 2, 3):
        rechunked(tree / BETAS / f"betas_session0{session}.hdf5", (50, 1, 1, 1), emptied(session))
    held = opened("nsd", tree, areas=["V1d"])
    assert len(held.areas) == len(places) - 1
    for row, image in enumerate(sorted(table["73KID"].unique())):
        sessions = table["SESSION"][table["73KID"] == image].to_numpy()
        assert np.isnan(held.fit.responses[row, 1]).tolist() == (sessions == 2).tolist()
    rest = [voxel for voxel in range(len(places)) if voxel not in (1, 2)]
    kept = [voxel for voxel in range(len(places) - 1) if voxel != 1]
    assert np.array_equal(held.fit.responses[:, kept], whole.fit.responses[:, rest])
    [facts] = describe([{"format": "nsd", "path": str(tree)}], "")
    assert facts.notes == {"voxels_left_out": 1}
    two = opened("nsd", tree, areas=["V1d"], units=2).fit.responses  # thinned after it was left out
    assert np.array_equal(two, held.fit.responses[:, [0, -1]], equal_nan=True)


def test_betas_that_would_not_fit_are_refused_before_they_are_read(
    larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.recordings.readers.fmri.LARGEST", 1e5)
    monkeypatch.setattr("sweeps.recordings.formats.nsd._scored", None)
    refused("nsd", larger, "72 voxels, 250 samples, 3 repeats", "ask for fewer, `units: N`")


@pytest.mark.parametrize("tree", ["algonauts"], indirect=True)
def test_both_hemispheres_and_one_based_rows(tree: Path) -> None:
    held = opened("algonauts", tree, image={"size": 32})
    home = tree / "subj01"
    sides = [np.load(home / "training_split" / "training_fmri" / f"{side}_training_fmri.npy") for side in ("lh", "rh")]
    masks = [np.load(home / "roi_masks" / f"{side}.prf-visualrois_challenge_space.npy") for side in ("lh", "rh")]
    mask, responses = np.concatenate(masks), np.concatenate(sides, axis=1)
    assert np.array_equal(held.fit.responses[:, :, 0], responses[:, mask > 0])
    names = np.array(["", "V1v", "V1d", "prf-visualrois-3"])
    assert held.areas.tolist() == names[mask[mask > 0]].tolist()
    files = sorted((home / "training_split" / "training_images").iterdir())
    assert held.fit.table["file"].tolist() == [file.name for file in files]
    assert held.fit.images is not None
    assert np.array_equal(held.fit.images(slice(9, 10))[0, :, :, 0], np.asarray(Image.open(files[9])))


@pytest.mark.parametrize("tree", ["algonauts"], indirect=True)
def test_broken_algonauts_is_refused(tree: Path) -> None:
    refused("algonauts", tree, "subj09", "no such recording", subject="subj09")
    refused("algonauts", tree, "lh.floc_challenge_space.npy", "missing file", rois=["floc"])
    home = tree / "subj01"
    np.save(home / "training_split" / "training_fmri" / "rh_training_fmri.npy", np.ones((3, 4)))
    refused("algonauts", tree, "rh_training_fmri.npy", "must be (60, vertices), one row a picture")
    next((home / "training_split" / "training_images").glob("train-0007_*")).unlink()
    refused("algonauts", tree, "training_images: [7]: rows are missing among the pictures")


@pytest.mark.parametrize("tree", ["algonauts"], indirect=True)
def test_vertices_without_data_are_left_out_before_units_are_chosen(tree: Path) -> None:
    known = opened("algonauts", tree)
    path = tree / "subj01" / "training_split" / "training_fmri" / "rh_training_fmri.npy"
    responses = np.load(path)
    responses[:, 0], responses[:, 2], responses[5:, 4], responses[:, 1] = np.nan, 7.0, np.nan, 0.0
    np.save(path, responses)
    held = opened("algonauts", tree)
    expected = np.delete(known.fit.responses, [10, 11], axis=1)  # vertices 0 and 2 are the first two in the mask
    expected[5:, 10] = np.nan
    assert np.array_equal(held.fit.responses, expected, equal_nan=True)
    [facts] = describe([{"format": "algonauts", "path": str(tree)}], "")
    assert facts.notes == {"voxels_left_out": 2}
    one = opened("algonauts", tree, areas=["V1v"], units=2)
    places = np.flatnonzero(held.areas == "V1v")[[0, -1]]
    assert np.array_equal(one.fit.responses, held.fit.responses[:, places], equal_nan=True)
    np.save(path, np.asfortranarray(responses))
    assert np.array_equal(opened("algonauts", tree).fit.responses, expected, equal_nan=True)
    path.write_bytes(path.read_bytes()[:-8])
    refused("algonauts", tree, "rh_training_fmri.npy", "ends early: it must hold 60 x 20 numbers")


def test_responses_are_read_in_parts_after_the_guard_of_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    load_example("algonauts")(images=240).write(folder, 0)
    home, random = folder / "subj01", np.random.default_rng(0)
    for side in ("lh", "rh"):
        file = home / "training_split" / "training_fmri" / f"{side}_training_fmri.npy"
        np.save(file, random.standard_normal((240, 22_500), dtype=np.float32))
        np.save(home / "roi_masks" / f"{side}.prf-visualrois_challenge_space.npy", np.arange(22_500) < 1000)
    assert file.stat().st_size > 20e6
    raw = {"format": "algonauts", "path": str(folder)}
    tracemalloc.start()
    open_recording({**raw, "units": 5}, "", folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < file.stat().st_size / 2
    monkeypatch.setattr("sweeps.recordings.readers.fmri.LARGEST", 1e5)
    monkeypatch.setattr("sweeps.recordings.formats.algonauts._responses", None)
    refused("algonauts", folder, "2000 voxels, 240 samples, 1 repeats", "ask for fewer, `units: N`")
