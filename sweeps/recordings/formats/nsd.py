"""The format `nsd`: the Natural Scenes Dataset in its published layout, one subject in a volume space.

    nsddata_betas/ppdata/<subject>/<space>/<betas>/betas_session01.hdf5    betas (trials, z, y, x) int16 = value x 300
    nsddata/ppdata/<subject>/<space>/roi/<roi>.nii.gz                      labels (x, y, z): NaN, 0 or less = outside
    nsddata/freesurfer/<subject>/label/<roi>.mgz.ctab                      names of the labels
    nsddata/ppdata/<subject>/behav/responses.tsv                           SESSION and 73KID (from one) of every trial
    nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5                           imgBrick (73,000 pictures, from zero)
    nsddata/experiments/nsd/nsd_stim_info_merged.csv                       nsdId (from zero) and shared1000 of a picture

Masks hold whole numbers, and lie on one grid with each other and with ncsnr.nii.gz, which is that of the betas; .nii
will do for .nii.gz. Betas are z-scored per voxel within a session; presentations of a picture are its repeats. A voxel
that is the same in all trials of a session has no data in it: NaN. Voxels of the masks that have data in no session
are left out. NSD may be used under its own terms only, which forbid passing it on.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.io.untrusted import reading, refuse_wide
from sweeps.recordings.contents import Contents
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.file_tree import Tree
from sweeps.recordings.readers.fmri import check_size, labels_moved, some_of, varying, whole_labels, zscored
from sweeps.recordings.readers.hdf5 import BLOCK, dataset, numbers, opened
from sweeps.recordings.readers.nifti import Volume, check_same_grid, read_placed
from sweeps.recordings.readers.screens import ImageSpec
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.spec import SubjectSpec
from sweeps.recordings.split_rows import PUBLISHED
from sweeps.recordings.units import choose_units

SCALE = 300.0
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
INFORMATION = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"


class NsdSpec(SubjectSpec):
    """A subject's voxels in some masks.

    `sessions`: the first so many, all that are there where it is not given. `least_ncsnr`: voxels whose noise-ceiling
    signal-to-noise ratio (ncsnr.nii.gz beside the betas) is lower are left out.
    """

    published: ClassVar[str] = f"the 1,000 pictures that all subjects were shown, as listed in {INFORMATION}"

    format: Literal["nsd"]
    subject: str = Field("subj01", min_length=1)
    space: str = "func1pt8mm"
    betas: str = "betas_fithrf_GLMdenoise_RR"
    rois: tuple[str, ...] = Field(("prf-visualrois",), strict=False, min_length=1)
    sessions: int | None = Field(None, ge=1)
    least_ncsnr: float | None = Field(None, ge=0)
    image: ImageSpec = ImageSpec()

    def open(self, base: str, cache: Path) -> Recording:
        """Read the chosen voxels; InputError names the file and what was expected.

        Its identity is that of masks, trials and betas that were read, and of the stimulus file its size and the
        pictures at its ends: reading all of its 39 GB would take longer than the sweep. `notes["voxels_left_out"]`
        counts voxels of the masks without data.
        """
        tree = Tree(join(base, self.path))
        folder = f"nsddata_betas/ppdata/{self.subject}/{self.space}/{self.betas}"
        labels, resolved = _labels(tree, self, folder)
        areas = labels.ravel(order="F")  # the betas' axes are those of the masks, turned around
        inside = np.flatnonzero(areas != "")
        if not len(inside):
            raise InputError("no voxel lies in these masks", file=tree.file(folder), key="rois", value=list(self.rois))
        trials, sessions = _sessions(tree, self, folder, labels.shape)
        with_data = inside[some_of(_with_data(sessions, inside), tree.file(folder))]
        units = choose_units(self, len(with_data), areas[with_data], None, tree.file(folder))
        images, responses = _responses(sessions, trials["image"], with_data[units.rows], tree.file(folder))
        pictures = _Pictures(tree.file(STIMULI), images)
        digest = hashlib.sha256(responses.data).hexdigest()
        identity = content_id([tree.digest(), digest, pictures.identity(), self.settings()])
        identity = refined(identity, resolved | applied({"labels": units.cleaned}))
        geometry = self.image.geometry()
        names = [f"nsd-{image:05d}" for image in images]
        table, key = pd.DataFrame({"file": names, "group": names}), content_id([identity, "nsd"])
        published = _published(tree, images)
        if published is not None:
            table[PUBLISHED] = published
        fit = StimulusSet(table, responses, key, pictures.loader(geometry))
        notes = {"voxels_left_out": len(inside) - len(with_data)}
        return Recording(
            self.recording_name(),
            identity,
            units.areas,
            {"fit": fit},
            geometry=geometry,
            notes=notes,
            contents=Contents.known(names, names),  # equal numbers are equal pictures, for every subject
        )


def _labels(tree: Tree, spec: NsdSpec, folder: str) -> tuple[np.ndarray, dict[str, int]]:
    """The area of every voxel (x, y, z), of the first mask that has it, empty outside; and rules that moved labels."""
    masks = [_volume(tree, f"nsddata/ppdata/{spec.subject}/{spec.space}/roi/{roi}") for roi in spec.rois]
    labels, moved = np.full(masks[0].values.shape, "", dtype=object), False
    for roi, mask in zip(spec.rois, masks, strict=True):
        check_same_grid(masks[0], mask)
        numbers, names = whole_labels(mask.values, mask.file, mask.step), _names(tree, spec, roi)
        moved |= labels_moved(mask.values, numbers)
        for label in np.unique(numbers[numbers > 0]):
            labels[(numbers == label) & (labels == "")] = names.get(int(label), f"{roi}-{int(label)}")
    ratio = _ratio(tree, spec, folder)
    if ratio is not None:
        check_same_grid(masks[0], ratio)
    if ratio is not None and spec.least_ncsnr is not None:
        labels[~(ratio.values >= spec.least_ncsnr)] = ""
    return labels.astype(str), {"labels": 1} if moved else {}


def _ratio(tree: Tree, spec: NsdSpec, folder: str) -> Volume | None:
    """The noise-ceiling ratio beside the betas, on their grid; where it is not asked for, only if it can be had."""
    if spec.least_ncsnr is not None:
        return _volume(tree, f"{folder}/ncsnr")
    name = f"{folder}/ncsnr.nii.gz"
    if tree.has(name):
        with suppress(InputError):
            [content] = tree.later([name])
            return read_placed(content, tree.file(name))
    return None


def _volume(tree: Tree, name: str) -> Volume:
    """A volume by its name without the ending: .nii.gz, else .nii; pairs (.hdr, .img) are refused."""
    place = next((place for place in (f"{name}.nii.gz", f"{name}.nii") if tree.has(place)), f"{name}.nii.gz")
    if not tree.has(place) and tree.has(f"{name}.hdr"):
        raise InputError("is one of a pair (.hdr, .img): save it as one .nii.gz file", file=tree.file(f"{name}.hdr"))
    return read_placed(tree.read(place), tree.file(place))


def _names(tree: Tree, spec: NsdSpec, roi: str) -> dict[int, str]:
    """Names of a mask's labels: lines of number and name, whatever stands behind."""
    name = f"nsddata/freesurfer/{spec.subject}/label/{roi}.mgz.ctab"
    if not tree.has(name):
        return {}
    lines = (line.split() for line in tree.read(name).decode("utf-8", "replace").splitlines())
    with reading(tree.file(name)):
        return {int(parts[0]): parts[1] for parts in lines if len(parts) > 1 and parts[0].isdecimal()}


