"""What was on the screen: stored pictures and frames as a twin sees them, and which clips are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import Field

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.io.strict_model import Strict
from sweeps.stimuli.picture_file import RULES, Exif

SAMPLED = range(0, 300, 30)
"""Frames that a clip's signature looks at."""

CELLS = 4
"""A signature holds the mean of CELLS x CELLS parts of the picture."""

NEAR = 2.0
"""Clips are near copies where no part differs by more, in steps of 255."""


NOTES = {
    "depth": "pictures_scaled_by_their_own_bits",
    "exif": "pictures_turned_upright",
    "exif ignored": "pictures_turned_back",
    "alpha": "pictures_laid_on_mid_grey",
}
"""Rule of reading picture files -> the note that counts the pictures that it changes."""


class ImageSpec(Strict):
    """How pictures are shown: the central `crop` of each side first, then resized to `size` pixels."""

    size: int = Field(112, ge=16, le=1024)
    crop: float = Field(1.0, gt=0, le=1)

    def geometry(self) -> Geometry:
        """The same as a Geometry."""
        return Geometry(size=self.size, crop=self.crop)


class PictureSpec(ImageSpec):
    """How pictures in files are shown; `exif: ignore` leaves them as they are stored, whatever their orientation tag.

    `exif` is no part of the settings' identity: `picture_file.RULES` tell what it changes.
    """

    exif: Exif = Field("obey", exclude=True)


class ScreenSpec(Strict):
    """How pictures are shown: the central `crop` of each side first, then `size` rows of `width` pixels."""

    size: int = Field(36, ge=8, le=1024)
    width: int = Field(64, ge=8, le=1024)
    crop: float = Field(1.0, gt=0, le=1)

    def geometry(self) -> Geometry:
        """The same as a Geometry."""
        return Geometry(size=self.size, width=self.width, crop=self.crop)


class ScreenPictureSpec(ScreenSpec):
    """The same for pictures in files; `exif` as in PictureSpec."""

    exif: Exif = Field("obey", exclude=True)


def versions(rules: Iterable[str]) -> dict[str, int]:
    """Rules of reading picture files, each with its version, for `refined`."""
    return {rule: RULES[rule] for rule in rules}


def picture_notes(changed: Mapping[str, int]) -> dict[str, int]:
    """Notes on how many pictures each rule of reading has changed."""
    return {NOTES[rule]: count for rule, count in changed.items()}


def as_pixels(values: np.ndarray, white: float, file: str, key: str = "white") -> np.ndarray:
    """Stored brightness, 0 black to `white`, rounded to uint8; InputError for values beyond (half a step is let be)."""
    steps = np.asarray(values, dtype=np.float64) * (255.0 / white)
    if not ((steps >= -0.5) & (steps <= 255.5)).all():  # NaN too
        extremes = f"{np.min(values):g} to {np.max(values):g}"
        raise InputError(f"holds brightness from {extremes}, allowed is 0 to {white:g}", file=file, key=key)
    return np.clip(np.round(steps), 0, 255).astype(np.uint8)


class Brightness:
    """Stored brightness of a recording's files, and whether its `white` can be theirs.

    Where nothing is brighter than one step of 255, `white` is not the white of these files: a picture in 0 to 1 would
    be shown in two greys. So is a single file of fractions up to 1 among others that go beyond.
    """

    def __init__(self, white: float, place: str, key: str = "white") -> None:
        self.white, self.place, self.key = white, place, key
        self.brightest = 0.0
        self.fractions: str | None = None

    def pixels(self, values: np.ndarray, file: str) -> np.ndarray:
        """Values of a file as pixels uint8, see `as_pixels`; they are remembered."""
        shown, brightest = as_pixels(values, self.white, file, self.key), float(np.max(values, initial=0))
        self.brightest = max(self.brightest, brightest)
        if 0.5 < brightest <= 1 < self.white and (values != np.round(values)).any():
            self.fractions = self.fractions or file
        return shown

    def check(self, remedy: str = "") -> None:
        """Raise InputError, with what to do, unless `white` can be the white of what was remembered."""
        darkness = f"no value is above {self.brightest:g}, but white is {self.white:g}"
        if 0 < self.brightest * 255 / self.white <= 1:
            white = "1" if self.brightest <= 1 < self.white else "the value that white has"
            raise InputError(f"{darkness}: {remedy or f'set `white: {white}`'}", file=self.place, key=self.key)
        if self.fractions is not None:
            problem = f"holds fractions up to 1, but others reach {self.brightest:g}: store all on one scale"
            raise InputError(problem, file=self.fractions, key=self.key)


