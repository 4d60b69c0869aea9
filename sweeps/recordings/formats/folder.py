"""The bring-your-own format: a folder with stimuli.csv, responses.npy, units.csv and pictures or features.

Every row of stimuli.csv is a picture, or, where it has the columns `clip` (a label) and `frame`, a frame of a clip:
those of a clip lie together and count from 0. The rows of a role without a clip are pictures. Rows of the role `fit`
that show the same stimulus are its repeats, and groups that show the same picture, frame by frame the same clip, or
have equal features and no pictures, are one group.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from models.inputs.geometry import Geometry
from sweeps.errors import InputError, listed
from sweeps.hashing import content_id, digest_bytes
from sweeps.io.filesystem import join, open_filesystem
from sweeps.io.labels import clean_table, refuse_duplicates
from sweeps.io.pointers import exists, refuse_pointer
from sweeps.io.untrusted import npy_array, npz_arrays, reading, refuse_wide
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.fit_stimuli import fit_stimuli
from sweeps.recordings.readers.presentations import stacked
from sweeps.recordings.readers.screens import PictureSpec, picture_notes, versions
from sweeps.recordings.recording import (
    ROLES,
    Recording,
    RecordingFacts,
    StimulusSet,
    check_groups,
    check_responses,
    check_roles,
)
from sweeps.recordings.spec import StoredSpec
from sweeps.stimuli.images import ImageFolder
from sweeps.stimuli.picture_file import Exif


class FolderSpec(StoredSpec):
    """A recording in the `folder` format: where it is and how its pictures are shown.

    `presentations`: whether rows that show one stimulus are its repeats, or `separate` stimuli of one group.
    """

    format: Literal["folder"]
    image: PictureSpec = PictureSpec()
    exclude_units: tuple[int, ...] = Field((), strict=False)
    presentations: Literal["repeats", "separate"] = "repeats"

    def open(self, base: str, cache: Path) -> Recording:
        """Read the folder; InputError names the file and what is wrong with it."""
        folder = Folder(join(base, self.path))
        if not folder.has("stimuli.csv"):
            raise InputError("no such recording (it has no stimuli.csv)", file=folder.url, key="path", value=self.path)
        separate = self.presentations == "separate"
        geometry, exif = self.image.geometry(), self.image.exif
        return read_folder(folder, self.recording_name(), geometry, self.exclude_units, separate, exif=exif)

    def describe(self, base: str) -> RecordingFacts:
        """Return what the driver needs to know; reads one picture, so that an unreadable archive is found early."""
        recording = self.open(base, Path())
        for stimuli in recording.sets.values():
            if stimuli.images is not None:
                stimuli.images(slice(0, 1))
        return recording.facts()


class Folder:
    """Reads the files of one local or remote folder; never writes into it, loads no pickle.

    `cleaned` tells whether a label that was read so far stands in its table with padding (see `sweeps.io.labels`).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, self.root = open_filesystem(url)
        self.cleaned = False

    def has(self, name: str) -> bool:
        """Whether the file or sub-folder exists; InputError when the place does not answer."""
        with reading(f"{self.url}/{name}"):
            return exists(self.fs, f"{self.root}/{name}", f"{self.url}/{name}")

    def bytes(self, name: str) -> bytes:
        """Contents of a file; InputError when it cannot be read."""
        with reading(f"{self.url}/{name}"):
            content = bytes(self.fs.cat_file(f"{self.root}/{name}"))
        refuse_pointer(content, f"{self.url}/{name}")
        return content

    def csv(self, name: str) -> pd.DataFrame:
        """A CSV file of one row or more, every column as text; labels and names of columns are cleaned."""
        file, content = f"{self.url}/{name}", self.bytes(name)
        refuse_wide(content, file)
        with reading(file, "is not a CSV table"):
            table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        if table.empty:
            raise InputError("has no rows", file=file)
        if not isinstance(table.index, pd.RangeIndex):  # pandas would take the first cells for row names
            raise InputError(f"its rows have more cells than its header ({len(table.columns)})", file=file)
        labelled, cleaned = clean_table(table, file)
        self.cleaned |= cleaned
        return labelled

    def array(self, name: str) -> np.ndarray:
        """A numeric .npy array."""
        return npy_array(self.bytes(name), f"{self.url}/{name}")

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The numeric arrays of an .npz file, as float64."""
        return npz_arrays(self.bytes(name), f"{self.url}/{name}")

    def pictures(self, exif: Exif = "obey") -> ImageFolder | None:
        """The folder's pictures, if it has any."""
        return ImageFolder(self.url, exif) if self.has("images.zip") or self.has("images") else None

    def digest(self, pictures: str) -> str:
        """Digest of the contents of every file that the format knows, given that of the pictures."""
        names = ["features.npz", "responses.npy", "stimuli.csv", "units.csv"]
        present = [name for name in names if self.has(name)]
        parts = (part for name in present for part in (name.encode(), self.bytes(name)))
        return digest_bytes([pictures.encode(), *parts])