def _published(tree: Tree, images: np.ndarray) -> np.ndarray | None:
    """What the pictures are in the published split: the shared 1,000 are its report set; None without their list.

    The list decides no number of the recording, so it is no part of its identity (see `split_identity`).
    """
    if not tree.has(INFORMATION):
        return None
    [content] = tree.later([INFORMATION])
    refuse_wide(content, tree.file(INFORMATION))
    with reading(tree.file(INFORMATION), "is no CSV table"):
        table = pd.read_csv(io.BytesIO(content))
    for column in ("nsdId", "shared1000"):
        if column not in table:
            problem = f"has no column {column}"
            raise InputError(problem, file=tree.file(INFORMATION), allowed=list(map(str, table.columns)))
    shared = table["shared1000"].astype(str).str.lower().isin(["true", "1", "1.0"])
    return np.where(np.isin(images, table["nsdId"][shared].to_numpy()), "report", "train")


def _trials(tree: Tree, spec: NsdSpec, folder: str) -> tuple[pd.DataFrame, list[int]]:
    """Session and image (from zero) of every trial that is read, in order, and the sessions."""
    name = f"nsddata/ppdata/{spec.subject}/behav/responses.tsv"
    content = tree.read(name)
    refuse_wide(content, tree.file(name))
    with reading(tree.file(name), "is no table separated by tabs"):
        table = pd.read_csv(io.BytesIO(content), sep="\t")
    for column in ("SESSION", "73KID"):
        if column not in table:
            raise InputError(f"has no column {column}", file=tree.file(name), allowed=list(table.columns))
        if table[column].dtype.kind not in "iu":
            raise InputError("must hold whole numbers, one a trial", file=tree.file(name), key=column)
    numbers = sorted(set(table["SESSION"]))
    stored = [number for number in numbers if tree.has(f"{folder}/betas_session{number:02d}.hdf5")]
    sessions = [int(number) for number in stored][: spec.sessions]
    if not sessions:
        raise InputError("has no betas_sessionNN.hdf5 of a session in responses.tsv", file=tree.file(folder))
    trials = table[table["SESSION"].isin(sessions)]
    if trials["73KID"].min() < 1:
        raise InputError("must count pictures from one", file=tree.file(name), key="73KID")
    return pd.DataFrame({"session": trials["SESSION"].to_numpy(), "image": trials["73KID"].to_numpy() - 1}), sessions


