"""The format `sensorium-dynamic`: videos of Sensorium 2023 and its like, one response per frame and unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.recordings.formats.sensorium import (
    SensoriumSpec,
    Session,
    check_recorded,
    limit_repeats,
    open_session,
    scale_responses,
    train_rows,
)
from sweeps.recordings.readers.clips import ClipRows
from sweeps.recordings.readers.screens import (
    Shown,
    arrange,
    as_pixels,
    content_key,
    linked,
    near_copies,
    show,
    signature,
)
from sweeps.recordings.recording import Recording, RecordingFacts, StimulusSet, check_groups, check_responses

DEFAULT_TIERS = ("train", "oracle", "validation")
CONDITION = "meta/trials/condition_hash.npy"


class SensoriumDynamicSpec(SensoriumSpec):
    """A session of videos. The test tiers are left out unless they are named: their responses are withheld.

    `skip`: the responses to the first so many frames of every clip count as missing. `frames`: no more than so many
    frames of a clip are read. `match`: which trials are repeats of one clip: those of equal `content`, of the same
    `condition` (meta/trials/condition_hash.npy), or `near` copies, see `near_copies`.
    """

    format: Literal["sensorium-dynamic"]
    skip: int = Field(50, ge=0)
    frames: int | None = Field(None, ge=1)
    match: Literal["content", "condition", "near"] = "content"
    frame_rate: float = Field(30.0, gt=0)


def open_sensorium_dynamic(spec: SensoriumDynamicSpec, base: str, cache: Path | None = None) -> Recording:
    """Read a session: a row is a frame of a clip, the trials that showed the clip are its repeats.

    Arrays are padded with NaN past a trial's end: a clip ends before the first NaN of its video's first pixel. Clips
    of equal or nearly equal content are one group, whatever their tiers; a clip's tier is that of its first file.
    Reads every file of the read trials once; `cache` is not needed here.
    """
    session = open_session(spec, base, spec.tiers or DEFAULT_TIERS)
    shown, groups, rows, depth = _clips(session, spec)
    kept = limit_repeats(session, shown)
    responses = _responses(session, rows, shown, kept, depth)
    if spec.normalise == "std":
        scale_responses(responses, train_rows(rows.spread(session.tiers[shown.first])))
    responses[rows.frame < spec.skip] = np.nan
    check_responses(responses, session.tree.file("data/responses"), session.units.rows)
    behaviour, pupil = (_beside(session, kind, rows, shown, kept, depth) for kind in ("behavior", "pupil_center"))
    identity = content_id([session.tree.digest(), spec.options()])
    names = [session.file("videos", int(trial)) for trial in session.trials[shown.first]]
    table = rows.table(names, groups, session.tiers[shown.first])
    key = content_id([identity, "videos"])
    fit = StimulusSet(table, responses, key, _images(session, rows, names), behaviour, pupil)
    check_groups(fit, session.tree.file("data/responses"), session.units.rows)
    units = session.units
    return Recording(
        spec.recording_name(),
        identity,
        units.areas,
        {"fit": fit},
        geometry=spec.image.geometry(),
        coordinates=units.coordinates,
        frame_rate=spec.frame_rate,
    )


def describe_sensorium_dynamic(spec: SensoriumDynamicSpec, base: str) -> RecordingFacts:
    """What the driver needs to know."""
    return open_sensorium_dynamic(spec, base).facts()


def _clips(session: Session, spec: SensoriumDynamicSpec) -> tuple[Shown, np.ndarray, ClipRows, np.ndarray]:
    """Which trials show the same clip, the group of every clip, the rows, and the stored frames of every trial."""
    lengths, stored, contents, signatures = [], [], [], []
    for _, name, video in session.arrays("videos"):
        length = _true_length(video, session.tree.file(name))
        shown = video[:, :, :length]
        pixels = as_pixels(np.moveaxis(shown, -1, 0), spec.white, session.tree.file(name))
        lengths.append(length if spec.frames is None else min(length, spec.frames))
        stored.append(video.shape[2])
        contents.append(content_key(shown))
        signatures.append(signature(pixels))
    near = near_copies(signatures)
    found = arrange(_keys(session, spec, contents, near), session.order)
    groups = session.trials[linked(near, found.item)[found.first]].astype(str)
    return found, groups, ClipRows.of(np.array(lengths)[found.first]), np.array(stored)


def _true_length(video: np.ndarray, file: str) -> int:
    """Frames before the padding: the first NaN of the first pixel."""
    if video.ndim != 3:
        raise InputError(f"must be (height, width, frames), not {video.shape}", file=file)
    padding = np.isnan(video[0, 0]) if video.size else np.ones(1, dtype=bool)
    length = int(padding.argmax()) if padding.any() else video.shape[2]
    if not length:
        raise InputError("has no frame that is not NaN", file=file)
    return length


def _keys(session: Session, spec: SensoriumDynamicSpec, contents: list[str], near: np.ndarray) -> list[str]:
    """A key per trial that is equal for repeats of one clip."""
    if spec.match == "near":
        return [str(label) for label in near]
    if spec.match == "content":
        return contents
    conditions = session.per_trial("condition_hash")
    if conditions is None:
        raise InputError("missing file: `match: condition` reads it", file=session.tree.file(CONDITION))
    return [str(condition) for condition in conditions]


def _responses(session: Session, rows: ClipRows, shown: Shown, kept: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Responses (frames of all clips, units, repeats)."""
    responses = session.blank(len(rows), len(session.units.rows), int(shown.repeat[kept].max()) + 1)
    silent = np.zeros(len(session.trials), dtype=bool)
    for trial, name, found in session.arrays("responses"):
        _must_be(found, (session.count, int(depth[trial])), session.tree.file(name))
        silent[trial] = not np.nan_to_num(found).any()
        if kept[trial]:
            _put(responses, rows, shown, trial, found[session.units.rows])
    check_recorded(session, silent)
    return responses