def show(pictures: np.ndarray, geometry: Geometry) -> np.ndarray:
    """uint8 (n, h, w) or (n, h, w, 3) in a geometry: uint8 (n, rows, columns, 3)."""
    pixels = np.empty((len(pictures), *geometry.shape, 3), np.uint8)
    for index, picture in enumerate(pictures):
        pixels[index] = geometry.apply(Image.fromarray(picture))
    return pixels


def content_key(values: np.ndarray) -> str:
    """Equal for arrays of equal shape, type and content."""
    total = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    total.update(np.ascontiguousarray(values).data)
    return total.hexdigest()


def signature(pixels: np.ndarray) -> np.ndarray:
    """Mean brightness of 4 x 4 parts of every 30th frame of a clip (frames, h, w[, 3]); NaN past its end."""
    means = np.full((len(SAMPLED), CELLS * CELLS), np.nan)
    for index, frame in enumerate(SAMPLED):
        if frame < len(pixels):
            grey = pixels[frame] if pixels.ndim == 3 else pixels[frame].mean(axis=-1)
            bands = np.array_split(grey, CELLS, axis=0)
            means[index] = [part.mean() for band in bands for part in np.array_split(band, CELLS, axis=1)]
    return means


def near_copies(signatures: Sequence[np.ndarray]) -> np.ndarray:
    """Label (clips,) that near copies share, whatever lies between them: the number of the first of them.

    Two clips are near copies where their signatures differ by at most NEAR in every part of all frames that both
    have. Recorders show one film at slightly different times and store it resampled, so that copies need not be
    equal to the last bit. The tolerance is a choice of ours.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    table = np.stack([signature.ravel() for signature in signatures])
    links = np.zeros((len(table), len(table)), dtype=bool)
    for index, row in enumerate(table):
        links[index] = (np.nan_to_num(np.abs(table - row)) <= NEAR).all(axis=1)
    _, labels = connected_components(csr_array(links), directed=False)
    return first_of(labels)


def linked(*labels: np.ndarray) -> np.ndarray:
    """For each entry the first that it is linked to by an equal label of any kind, directly or through others.

    >>> linked(np.array(["a", "a", "b", "c"]), np.array([1, 2, 2, 3]))
    array([0, 0, 0, 3])
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count = len(labels[0])
    ends = np.concatenate([first_of(kind) for kind in labels])
    edges = (np.tile(np.arange(count), len(labels)), ends)
    graph = csr_array((np.ones(len(ends)), edges), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    return first_of(component)


def first_of(labels: np.ndarray) -> np.ndarray:
    """For each entry the index of the first with the same label."""
    _, first, member = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[member])


@dataclass(frozen=True)
class Presentations:
    """Which trials show the same: `item` (trials,), the number of what is shown, in order of first appearance;
    `repeat` (trials,), how often it was shown before; `first` (items,), the first trial of each."""

    item: np.ndarray
    repeat: np.ndarray
    first: np.ndarray

    @property
    def repeats(self) -> int:
        """Most often that an item is shown."""
        return int(self.repeat.max()) + 1


def arrange(keys: Sequence[str], order: np.ndarray | None) -> Presentations:
    """Items and repeats from a key per trial; repeats follow `order` (presentation) where it is known, else the list.

    >>> arrange(["b", "a", "b"], np.array([2, 1, 0])).repeat
    array([1, 0, 0])
    """
    first = first_of(np.asarray(keys))
    starts, item = np.unique(first, return_inverse=True)
    repeat = np.zeros(len(keys), dtype=int)
    count = np.zeros(len(starts), dtype=int)
    for trial in np.argsort(np.arange(len(keys)) if order is None else order, kind="stable"):
        repeat[trial] = count[item[trial]]
        count[item[trial]] += 1
    return Presentations(item, repeat, starts)
