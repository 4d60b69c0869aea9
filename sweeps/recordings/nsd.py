"""The format `nsd`: the Natural Scenes Dataset in its published layout, one subject in a volume space.

    nsddata_betas/ppdata/<subject>/<space>/<betas>/betas_session01.hdf5    betas (trials, z, y, x) int16 = value x 300
    nsddata/ppdata/<subject>/<space>/roi/<roi>.nii.gz                      labels (x, y, z), 0 or less = outside
    nsddata/freesurfer/<subject>/label/<roi>.mgz.ctab                      names of the labels
    nsddata/ppdata/<subject>/behav/responses.tsv                           SESSION and 73KID (from one) of every trial
    nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5                           imgBrick (73,000 pictures, from zero)

Betas are z-scored per voxel within a session; presentations of a picture are its repeats. NSD may be used under its own
terms only, which forbid passing it on.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from sweeps.errors import InputError
from sweeps.identity import content_id
from sweeps.recordings.bold import check_size, zscored
from sweeps.recordings.facts import RecordingFacts
from sweeps.recordings.folder import ImageSpec
from sweeps.recordings.hdf5 import dataset, opened
from sweeps.recordings.images import join
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.tree import Tree
from sweeps.recordings.units import UnitChoice, choose_units
from sweeps.recordings.volumes import read_volume

SCALE = 300.0
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
TRIALS = 25
"""Trials that are read together: a session is about a gigabyte."""


class NsdSpec(UnitChoice):
    """A subject's voxels in some masks.

    `sessions`: the first so many, all that are there where it is not given. `least_ncsnr`: voxels whose noise-ceiling
    signal-to-noise ratio (ncsnr.nii.gz beside the betas) is lower are left out.
    """

    format: Literal["nsd"]
    path: str
    name: str | None = None
    subject: str = Field("subj01", min_length=1)
    space: str = "func1pt8mm"
    betas: str = "betas_fithrf_GLMdenoise_RR"
    rois: tuple[str, ...] = Field(("prf-visualrois",), strict=False, min_length=1)
    sessions: int | None = Field(None, ge=1)
    least_ncsnr: float | None = Field(None, ge=0)
    image: ImageSpec = ImageSpec()

    def recording_name(self) -> str:
        """Name in the tables: `name`, else the subject."""
        return self.name or self.subject


def describe_nsd(spec: NsdSpec, base: str) -> RecordingFacts:
    """What the driver needs to know; opens the recording, since its identity is its content."""
    return open_nsd(spec, base).facts()


def open_nsd(spec: NsdSpec, base: str, cache: Path | None = None) -> Recording:
    """Read the chosen voxels; InputError names the file and what was expected. `cache` is not needed here.

    Its identity is that of masks, trials and betas that were read, and of the stimulus file its size and the pictures
    at its ends: reading all of its 39 GB would take longer than the sweep.
    """
    tree = Tree(join(base, spec.path))
    folder = f"nsddata_betas/ppdata/{spec.subject}/{spec.space}/{spec.betas}"
    labels = _labels(tree, spec, folder)
    inside = np.flatnonzero(labels.ravel(order="F") != "")  # the betas' axes are those of the masks, turned around
    if not len(inside):
        raise InputError("no voxel lies in these masks", file=tree.file(folder), key="rois", value=list(spec.rois))
    units = choose_units(spec, len(inside), labels.ravel(order="F")[inside], None, tree.file(folder))
    voxels = inside[units.rows]
    trials, sessions = _trials(tree, spec, folder)
    parts = []
    for session in sessions:
        name = f"{folder}/betas_session{session:02d}.hdf5"
        parts.append(zscored(_session(tree, name, labels.shape, voxels, int((trials["session"] == session).sum()))))
    images, row = np.unique(trials["image"].to_numpy(), return_inverse=True)
    repeat = trials.groupby("image").cumcount().to_numpy()
    check_size(len(images), len(voxels), int(repeat.max()) + 1, tree.file(folder))
    responses = np.full((len(images), len(voxels), int(repeat.max()) + 1), np.nan, dtype=np.float32)
    betas = np.concatenate(parts)
    responses[row, :, repeat] = betas
    pictures = _Pictures(tree.file(STIMULI), images)
    read = hashlib.sha256(np.ascontiguousarray(responses).tobytes()).hexdigest()
    identity = content_id(
        [tree.digest(), read, pictures.identity(), spec.model_dump(mode="json", exclude={"path", "name"})]
    )
    geometry = spec.image.geometry()

    def load(rows: slice) -> np.ndarray:
        return np.stack([geometry.apply(Image.fromarray(picture)) for picture in pictures.read(rows)])

    names = [f"nsd-{image:05d}" for image in images]
    fit = StimulusSet(pd.DataFrame({"file": names, "group": names}), responses, content_id([identity, "nsd"]), load)
    return Recording(spec.recording_name(), identity, units.areas, {"fit": fit}, geometry=geometry)


def _labels(tree: Tree, spec: NsdSpec, folder: str) -> np.ndarray:
    """The area of every voxel (x, y, z), of the first mask that has it; empty outside."""
    labels: np.ndarray | None = None
    for roi in spec.rois:
        name = f"nsddata/ppdata/{spec.subject}/{spec.space}/roi/{roi}.nii.gz"
        mask, names = read_volume(tree.read(name), tree.file(name)), _names(tree, spec, roi)
        labels = np.full(mask.shape, "", dtype=object) if labels is None else labels
        if mask.shape != labels.shape:
            raise InputError(f"must be {labels.shape} like the other masks", file=tree.file(name), value=mask.shape)
        for label in np.unique(mask[mask > 0]):
            free = (mask == label) & (labels == "")
            labels[free] = names.get(int(label), f"{roi}-{int(label)}")
    assert labels is not None
    if spec.least_ncsnr is not None:
        name = f"{folder}/ncsnr.nii.gz"
        ratio = read_volume(tree.read(name), tree.file(name))
        if ratio.shape != labels.shape:
            raise InputError(f"must be {labels.shape} like the masks", file=tree.file(name), value=ratio.shape)
        labels[~(ratio >= spec.least_ncsnr)] = ""
    return labels.astype(str)


def _names(tree: Tree, spec: NsdSpec, roi: str) -> dict[int, str]:
    """Names of a mask's labels: lines of number and name, whatever stands behind."""
    name = f"nsddata/freesurfer/{spec.subject}/label/{roi}.mgz.ctab"
    if not tree.has(name):
        return {}
    lines = (line.split() for line in tree.read(name).decode("utf-8", "replace").splitlines())
    return {int(parts[0]): parts[1] for parts in lines if len(parts) > 1 and parts[0].isdigit()}


