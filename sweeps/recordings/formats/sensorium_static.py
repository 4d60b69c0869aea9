"""The format `sensorium-static`: pictures of Sensorium 2022 and its like, one response per picture and unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.recordings.contents import Contents, joined_notes
from sweeps.recordings.formats.sensorium import (
    SensoriumSpec,
    Session,
    check_recorded,
    limit_repeats,
    open_session,
)
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.screens import Presentations, arrange, as_pixels, content_key, linked, show
from sweeps.recordings.readers.trial_tables import published_set, scale_responses, train_rows
from sweeps.recordings.recording import Recording, StimulusSet, check_groups, check_responses
from sweeps.recordings.split_rows import PUBLISHED
from sweeps.stimuli.picture_contents import content_of, sketch_of

DEFAULT_TIERS = ("train", "validation", "test")
IMAGE_IDS = ("frame_image_id", "colorframeprojector_image_id", "image_id")


class SensoriumStaticSpec(SensoriumSpec):
    """A session of pictures. `final_test` is left out unless it is named: its responses are withheld."""

    published: ClassVar[str] = "the tier test"

    format: Literal["sensorium-static"]

    def open(self, base: str, cache: Path) -> Recording:
        """Read a session: a row is a picture, its repeats are the trials that showed it, in order of presentation.

        Trials of one image id are repeats, and pictures of equal content are one group, whatever their ids and tiers.
        A picture's tier is that of its first file. Reads every file of the read trials once.
        """
        session = open_session(self, base, self.tiers or DEFAULT_TIERS)
        presentations, contents, notes = _pictures(session)
        used = limit_repeats(session, presentations)
        responses = _responses(session, presentations, used)
        file, units = session.tree.file("data/responses"), session.units
        check_responses(responses, file, units.rows)
        behaviour = _beside(session, "behavior", presentations, used, None)
        pupil = _beside(session, "pupil_center", presentations, used, 2)
        cleaned = {"labels": session.tree.cleaned or units.cleaned}
        identity = refined(content_id([session.tree.digest(), self.options()]), applied(cleaned))
        table, images = _table(session, presentations, contents.groups), _images(session, presentations)
        fit = StimulusSet(table, responses, content_id([identity, "pictures"]), images, behaviour, pupil)
        check_groups(fit, file, units.rows)
        return Recording(
            self.recording_name(),
            identity,
            units.areas,
            {"fit": fit},
            geometry=self.image.geometry(),
            coordinates=units.coordinates,
            notes=notes,
            contents=contents,
        )


def _pictures(session: Session) -> tuple[Presentations, Contents, dict[str, str]]:
    """Which trials show the same picture, what every picture shows and its group, and notes of groups joined."""
    stored, shown, brightness = [], [], session.brightness("images")
    for _, name, picture in session.arrays("images"):
        _grey_or_colour(picture, session.tree.file(name))
        pixels = brightness.pixels(np.moveaxis(picture, 0, -1), session.tree.file(name))
        stored.append(content_key(picture))
        shown.append((sketch_of(pixels), content_of(pixels)))
    brightness.check()
    ids = _image_ids(session)
    presentations = arrange(stored if ids is None else ids.tolist(), session.order)
    _check_same(session, presentations, stored)
    labels = session.trials.astype(str) if ids is None else ids
    own = labels[presentations.first]
    groups = labels[linked(np.array(stored), presentations.item)[presentations.first]]
    notes = joined_notes(own, groups)
    return presentations, Contents.of(groups, [shown[trial] for trial in presentations.first]), notes


def _image_ids(session: Session) -> np.ndarray | None:
    for key in IMAGE_IDS:
        ids = session.per_trial(key)
        if ids is not None:
            return ids
    return None


def _check_same(session: Session, presentations: Presentations, contents: list[str]) -> None:
    for trial, item in enumerate(presentations.item):
        if contents[trial] != contents[presentations.first[item]]:
            files = session.files("images")
            other = files[presentations.first[item]]
            problem = f"is another picture than {other}, though both trials have the same image id"
            raise InputError(problem, file=session.tree.file(files[trial]))


def _grey_or_colour(picture: np.ndarray, file: str) -> None:
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or not picture.size:
        raise InputError(f"must be (1 or 3, height, width), not {picture.shape}", file=file)


def _responses(session: Session, presentations: Presentations, used: np.ndarray) -> np.ndarray:
    """Responses (pictures, units, repeats)."""
    repeats = int(presentations.repeat[used].max()) + 1
    responses = session.blank(len(presentations.first), len(session.units.rows), repeats)
    silent = np.zeros(len(session.trials), dtype=bool)
    for trial, name, values in session.arrays("responses"):
        if values.shape != (session.count,):
            raise InputError(f"must be ({session.count},), not {values.shape}", file=session.tree.file(name))
        silent[trial] = not np.nan_to_num(values).any()
        if used[trial]:
            responses[presentations.item[trial], :, presentations.repeat[trial]] = values[session.units.rows]
    check_recorded(session, silent)
    if session.spec.normalise == "std":
        scale_responses(responses, train_rows(session.tiers[presentations.first]))
    return responses


def _beside(
    session: Session, kind: str, presentations: Presentations, used: np.ndarray, channels: int | None
) -> np.ndarray | None:
    """What was recorded beside (pictures, channels, repeats); None where nothing was."""
    if not session.has(kind):
        return None
    table = np.empty((0, 0, 0), np.float32)
    for trial, name, values in session.arrays(kind):
        channels = values.size if channels is None else channels
        if values.shape != (channels,):
            raise InputError(f"must be ({channels},), not {values.shape}", file=session.tree.file(name))
        if not table.size:
            table = session.blank(len(presentations.first), channels, int(presentations.repeat[used].max()) + 1)
        if used[trial]:
            table[presentations.item[trial], :, presentations.repeat[trial]] = values
    return table


def _files(session: Session, presentations: Presentations) -> list[str]:
    """The first file of every picture."""
    return [session.file("images", int(trial)) for trial in session.trials[presentations.first]]


def _table(session: Session, presentations: Presentations, groups: np.ndarray) -> pd.DataFrame:
    tiers = session.tiers[presentations.first]
    columns = {"file": _files(session, presentations), "group": groups, "role": "fit", "tier": tiers}
    return pd.DataFrame({**columns, PUBLISHED: published_set(tiers, "test")})


def _images(session: Session, presentations: Presentations) -> Callable[[slice], np.ndarray]:
    """Return what loads the pictures of a slice of rows, whose files alone are read."""
    files, tree = _files(session, presentations), session.tree
    white, geometry = session.spec.white, session.spec.image.geometry()

    def load(rows: slice) -> np.ndarray:
        """Load the pictures of a slice of rows, uint8 (rows, h, w, 3)."""
        names = files[rows]
        pixels = np.empty((len(names), *geometry.shape, 3), np.uint8)
        for index, (name, content) in enumerate(zip(names, tree.later(names), strict=True)):
            picture = as_pixels(np.moveaxis(tree.numbers(name, content), 0, -1), white, tree.file(name))
            pixels[index] = show(picture[None, :, :, 0] if picture.shape[-1] == 1 else picture[None], geometry)[0]
        return pixels

    return load
