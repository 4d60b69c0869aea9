"""Probes in a folder: `probe.yaml`, `images.zip` or `images/`, and `stimuli.csv` with a row per picture."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.inputs.geometry import Geometry
from sweeps.errors import InputError, listed
from sweeps.io.filesystem import join, read_bytes
from sweeps.io.labels import clean_table
from sweeps.io.safe_yaml import read_yaml
from sweeps.io.untrusted import refuse_wide
from sweeps.probes.probe import Probe, content_hash
from sweeps.stimuli.images import ImageFolder
from sweeps.stimuli.picture_file import RULES

VERSION = 1  # raised when the same folder gives other labels or another order
LABELS = 1  # raised when labels are cleaned otherwise; part of the identity of those folders whose labels were padded
STORED = ("objects", "captions")
"""Kinds of probes that a folder can hold."""

TRANSFORMS = ("rotation_deg", "transform", "position", "view")


@dataclass(frozen=True)
class FolderImages:
    """The pictures that a folder probe shows, in order."""

    folder: ImageFolder
    files: tuple[str, ...]

    def images(self, geometry: Geometry) -> np.ndarray:
        """Read from the folder, at the size in which they are shown."""
        return self.folder.load(self.files, geometry)


def read_folder(kind: str, url: str, every: int = 1) -> Probe:
    """Open a probe folder.

    `stimuli.csv` has a column `file` and, for captions, `caption`; for objects, `object` and the first of
    rotation_deg, transform, position, view. Transforms that are words are numbered in sorted order.
    `every` keeps every k-th transform of each object, counted in increasing order from the first. Every
    picture that is left is shown to every backbone, and decoding it costs time: all 1440 views of COIL-20 cost
    eight times the 180 of the rendered probe, `every: 8` as much.

    Pictures are read as `PictureFile` has it: turned as their files say, in 8 bits.

    Every byte of the folder is read once for the fingerprint. The pictures must be exactly those that
    `stimuli.csv` lists, each once.
    """
    url = url.rstrip("/")
    contents = {name: read_bytes(join(url, name)) for name in ("probe.yaml", "stimuli.csv")}
    name = _name(contents["probe.yaml"], join(url, "probe.yaml"))
    stimuli = _stimuli(contents["stimuli.csv"], join(url, "stimuli.csv"))
    table = _objects(stimuli, every) if kind == "objects" else _columns(stimuli, ["caption"])
    folder = ImageFolder(url)
    _check_pictures(folder, stimuli["file"].tolist(), stimuli.attrs["file"])
    files = tuple(stimuli["file"].loc[table.index])
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    parts = {"images": folder.digest(), "files": digests}
    changed = {rule: RULES[rule] for rule in folder.resolved(files)}
    rules: dict[str, Any] = {"resolved": changed} if changed else {}  # the fingerprints of all others stay
    rules |= {"labels": LABELS} if stimuli.attrs["cleaned"] else {}
    fingerprint = content_hash(kind=kind, version=VERSION, every=every, **parts, **rules)
    return Probe(name, kind, table.reset_index(drop=True), fingerprint, FolderImages(folder, files))


def _name(content: bytes, file: str) -> str:
    settings = read_yaml(content, file)
    if not isinstance(settings, dict):
        raise InputError("must hold keys and values, such as `name: coil20`", file=file)
    name = settings.get("name")
    if not isinstance(name, str) or not name:
        raise InputError("must be a name", file=file, key="name", value=name)
    return name


def _stimuli(content: bytes, file: str) -> pd.DataFrame:
    """All columns as text, labels cleaned; `attrs` keep the path of the file, and whether a label was padded."""
    refuse_wide(content, file)
    try:
        stimuli = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"not a readable CSV table: {error}", file=file) from error
    stimuli, cleaned = clean_table(stimuli, file)
    stimuli.attrs |= {"file": file, "cleaned": cleaned}
    if stimuli.empty:
        raise InputError("lists no pictures", file=file)
    files = _columns(stimuli, ["file"])["file"]
    if files.duplicated().any():
        raise InputError("lists a picture twice", file=file, key="file", value=files[files.duplicated()].iloc[0])
    return stimuli


def _columns(stimuli: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Some columns, none of which may be missing or have an empty cell."""
    file = stimuli.attrs["file"]
    for name in names:
        if name not in stimuli.columns:
            raise InputError(f"has no column {name!r}; it has {listed(stimuli.columns)}", file=file)
        empty = np.flatnonzero(stimuli[name].str.strip() == "")
        if len(empty):
            raise InputError(f"is empty in line {empty[0] + 2}", file=file, key=name)
    return stimuli[list(names)].copy()


def _objects(stimuli: pd.DataFrame, every: int) -> pd.DataFrame:
    column = next((name for name in TRANSFORMS if name in stimuli.columns), None)
    if column is None:
        raise InputError(f"has no column for the transform: one of {', '.join(TRANSFORMS)}", file=stimuli.attrs["file"])
    table = _columns(stimuli, ["object", column])
    table = pd.DataFrame({"object": table["object"], "transform": _numbers(table[column], stimuli.attrs["file"])})
    rank = table.groupby("object")["transform"].rank(method="dense").astype(int) - 1
    table = table[rank % every == 0]
    if table["object"].nunique() < 2 or table.groupby("object")["transform"].nunique().min() < 2:
        problem = "needs two objects or more, each with two transforms or more"
        raise InputError(problem + (f", after every: {every}" if every > 1 else ""), file=stimuli.attrs["file"])
    return table


def _numbers(column: pd.Series[str], file: str) -> np.ndarray:
    """Transforms as numbers; words are numbered in sorted order, numbers mixed with words are refused."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
    finite = np.isfinite(numbers)
    if not finite.any():
        return np.unique(column.to_numpy(dtype=str), return_inverse=True)[1].astype(float)
    if not finite.all():
        value = column.iloc[int(np.flatnonzero(~finite)[0])]
        raise InputError("must be a finite number, as in other lines", file=file, key=str(column.name), value=value)
    return numbers


def _check_pictures(folder: ImageFolder, files: Sequence[str], table: str) -> None:
    listed = {folder.find(file) for file in files}
    unlisted = [name for name in folder.names if name not in listed]
    if len(listed) < len(files) or unlisted:
        example = f", such as {unlisted[0]!r}" if unlisted else ""
        problem = f"lists {len(listed)} pictures of {len(files)} lines, but there are {len(folder.names)}{example}"
        raise InputError(problem, file=table)
