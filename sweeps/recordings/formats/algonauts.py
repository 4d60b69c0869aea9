"""The format `algonauts`: NSD as the Algonauts 2023 challenge packs it, one subject at a time.

    subj01/training_split/training_images/train-0001_nsd-00013.png    first number: the row, counted from one
    subj01/training_split/training_fmri/{lh,rh}_training_fmri.npy     (pictures, vertices)
    subj01/roi_masks/{lh,rh}.<roi>_challenge_space.npy                (vertices,) labels, 0 = outside

The mapping from labels to names is a pickle in the published files, which is never loaded: areas are called
`<roi>-<label>`, unless a `roi_masks/mapping_<roi>.json` ({"1": "V1v", ...}) stands beside them. Vertices of the masks
that hold no numbers, or the same one for every picture, are left out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.recordings.formats.folder import ImageSpec
from sweeps.recordings.readers.file_tree import Tree
from sweeps.recordings.readers.fmri import check_size, npy_parts, npy_shape, remember, some_of, varying
from sweeps.recordings.recording import Recording, RecordingFacts, StimulusSet
from sweeps.recordings.units import UnitChoice, choose_units
from sweeps.stimuli.images import decoded

PICTURES = "training_split/training_images"
SIDES = {side: f"training_split/training_fmri/{side}_training_fmri.npy" for side in ("lh", "rh")}
NAME = re.compile(r"train-(\d+)_nsd-(\d+)\.png")


class AlgonautsSpec(UnitChoice):
    """A subject's training split; `rois` are the masks that name areas, `image` how its pictures are shown."""

    format: Literal["algonauts"]
    path: str
    name: str | None = None
    subject: str = Field("subj01", min_length=1)
    rois: tuple[str, ...] = Field(("prf-visualrois",), strict=False, min_length=1)
    image: ImageSpec = ImageSpec()

    def recording_name(self) -> str:
        """Name in the tables: `name`, else the subject."""
        return self.name or self.subject


def describe_algonauts(spec: AlgonautsSpec, base: str) -> RecordingFacts:
    """What the driver needs to know; `notes["voxels_left_out"]` counts vertices of the masks without data."""
    recording, left_out = _opened(spec, base)
    return replace(recording.facts(), notes={"voxels_left_out": left_out})


def open_algonauts(spec: AlgonautsSpec, base: str, cache: Path | None = None) -> Recording:
    """Read a subject; InputError names the file and what was expected. `cache` is not needed here.

    Responses are read in parts, twice: to see which vertices hold data, then those that are chosen.
    """
    return _opened(spec, base)[0]


def _opened(spec: AlgonautsSpec, base: str) -> tuple[Recording, int]:
    tree = Tree(join(base, f"{spec.path.rstrip('/')}/{spec.subject}"))
    files, images = _pictures(tree)
    labels = _labels_of_both(tree, spec, len(files))
    inside = np.flatnonzero(labels != "")
    if not len(inside):
        raise InputError(
            "no vertex lies in these masks", file=tree.file("roi_masks"), key="rois", value=list(spec.rois)
        )
    there = inside[some_of(np.concatenate([_varying(tree, name) for name in SIDES.values()])[inside], tree.url)]
    units = choose_units(spec, len(there), labels[there], None, tree.file("roi_masks"))
    check_size(len(files), len(units.rows), 1, tree.file("training_split/training_fmri"))
    responses = _responses(tree, there[units.rows], len(files))
    for _ in tree.many(files):  # pictures are part of the identity
        pass
    geometry = spec.image.geometry()
    identity = content_id([tree.digest(), spec.model_dump(mode="json", exclude={"path", "name"})])

    def load(rows: slice) -> np.ndarray:
        contents = zip(files[rows], tree.later(files[rows]), strict=True)
        return np.stack([geometry.apply(decoded(content, tree.file(name))) for name, content in contents])

    table = pd.DataFrame({"file": [name.rsplit("/", 1)[-1] for name in files], "group": images})
    fit = StimulusSet(table, responses[:, :, None], content_id([identity, "pictures"]), load)
    recording = Recording(spec.recording_name(), identity, units.areas, {"fit": fit}, geometry=geometry)
    return recording, len(inside) - len(there)


def _pictures(tree: Tree) -> tuple[list[str], list[str]]:
    """Files of the pictures in order of their rows, and the NSD image of each."""
    found = {}
    for name in tree.names(PICTURES):
        match = NAME.fullmatch(name)
        if match:
            found[int(match[1])] = (f"{PICTURES}/{name}", f"nsd-{match[2]}")
    if not found:
        raise InputError("has no pictures called train-0001_nsd-00013.png", file=tree.file(PICTURES))
    if sorted(found) != list(range(1, len(found) + 1)):
        missing = [row for row in range(1, len(found) + 1) if row not in found]
        raise InputError("rows are missing among the pictures", file=tree.file(PICTURES), value=missing[:5])
    ordered = [found[row] for row in sorted(found)]
    return [file for file, _ in ordered], [image for _, image in ordered]


def _labels_of_both(tree: Tree, spec: AlgonautsSpec, pictures: int) -> np.ndarray:
    """The area of every vertex, the left hemisphere's first; empty outside the masks."""
    labels = []
    for side, name in SIDES.items():
        shape = npy_shape(tree, name)
        if len(shape) != 2 or shape[0] != pictures:
            raise InputError(f"must be ({pictures}, vertices), one row a picture", file=tree.file(name), value=shape)
        labels.append(_labels(tree, spec, side, shape[1]))
    return np.concatenate(labels)


def _varying(tree: Tree, name: str) -> np.ndarray:
    """Which vertices (vertices,) of a file hold two different numbers; remembers the file."""
    remember(tree, name)
    extremes = np.full((2, npy_shape(tree, name)[1]), np.nan)
    for part in npy_parts(tree, name):
        extremes[0] = np.fmin(extremes[0], np.fmin.reduce(part, axis=0))
        extremes[1] = np.fmax(extremes[1], np.fmax.reduce(part, axis=0))
    return varying(extremes)


def _responses(tree: Tree, vertices: np.ndarray, pictures: int) -> np.ndarray:
    """Responses (pictures, chosen vertices) float32; vertices count through both hemispheres."""
    found, before = np.empty((pictures, len(vertices)), np.float32), 0
    for name in SIDES.values():
        width, row = npy_shape(tree, name)[1], 0
        mine = np.flatnonzero((vertices >= before) & (vertices < before + width))
        for part in npy_parts(tree, name):
            found[row : row + len(part), mine] = part[:, vertices[mine] - before]
            row += len(part)
        before += width
    return found


def _labels(tree: Tree, spec: AlgonautsSpec, side: str, vertices: int) -> np.ndarray:
    """The area of every vertex, of the first mask that has it; empty outside."""
    labels = np.full(vertices, "", dtype=object)
    for roi in spec.rois:
        name = f"roi_masks/{side}.{roi}_challenge_space.npy"
        mask, names = tree.array(name), _names(tree, roi)
        if mask.shape != (vertices,):
            raise InputError(f"must be ({vertices},)", file=tree.file(name), value=mask.shape)
        for label in np.unique(mask[mask > 0]):
            free = (mask == label) & (labels == "")
            labels[free] = names.get(str(int(label)), f"{roi}-{int(label)}")
    return labels.astype(str)


def _names(tree: Tree, roi: str) -> dict[str, str]:
    name = f"roi_masks/mapping_{roi}.json"
    return {label: str(area) for label, area in tree.mapping(name).items()} if tree.has(name) else {}