def read_folder(
    folder: Folder,
    name: str,
    geometry: Geometry,
    exclude: tuple[int, ...],
    separate: bool = False,
    drawn: bool = False,
    exif: Exif = "obey",
) -> Recording:
    """A recording from an opened folder; what was `drawn` by this project is not searched for equal content."""
    pictures = folder.pictures(exif)
    stimuli, units = _stimuli(folder, pictures), _units(folder)
    responses = _responses(folder, len(stimuli), len(units))
    keep = _included(units, exclude, folder)
    responses = responses[:, keep]
    check_responses(responses, f"{folder.url}/responses.npy", keep)
    digest = pictures.digest() if pictures else ""
    fingerprint = folder.digest(digest)
    fit = stimuli["role"] == "fit"
    if not fit.any():
        raise InputError("no stimulus has the role `fit`", file=f"{folder.url}/stimuli.csv", key="role")
    features = _features(folder, len(stimuli), fit.to_numpy())
    shown = fit_stimuli(stimuli[fit], features, pictures, separate, drawn, f"{folder.url}/stimuli.csv")
    tables = {"fit": shown.table} | {
        role: stimuli[stimuli["role"] == role] for role in ROLES[1:] if (stimuli["role"] == role).any()
    }
    sets = {
        role: _stimulus_set(_of_role(table, folder), responses, role, geometry, pictures, digest)
        for role, table in tables.items()
    }
    sets["fit"] = replace(sets["fit"], responses=stacked(responses[fit.to_numpy()], shown.presentations))
    check_groups(sets["fit"], f"{folder.url}/responses.npy", keep)
    check_roles(sets, f"{folder.url}/stimuli.csv")
    changed = pictures.resolved(stimuli["file"][stimuli["role"] != "text"]) if pictures else Counter()
    identity = content_id([fingerprint, geometry.key() if pictures else "", sorted(exclude)])
    return Recording(
        name,
        refined(identity, applied({"labels": folder.cleaned, **shown.rules}) | versions(changed)),
        units["area"].to_numpy(dtype=str)[keep],
        sets,
        {key: array[shown.presentations.first] for key, array in features.items()},
        geometry if sets["fit"].images else None,
        notes={**shown.notes, **picture_notes(changed)},
        contents=shown.contents,
    )


def _stimuli(folder: Folder, pictures: ImageFolder | None) -> pd.DataFrame:
    table = folder.csv("stimuli.csv")
    file = f"{folder.url}/stimuli.csv"
    if "file" not in table:
        raise InputError(f"has no column `file`; it has {listed(table.columns)}", file=file)
    if "role" not in table:
        table["role"] = "fit"
    table["role"] = table["role"].replace("", "fit")
    if "group" not in table:
        table["group"] = _own_groups(table, pictures)
    for column in ("rotation_deg", "rotation", "position", "view"):
        if "transform" not in table and column in table:
            table["transform"] = table[column]
    if (table["group"] == "").any():
        line = int(np.flatnonzero(table["group"] == "")[0]) + 2
        raise InputError(f"is empty in line {line}: every stimulus needs a group", file=file, key="group")
    strange = sorted(set(table["role"]) - set(ROLES))
    if strange:
        raise InputError("unknown role", file=file, key="role", value=strange[0], allowed=ROLES)
    return table


def _own_groups(table: pd.DataFrame, pictures: ImageFolder | None) -> list[str]:
    """A group for every clip, else picture: the first of the names by which stimuli.csv calls it (path, base name)."""
    clips = table["clip"] if {"clip", "frame"} <= set(table) else [""] * len(table)
    first: dict[str, str] = {}
    groups = []
    for name, role, clip in zip(table["file"], table["role"], clips, strict=True):
        place = pictures.find(name) if pictures and name and role != "text" else name
        groups.append(clip or first.setdefault(place, name))
    return groups