@dataclass(frozen=True)
class _Session:
    """Betas of a session: its file, the rows of the table of trials that it has, the shape (trials, z, y, x)."""

    url: str
    trials: np.ndarray
    shape: tuple[int, ...]

    def read(self, voxels: np.ndarray) -> np.ndarray:
        """Betas (trials, voxels) in the file's type; voxels count through (z, y, x)."""
        with opened(self.url) as content:
            betas = numbers(content, "betas", self.url, 4)
            if betas.shape != self.shape:
                problem = f"must be ({', '.join(map(str, self.shape))}): trials, and the masks' axes turned around"
                raise InputError(problem, file=self.url, key="betas", value=betas.shape)
            chosen = np.empty((len(self.trials), len(voxels)), betas.dtype)
            for box, mine in _boxes(betas, voxels):
                z, y, x = np.unravel_index(voxels[mine], self.shape[1:])
                chosen[box[0], mine] = betas[box][:, z - box[1].start, y - box[2].start, x - box[3].start]
        return chosen


def _sessions(tree: Tree, spec: NsdSpec, folder: str, shape: Sequence[int]) -> tuple[pd.DataFrame, list[_Session]]:
    """Return the trials that are read, and the sessions that they belong to; `shape` is that of the masks."""
    trials, numbers = _trials(tree, spec, folder)
    sessions = []
    for number in numbers:
        rows = np.flatnonzero(trials["session"] == number)
        file = tree.file(f"{folder}/betas_session{number:02d}.hdf5")
        sessions.append(_Session(file, rows, (len(rows), *reversed(shape))))
    return trials, sessions


