"""The format `algonauts`: NSD as the Algonauts 2023 challenge packs it, one subject at a time.

    subj01/training_split/training_images/train-0001_nsd-00013.png    first number: the row, counted from one
    subj01/training_split/training_fmri/{lh,rh}_training_fmri.npy     (pictures, vertices)
    subj01/roi_masks/{lh,rh}.<roi>_challenge_space.npy                (vertices,) whole labels: NaN, 0 or less = outside

The mapping from labels to names is a pickle in the published files, which is never loaded: areas are called
`<roi>-<label>`, unless a `roi_masks/mapping_<roi>.json` ({"1": "V1v", ...}) stands beside them. Vertices of the masks
that hold no numbers, or the same one for every picture, are left out.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.recordings.contents import Contents, in_joined, joined_notes
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.file_tree import Tree
from sweeps.recordings.readers.fmri import check_size, npy_parts, npy_shape, remember, some_of, varying, whole_labels
from sweeps.recordings.readers.presentations import presentations_note, stacked
from sweeps.recordings.readers.screens import PictureSpec, Presentations, arrange, picture_notes, versions
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.spec import SubjectSpec
from sweeps.recordings.units import choose_units
from sweeps.stimuli.images import changed_by, decoded
from sweeps.stimuli.picture_file import Exif

PICTURES = "training_split/training_images"
SIDES = {side: f"training_split/training_fmri/{side}_training_fmri.npy" for side in ("lh", "rh")}
NAME = re.compile(r"train-(\d+)_nsd-(\d+)\.png")


class AlgonautsSpec(SubjectSpec):
    """A subject's training split; `rois` are the masks that name areas, `image` how its pictures are shown.

    `presentations`: whether rows of one NSD image are its repeats, or `separate` stimuli of one group.
    """

    format: Literal["algonauts"]
    subject: str = Field("subj01", min_length=1)
    rois: tuple[str, ...] = Field(("prf-visualrois",), strict=False, min_length=1)
    image: PictureSpec = PictureSpec()
    presentations: Literal["repeats", "separate"] = "repeats"

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers beside the files; how rows are taken has a rule of its own."""
        return {key: value for key, value in super().settings().items() if key != "presentations"}

    def open(self, base: str, cache: Path) -> Recording:
        """Read a subject; InputError names the file and what was expected.

        Responses are read in parts, twice: to see which vertices hold data, then those that are chosen.
        `notes["voxels_left_out"]` counts vertices of the masks without data.
        """
        tree = Tree(join(base, f"{self.path.rstrip('/')}/{self.subject}"))
        files, images = _pictures(tree)
        labels = _labels_of_both(tree, self, len(files))
        inside, with_data = _vertices(tree, labels, self.rois)
        units = choose_units(self, len(with_data), labels[with_data], None, tree.file("roi_masks"))
        check_size(len(files), len(units.rows), 1, tree.file("training_split/training_fmri"))
        responses = _responses(tree, with_data[units.rows], len(files))
        geometry, exif = self.image.geometry(), self.image.exif
        contents, changed = _contents(tree, files, images), _changed(tree, files, exif)
        joined = contents.joined_groups()
        rows = arrange(images if self.presentations == "repeats" else files, None)
        rules = {"labels": units.cleaned, "presentations": rows.repeats > 1, "equal-content": bool(joined)}
        identity = refined(content_id([tree.digest(), self.settings()]), versions(changed) | applied(rules))
        load = _loader(tree, [files[row] for row in rows.first], geometry, exif)
        key, table = content_id([identity, "pictures"]), _table(files, images, joined, rows)
        fit = StimulusSet(table, stacked(responses[:, :, None], rows), key, load)
        notes: dict[str, Any] = {"voxels_left_out": len(inside) - len(with_data), **picture_notes(changed)}
        notes |= {"presentations": presentations_note(rows)} if rows.repeats > 1 else {}
        notes |= joined_notes(np.array(images), in_joined(images, joined))
        return Recording(
            self.recording_name(),
            identity,
            units.areas,
            {"fit": fit},
            geometry=geometry,
            notes=notes,
            contents=contents.in_groups(joined),
        )


