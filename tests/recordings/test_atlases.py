"""Allen Visual Coding, NSD and Algonauts: what is read against what was written, by an independent path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from nibabel import load as load_volume
from PIL import Image

from sweeps.errors import InputError
from sweeps.recordings import describe, open_recording
from sweeps.recordings.examples import load_writer
from sweeps.recordings.recording import Recording


@pytest.fixture
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The example of a format."""
    folder = tmp_path / "data"
    folder.mkdir()
    load_writer(request.param)(folder, 0)
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


@pytest.mark.parametrize("tree", ["allen-nwb"], indirect=True)
def test_presentations_of_a_scene_are_its_repeats(tree: Path) -> None:
    held = opened("allen-nwb", tree, image={"size": 48})
    with h5py.File(tree / "experiment.nwb") as file:
        traces, running = (
            file[f"{HOME}/DfOverF/imaging_plane_1/data"][:],
            file[f"{HOME}/BehavioralTimeSeries/running_speed/data"][:],
        )
        order, windows = file[f"{SHOWN}/data"][:], file[f"{SHOWN}/frame_duration"][:]
        stack = file["stimulus/templates/natural_scenes_image_stack/data"][:]
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