def _of_role(table: pd.DataFrame, folder: Folder) -> pd.DataFrame:
    """The rows of a role: the frames of clips are numbers, and both columns are dropped where no row has a clip."""
    if "clip" not in table or "frame" not in table:
        return table
    if (table["clip"] == "").all():
        return table.drop(columns=["clip", "frame"])
    _check_clips(table, f"{folder.url}/stimuli.csv")
    return table.assign(frame=pd.to_numeric(table["frame"]).astype(int))


def _check_clips(table: pd.DataFrame, file: str) -> None:
    """Raise InputError unless every row is the next frame of a clip that lies in one piece."""
    clip, frame = table["clip"], pd.to_numeric(table["frame"], errors="coerce")
    run = (clip != clip.shift()).cumsum()
    again = run != run.groupby(clip).transform("first")
    wrong = (clip == "") | again | (frame != clip.groupby(run).cumcount())
    if wrong.any():
        row = int(table.index.to_numpy()[wrong.to_numpy()][0])
        problem = f"line {row + 2} is not the next frame of a clip: the columns `clip` and `frame` say that rows are"
        advice = "those of a clip lie together and count from 0 (columns that mean something else need other names)"
        raise InputError(f"{problem} frames, {advice}", file=file, key="frame", value=table["frame"].loc[row])


def _units(folder: Folder) -> pd.DataFrame:
    units = folder.csv("units.csv")
    file = f"{folder.url}/units.csv"
    if "area" not in units:
        raise InputError(f"has no column `area`; it has {listed(units.columns)}", file=file)
    if (units["area"] == "").any():
        line = int(np.flatnonzero(units["area"] == "")[0]) + 2
        raise InputError(f"is empty in line {line}: every unit needs an area", file=file, key="area")
    if "unit" in units:
        refuse_duplicates(units["unit"].to_numpy(dtype=str), file, "unit")
    return units


def _responses(folder: Folder, stimuli: int, units: int) -> np.ndarray:
    responses = folder.array("responses.npy")
    file = f"{folder.url}/responses.npy"
    if responses.ndim == 2:
        responses = responses[:, :, None]
    if responses.ndim != 3:
        raise InputError("must be (stimuli, units) or (stimuli, units, repeats)", file=file, value=responses.shape)
    if responses.shape[0] != stimuli:
        raise InputError(f"has {responses.shape[0]} stimuli, but stimuli.csv has {stimuli} rows", file=file)
    if responses.shape[1] != units:
        raise InputError(f"has {responses.shape[1]} units, but units.csv has {units} rows", file=file)
    with np.errstate(over="ignore"):  # beyond 32 bits is infinite, which is refused
        return responses.astype(np.float32)


def _included(units: pd.DataFrame, exclude: tuple[int, ...], folder: Folder) -> np.ndarray:
    beyond = [unit for unit in exclude if not 0 <= unit < len(units)]
    if beyond:
        raise InputError(
            f"must be rows of {folder.url}/units.csv, 0 to {len(units) - 1}",
            key="exclude_units",
            value=beyond[0],
        )
    included = np.setdiff1d(np.arange(len(units)), exclude)
    if not len(included):
        raise InputError(f"leaves none of the {len(units)} units", key="exclude_units")
    return included


def _stimulus_set(
    stimuli: pd.DataFrame,
    responses: np.ndarray,
    role: str,
    geometry: Geometry,
    pictures: ImageFolder | None,
    digest: str,
) -> StimulusSet:
    """Stimuli of a role, whose rows are numbered as in the whole table, with their own of the whole responses."""
    rows, table = stimuli.index.to_numpy(), stimuli.reset_index(drop=True)
    names = table["file"].tolist()
    key = content_id([digest, names, geometry.key()])
    if role == "text" or pictures is None:
        return StimulusSet(table, responses[rows], key)
    key = refined(key, versions(pictures.resolved(names)))
    return StimulusSet(table, responses[rows], key, lambda rows: pictures.load(names[rows], geometry))


def _features(folder: Folder, stimuli: int, fit: np.ndarray) -> dict[str, np.ndarray]:
    if not folder.has("features.npz"):
        return {}
    arrays: dict[str, Any] = {}
    for key, array in folder.arrays("features.npz").items():
        file = f"{folder.url}/features.npz"
        if array.ndim != 2 or len(array) != stimuli or not array.size:
            raise InputError(f"must be ({stimuli}, features)", file=file, key=key, value=array.shape)
        if not np.isfinite(array).all():
            raise InputError("holds NaN or infinite values", file=file, key=key)
        arrays[key] = array[fit]
    return arrays