def _contents(tree: Tree, files: list[str], images: list[str]) -> Contents:
    """What the rows show: the number of the image, and the file's bytes, which are part of the identity."""
    stored = [hashlib.sha256(content).hexdigest() for content in tree.many(files)]
    return Contents.known([*images, *images], [*images, *stored])


def _table(files: list[str], images: list[str], joined: Mapping[str, str], rows: Presentations) -> pd.DataFrame:
    table = pd.DataFrame({"file": [name.rsplit("/", 1)[-1] for name in files], "group": in_joined(images, joined)})
    return table.iloc[rows.first].reset_index(drop=True)


def _vertices(tree: Tree, labels: np.ndarray, rois: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the vertices inside the masks, and of those among them that hold data."""
    inside = np.flatnonzero(labels != "")
    if not len(inside):
        raise InputError("no vertex lies in these masks", file=tree.file("roi_masks"), key="rois", value=list(rois))
    vary = np.concatenate([_varying(tree, name) for name in SIDES.values()])
    return inside, inside[some_of(vary[inside], tree.url)]


def _changed(tree: Tree, files: list[str], exif: Exif) -> Counter[str]:
    """How many pictures each rule of reading changes; all are read, being part of the identity."""
    contents = zip(files, tree.many(files), strict=True)
    return Counter(rule for name, content in contents for rule in changed_by(content, tree.file(name), exif=exif))


def _loader(tree: Tree, files: list[str], geometry: Geometry, exif: Exif) -> Callable[[slice], np.ndarray]:
    """Pictures of a slice of rows, in a geometry."""

    def load(rows: slice) -> np.ndarray:
        contents = zip(files[rows], tree.later(files[rows]), strict=True)
        return np.stack([geometry.apply(decoded(content, tree.file(name), exif=exif)) for name, content in contents])

    return load


def _pictures(tree: Tree) -> tuple[list[str], list[str]]:
    """Files of the pictures in order of their rows, and the NSD image of each."""
    numbered = {}
    for name in tree.names(PICTURES):
        match = NAME.fullmatch(name)
        if match:
            numbered[int(match[1])] = (f"{PICTURES}/{name}", f"nsd-{match[2]}")
    if not numbered:
        raise InputError("has no pictures called train-0001_nsd-00013.png", file=tree.file(PICTURES))
    if sorted(numbered) != list(range(1, len(numbered) + 1)):
        missing = [row for row in range(1, len(numbered) + 1) if row not in numbered]
        raise InputError("rows are missing among the pictures", file=tree.file(PICTURES), value=missing[:5])
    ordered = [numbered[row] for row in sorted(numbered)]
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
    responses, before = np.empty((pictures, len(vertices)), np.float32), 0
    for name in SIDES.values():
        width, row = npy_shape(tree, name)[1], 0
        mine = np.flatnonzero((vertices >= before) & (vertices < before + width))
        for part in npy_parts(tree, name):
            responses[row : row + len(part), mine] = part[:, vertices[mine] - before]
            row += len(part)
        before += width
    return responses


def _labels(tree: Tree, spec: AlgonautsSpec, side: str, vertices: int) -> np.ndarray:
    """The area of every vertex, of the first mask that has it; empty outside."""
    labels = np.full(vertices, "", dtype=object)
    for roi in spec.rois:
        name = f"roi_masks/{side}.{roi}_challenge_space.npy"
        mask, names = tree.array(name), _names(tree, roi)
        if mask.shape != (vertices,):
            raise InputError(f"must be ({vertices},)", file=tree.file(name), value=mask.shape)
        numbers = whole_labels(mask, tree.file(name))
        for label in np.unique(numbers[numbers > 0]):
            labels[(numbers == label) & (labels == "")] = names.get(str(int(label)), f"{roi}-{int(label)}")
    return labels.astype(str)


def _names(tree: Tree, roi: str) -> dict[str, str]:
    name = f"roi_masks/mapping_{roi}.json"
    return {label: str(area) for label, area in tree.mapping(name).items()} if tree.has(name) else {}