def _boxes(betas: h5py.Dataset, voxels: np.ndarray) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Parts (trials, z, y, x) of a file that hold all of its `voxels`, and which of them each holds.

    A box is as wide as the voxels of one row of chunks (published files: a chunk is a voxel's 750 trials), and as long
    as 4 MiB allow, so that no chunk is read twice. Where there are no chunks, or a chunk spans the volume, it holds all
    that lies between the first and the last z.
    """
    chunk = betas.chunks or (1, *betas.shape[1:])
    z, y, x = np.unravel_index(voxels, betas.shape[1:])
    row = z // chunk[1] * betas.shape[2] + y // chunk[2]
    order = np.argsort(row, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(row[order])) + 1):
        place = (
            _between(z[mine]),
            _between(y[mine]) if chunk[2] < betas.shape[2] else slice(0, betas.shape[2]),
            _between(x[mine]) if chunk[3] < betas.shape[3] else slice(0, betas.shape[3]),
        )
        size = math.prod(part.stop - part.start for part in place) * betas.dtype.itemsize
        step = max(1, BLOCK // (size * chunk[0])) * chunk[0]
        for start in range(0, len(betas), step):
            yield (slice(start, min(start + step, len(betas))), *place), mine


def _between(places: np.ndarray) -> slice:
    return slice(int(places.min()), int(places.max()) + 1)


def _responses(
    sessions: Sequence[_Session], image: pd.Series, voxels: np.ndarray, file: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images in rising order, and responses (images, voxels, repeats) float32; `image` is that of each trial."""
    images, row = np.unique(image.to_numpy(), return_inverse=True)
    repeat = image.groupby(image).cumcount().to_numpy()
    check_size(len(images), len(voxels), int(repeat.max()) + 1, file)
    responses = np.full((len(images), len(voxels), int(repeat.max()) + 1), np.nan, dtype=np.float32)
    for session in sessions:
        responses[row[session.trials], :, repeat[session.trials]] = _scored(session.read(voxels))
    return images, responses


def _with_data(sessions: Sequence[_Session], voxels: np.ndarray) -> np.ndarray:
    """Which voxels (voxels,) vary within some session; those that do in the first are not looked for in the others."""
    vary = np.zeros(len(voxels), dtype=bool)
    for session in sessions:
        unknown = np.flatnonzero(~vary)
        if len(unknown):
            vary[unknown] = varying(session.read(voxels[unknown]))
    return vary


def _scored(betas: np.ndarray) -> np.ndarray:
    """z-scores (trials, voxels) of a session's betas as they are stored; NaN for a voxel that does not vary."""
    scores = zscored(betas.astype(np.float64) / SCALE)
    scores[:, ~varying(betas)] = np.nan
    return scores


class _Pictures:
    """Some pictures of the stimulus file, read when they are needed."""

    def __init__(self, url: str, images: np.ndarray) -> None:
        self.url, self.images = url, images
        with opened(url) as content:
            brick = dataset(content, "imgBrick", url, 4)
            self.shape, kind = brick.shape, brick.dtype
        if kind != np.uint8 or self.shape[3] != 3 or not math.prod(self.shape):
            problem = "must be (pictures, rows, columns, 3) uint8"
            raise InputError(problem, file=url, key="imgBrick", value=(self.shape, str(kind)))
        if images.max() >= self.shape[0]:
            raise InputError(
                f"holds {self.shape[0]} pictures, picture {images.max()} is needed", file=url, key="imgBrick"
            )

    def read(self, rows: slice) -> np.ndarray:
        """Pictures (rows, h, w, 3) uint8."""
        with opened(self.url) as content:
            brick = dataset(content, "imgBrick", self.url, 4)
            return np.asarray(brick[self.images[rows]]) if len(self.images[rows]) else np.empty((0, *self.shape[1:]))

    def loader(self, geometry: Geometry) -> Callable[[slice], np.ndarray]:
        """Return what loads the pictures of a slice of rows, in a geometry."""
        return lambda rows: np.stack([geometry.apply(Image.fromarray(picture)) for picture in self.read(rows)])

    def identity(self) -> list[object]:
        """Shape of the file, and what the first and last of these pictures are."""
        ends = np.concatenate([self.read(slice(0, 1)), self.read(slice(len(self.images) - 1, None))])
        return [list(self.shape), self.images.tolist(), hashlib.sha256(ends.tobytes()).hexdigest()]