def _trials(tree: Tree, spec: NsdSpec, folder: str) -> tuple[pd.DataFrame, list[int]]:
    """Session and image (from zero) of every trial that is read, in order, and the sessions."""
    name = f"nsddata/ppdata/{spec.subject}/behav/responses.tsv"
    try:
        table = pd.read_csv(io.BytesIO(tree.read(name)), sep="\t")
    except ValueError as error:  # pandas' own errors among them
        raise InputError(f"is no table separated by tabs: {error}", file=tree.file(name)) from None
    for column in ("SESSION", "73KID"):
        if column not in table:
            raise InputError(f"has no column {column}", file=tree.file(name), allowed=list(table.columns))
        if table[column].dtype.kind not in "iu":
            raise InputError("must hold whole numbers, one a trial", file=tree.file(name), key=column)
    there = [number for number in sorted(set(table["SESSION"])) if tree.has(f"{folder}/betas_session{number:02d}.hdf5")]
    sessions = [int(number) for number in there][: spec.sessions]
    if not sessions:
        raise InputError("has no betas_sessionNN.hdf5 of a session in responses.tsv", file=tree.file(folder))
    kept = table[table["SESSION"].isin(sessions)]
    if kept["73KID"].min() < 1:
        raise InputError("must count pictures from one", file=tree.file(name), key="73KID")
    return pd.DataFrame({"session": kept["SESSION"].to_numpy(), "image": kept["73KID"].to_numpy() - 1}), sessions


def _session(tree: Tree, name: str, shape: Sequence[int], voxels: np.ndarray, trials: int) -> np.ndarray:
    """Betas (trials, voxels) of a session."""
    url = tree.file(name)
    with opened(url) as held:
        betas = dataset(held, "betas", url, 4)
        if betas.shape != (trials, *reversed(shape)):
            problem = (
                f"must be ({trials}, {', '.join(map(str, reversed(shape)))}): trials, and the masks' axes turned around"
            )
            raise InputError(problem, file=url, key="betas", value=betas.shape)
        parts = [betas[start : start + TRIALS].reshape(-1, int(np.prod(shape))) for start in range(0, trials, TRIALS)]
        return np.concatenate([part[:, voxels] for part in parts]).astype(np.float64) / SCALE


class _Pictures:
    """Some pictures of the stimulus file, read when they are asked for."""

    def __init__(self, url: str, images: np.ndarray) -> None:
        self.url, self.images = url, images
        with opened(url) as held:
            self.shape = dataset(held, "imgBrick", url, 4).shape
        if images.max() >= self.shape[0]:
            raise InputError(
                f"holds {self.shape[0]} pictures, trial {images.max()} is asked for", file=url, key="imgBrick"
            )

    def read(self, rows: slice) -> np.ndarray:
        """Pictures (rows, h, w, 3) uint8."""
        with opened(self.url) as held:
            brick = dataset(held, "imgBrick", self.url, 4)
            return np.asarray(brick[self.images[rows]]) if len(self.images[rows]) else np.empty((0, *self.shape[1:]))

    def identity(self) -> list[object]:
        """Shape of the file, and what its first and last asked pictures are."""
        ends = np.concatenate([self.read(slice(0, 1)), self.read(slice(len(self.images) - 1, None))])
        return [list(self.shape), self.images.tolist(), hashlib.sha256(ends.tobytes()).hexdigest()]
