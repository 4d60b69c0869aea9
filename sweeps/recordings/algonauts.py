"""The format `algonauts`: NSD as the Algonauts 2023 challenge packs it, one subject at a time.

    subj01/training_split/training_images/train-0001_nsd-00013.png    first number: the row, counted from one
    subj01/training_split/training_fmri/{lh,rh}_training_fmri.npy     (pictures, vertices)
    subj01/roi_masks/{lh,rh}.<roi>_challenge_space.npy                (vertices,) labels, 0 = outside

The mapping from labels to names is a pickle in the published files, which is never loaded: areas are called
`<roi>-<label>`, unless a `roi_masks/mapping_<roi>.json` ({"1": "V1v", ...}) stands beside them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sweeps.errors import InputError
from sweeps.identity import content_id
from sweeps.recordings.facts import RecordingFacts
from sweeps.recordings.folder import ImageSpec
from sweeps.recordings.images import decoded, join
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.tree import Tree
from sweeps.recordings.units import UnitChoice, choose_units

PICTURES = "training_split/training_images"
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
    """What the driver needs to know; opens the recording, since its identity is its content."""
    return open_algonauts(spec, base).facts()


def open_algonauts(spec: AlgonautsSpec, base: str, cache: Path | None = None) -> Recording:
    """Read a subject; InputError names the file and what was expected. `cache` is not needed here."""
    tree = Tree(join(base, f"{spec.path.rstrip('/')}/{spec.subject}"))
    files, images = _pictures(tree)
    sides = [_responses(tree, side, len(files)) for side in ("lh", "rh")]
    labels = np.concatenate(
        [_labels(tree, spec, side, held.shape[1]) for side, held in zip(("lh", "rh"), sides, strict=True)]
    )
    inside = np.flatnonzero(labels != "")
    if not len(inside):
        raise InputError(
            "no vertex lies in these masks", file=tree.file("roi_masks"), key="rois", value=list(spec.rois)
        )
    units = choose_units(spec, len(inside), labels[inside], None, tree.file("roi_masks"))
    responses = np.concatenate(sides, axis=1)[:, inside[units.rows]].astype(np.float32)
    for _ in tree.many(files):  # pictures are part of the identity
        pass
    geometry = spec.image.geometry()
    identity = content_id([tree.digest(), spec.model_dump(mode="json", exclude={"path", "name"})])

    def load(rows: slice) -> np.ndarray:
        contents = zip(files[rows], tree.later(files[rows]), strict=True)
        return np.stack([geometry.apply(decoded(content, tree.file(name))) for name, content in contents])

    table = pd.DataFrame({"file": [name.rsplit("/", 1)[-1] for name in files], "group": images})
    fit = StimulusSet(table, responses[:, :, None], content_id([identity, "pictures"]), load)
    return Recording(spec.recording_name(), identity, units.areas, {"fit": fit}, geometry=geometry)


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
        missing = sorted(set(range(1, max(found) + 1)) - set(found))
        raise InputError("rows are missing among the pictures", file=tree.file(PICTURES), value=missing[:5])
    ordered = [found[row] for row in sorted(found)]
    return [file for file, _ in ordered], [image for _, image in ordered]


def _responses(tree: Tree, side: str, pictures: int) -> np.ndarray:
    name = f"training_split/training_fmri/{side}_training_fmri.npy"
    held = tree.array(name)
    if held.ndim != 2 or len(held) != pictures:
        raise InputError(f"must be ({pictures}, vertices), one row a picture", file=tree.file(name), value=held.shape)
    return held


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
