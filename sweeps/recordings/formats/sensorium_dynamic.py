"""The format `sensorium-dynamic`: videos of Sensorium 2023 and its like, one response per frame and unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.recordings.contents import Contents, clip_keys, joined_notes
from sweeps.recordings.formats.sensorium import (
    SensoriumSpec,
    Session,
    check_recorded,
    limit_repeats,
    open_session,
)
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.clips import ClipRows
from sweeps.recordings.readers.screens import (
    Presentations,
    arrange,
    as_pixels,
    content_key,
    linked,
    near_copies,
    show,
    signature,
)
from sweeps.recordings.readers.trial_tables import published_set, scale_responses, train_rows
from sweeps.recordings.recording import Recording, StimulusSet, check_groups, check_responses
from sweeps.recordings.split_rows import PUBLISHED

DEFAULT_TIERS = ("train", "oracle", "validation")
CONDITION = "meta/trials/condition_hash.npy"


class SensoriumDynamicSpec(SensoriumSpec):
    """A session of videos. The test tiers are left out unless they are named: their responses are withheld.

    `skip`: the responses to the first so many frames of every clip count as missing. `frames`: no more than so many
    frames of a clip are read. `match`: which trials are repeats of one clip: those of equal `content`, of the same
    `condition` (meta/trials/condition_hash.npy), or `near` copies, see `near_copies`.
    """

    published: ClassVar[str] = "the tier oracle"

    format: Literal["sensorium-dynamic"]
    skip: int = Field(50, ge=0)
    frames: int | None = Field(None, ge=1)
    match: Literal["content", "condition", "near"] = "content"
    frame_rate: float = Field(30.0, gt=0)

    def open(self, base: str, cache: Path) -> Recording:
        """Read a session: a row is a frame of a clip, the trials that showed the clip are its repeats.

        Arrays are padded with NaN past a trial's end: a clip ends before the first NaN of its video's first pixel.
        Clips of equal or nearly equal content are one group, whatever their tiers; a clip's tier is that of its first
        file. Reads every file of the read trials once.
        """
        session = open_session(self, base, self.tiers or DEFAULT_TIERS)
        clips = _clips(session, self)
        fit, identity = _stimuli(session, self, clips)
        check_groups(fit, session.tree.file("data/responses"), session.units.rows)
        return Recording(
            self.recording_name(),
            identity,
            session.units.areas,
            {"fit": fit},
            geometry=self.image.geometry(),
            coordinates=session.units.coordinates,
            frame_rate=self.frame_rate,
            notes=clips.notes,
            contents=clips.contents,
        )


@dataclass(frozen=True)
class _Clips:
    """The clips of a session: which trials showed which, the `contents` and rows of the clips, and notes.

    `used` (trials,): within the first `repeats`; `stored` (trials,): frames in the file, padding included.
    """

    presentations: Presentations
    contents: Contents
    rows: ClipRows
    used: np.ndarray
    stored: np.ndarray
    notes: dict[str, str]

    @property
    def repeats(self) -> int:
        """Most repeats of a clip that are used."""
        return int(self.presentations.repeat[self.used].max()) + 1

    def put(self, table: np.ndarray, trial: int, values: np.ndarray) -> None:
        """Write a trial (channels, frames) into its clip's rows, unless unused; what is past the clip's end is cut."""
        if self.used[trial]:
            place = self.rows.of_clip(int(self.presentations.item[trial]))
            length = min(place.stop - place.start, values.shape[1])
            rows = slice(place.start, place.start + length)
            table[rows, :, self.presentations.repeat[trial]] = values[:, :length].T


def _stimuli(session: Session, spec: SensoriumDynamicSpec, clips: _Clips) -> tuple[StimulusSet, str]:
    """Return the frames with all that was recorded, and the identity of the recording."""
    rows, tiers = clips.rows, session.tiers[clips.presentations.first]
    responses = _responses(session, clips)
    if spec.normalise == "std":
        scale_responses(responses, train_rows(rows.spread(tiers)))
    responses[rows.frame < spec.skip] = np.nan
    check_responses(responses, session.tree.file("data/responses"), session.units.rows)
    behaviour, pupil = (_beside(session, kind, clips) for kind in ("behavior", "pupil_center"))
    cleaned = {"labels": session.tree.cleaned or session.units.cleaned}
    identity = refined(content_id([session.tree.digest(), spec.options()]), applied(cleaned))
    names = [session.file("videos", int(trial)) for trial in session.trials[clips.presentations.first]]
    table, images = rows.table(names, clips.contents.groups, tiers), _images(session, rows, names)
    table[PUBLISHED] = published_set(rows.spread(tiers), "oracle")
    return StimulusSet(table, responses, content_id([identity, "videos"]), images, behaviour, pupil), identity


def _clips(session: Session, spec: SensoriumDynamicSpec) -> _Clips:
    """Read every video: which trials show the same clip, and how long the clips are."""
    lengths, stored, contents, signatures, keys = [], [], [], [], []
    brightness = session.brightness("videos")
    for _, name, video in session.arrays("videos"):
        length = _true_length(video, session.tree.file(name))
        frames = video[:, :, :length]
        pixels = brightness.pixels(np.moveaxis(frames, -1, 0), session.tree.file(name))
        lengths.append(length if spec.frames is None else min(length, spec.frames))
        stored.append(video.shape[2])
        contents.append(content_key(frames))
        signatures.append(signature(pixels))
        keys.append(clip_keys(pixels))
    brightness.check()
    near = near_copies(signatures)
    presentations = arrange(_keys(session, spec, contents, near), session.order)
    first = presentations.first
    groups = session.trials[linked(near, presentations.item)[first]].astype(str)
    own = session.trials[first].astype(str)
    notes = joined_notes(own, groups)
    shown = Contents.of(groups, [keys[trial] for trial in first], [signatures[trial] for trial in first])
    rows, used = ClipRows.of(np.array(lengths)[first]), limit_repeats(session, presentations)
    return _Clips(presentations, shown, rows, used, np.array(stored), notes)


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


def _responses(session: Session, clips: _Clips) -> np.ndarray:
    """Responses (frames of all clips, units, repeats)."""
    responses = session.blank(len(clips.rows), len(session.units.rows), clips.repeats)
    silent = np.zeros(len(session.trials), dtype=bool)
    for trial, name, values in session.arrays("responses"):
        _must_be(values, (session.count, int(clips.stored[trial])), session.tree.file(name))
        silent[trial] = not np.nan_to_num(values).any()
        clips.put(responses, trial, values[session.units.rows])
    check_recorded(session, silent)
    return responses


def _beside(session: Session, kind: str, clips: _Clips) -> np.ndarray | None:
    """What was recorded beside (rows, channels, repeats); None where nothing was."""
    if not session.has(kind):
        return None
    table: np.ndarray | None = None
    for trial, name, values in session.arrays(kind):
        if table is None:
            channels = 2 if kind == "pupil_center" or not values.ndim else len(values)
            table = session.blank(len(clips.rows), channels, clips.repeats)
        _must_be(values, (table.shape[1], int(clips.stored[trial])), session.tree.file(name))
        clips.put(table, trial, values)
    return table


def _must_be(values: np.ndarray, shape: tuple[int, int], file: str) -> None:
    if values.shape != shape:
        raise InputError(f"must be {shape}, as many frames as the video has, not {values.shape}", file=file)


def _images(session: Session, rows: ClipRows, names: list[str]) -> Callable[[slice], np.ndarray]:
    tree, white, geometry = session.tree, session.spec.white, session.spec.image.geometry()

    def load(clip: int, frames: slice) -> np.ndarray:
        [content] = tree.later([names[clip]])
        video = tree.numbers(names[clip], content)[:, :, frames]
        return show(as_pixels(np.moveaxis(video, -1, 0), white, tree.file(names[clip])), geometry)

    return rows.images(geometry.shape, load)