def _beside(
    session: Session, kind: str, rows: ClipRows, shown: Shown, kept: np.ndarray, depth: np.ndarray
) -> np.ndarray | None:
    """What was recorded beside (rows, channels, repeats); None where nothing was."""
    if not session.has(kind):
        return None
    table: np.ndarray | None = None
    for trial, name, found in session.arrays(kind):
        if table is None:
            channels = 2 if kind == "pupil_center" or not found.ndim else len(found)
            table = session.blank(len(rows), channels, int(shown.repeat[kept].max()) + 1)
        _must_be(found, (table.shape[1], int(depth[trial])), session.tree.file(name))
        if kept[trial]:
            _put(table, rows, shown, trial, found)
    return table


def _put(table: np.ndarray, rows: ClipRows, shown: Shown, trial: int, found: np.ndarray) -> None:
    """Write one trial (channels, frames) into the rows of its clip; what lies past the clip's end is left out."""
    place = rows.of_clip(int(shown.item[trial]))
    length = min(place.stop - place.start, found.shape[1])
    table[place.start : place.start + length, :, shown.repeat[trial]] = found[:, :length].T


def _must_be(found: np.ndarray, shape: tuple[int, int], file: str) -> None:
    if found.shape != shape:
        raise InputError(f"must be {shape}, as many frames as the video has, not {found.shape}", file=file)


def _images(session: Session, rows: ClipRows, names: list[str]) -> Callable[[slice], np.ndarray]:
    tree, white, geometry = session.tree, session.spec.white, session.spec.image.geometry()

    def load(clip: int, frames: slice) -> np.ndarray:
        [content] = tree.later([names[clip]])
        video = tree.numbers(names[clip], content)[:, :, frames]
        return show(as_pixels(np.moveaxis(video, -1, 0), white, tree.file(names[clip])), geometry)

    return rows.images(geometry.shape, load)
