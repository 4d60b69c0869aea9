"""The format `sensorium-static`: pictures of Sensorium 2022 and its like, one response per picture and unit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

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
from sweeps.recordings.readers.screens import Shown, arrange, as_pixels, content_key, linked, show
from sweeps.recordings.recording import Recording, RecordingFacts, StimulusSet, check_groups, check_responses

DEFAULT_TIERS = ("train", "validation", "test")
IMAGE_IDS = ("frame_image_id", "colorframeprojector_image_id", "image_id")


class SensoriumStaticSpec(SensoriumSpec):
    """A session of pictures. `final_test` is left out unless it is named: its responses are withheld."""

    format: Literal["sensorium-static"]


def open_sensorium_static(spec: SensoriumStaticSpec, base: str, cache: Path | None = None) -> Recording:
    """Read a session: a row is a picture, its repeats are the trials that showed it, in order of presentation.

    Trials of one image id are repeats, and pictures of equal content are one group, whatever their ids and tiers. A
    picture's tier is that of its first file.
    Reads every file of the read trials once; `cache` is not needed here.
    """
    session = open_session(spec, base, spec.tiers or DEFAULT_TIERS)
    shown, groups = _pictures(session)
    kept = limit_repeats(session, shown)
    responses = _responses(session, shown, kept)
    check_responses(responses, session.tree.file("data/responses"), session.units.rows)
    behaviour = _beside(session, "behavior", shown, kept, None)
    pupil = _beside(session, "pupil_center", shown, kept, 2)
    fit = _stimuli(session, shown, groups, responses)
    fit = replace(fit, behaviour=behaviour, pupil=pupil)
    check_groups(fit, session.tree.file("data/responses"), session.units.rows)
    identity = content_id([session.tree.digest(), spec.options()])
    held = session.units
    return Recording(
        spec.recording_name(),
        identity,
        held.areas,
        {"fit": replace(fit, key=content_id([identity, "pictures"]))},
        geometry=spec.image.geometry(),
        coordinates=held.coordinates,
    )


def describe_sensorium_static(spec: SensoriumStaticSpec, base: str) -> RecordingFacts:
    """What the driver needs to know."""
    return open_sensorium_static(spec, base).facts()


def _pictures(session: Session) -> tuple[Shown, np.ndarray]:
    """Which trials show the same picture, and the group of every picture."""
    contents = []
    for _, name, picture in session.arrays("images"):
        _grey_or_colour(picture, session.tree.file(name))
        as_pixels(picture, session.spec.white, session.tree.file(name))
        contents.append(content_key(picture))
    ids = _image_ids(session)
    shown = arrange(contents if ids is None else ids.tolist(), session.order)
    _check_same(session, shown, contents)
    labels = session.trials.astype(str) if ids is None else ids
    return shown, labels[linked(np.array(contents), shown.item)[shown.first]]


def _image_ids(session: Session) -> np.ndarray | None:
    for key in IMAGE_IDS:
        found = session.per_trial(key)
        if found is not None:
            return found
    return None


def _check_same(session: Session, shown: Shown, contents: list[str]) -> None:
    for trial, item in enumerate(shown.item):
        if contents[trial] != contents[shown.first[item]]:
            files = session.files("images")
            problem = f"is another picture than {files[shown.first[item]]}, though both trials have the same image id"
            raise InputError(problem, file=session.tree.file(files[trial]))


def _grey_or_colour(picture: np.ndarray, file: str) -> None:
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or not picture.size:
        raise InputError(f"must be (1 or 3, height, width), not {picture.shape}", file=file)


def _responses(session: Session, shown: Shown, kept: np.ndarray) -> np.ndarray:
    """Responses (pictures, units, repeats)."""
    repeats = int(shown.repeat[kept].max()) + 1
    responses = session.blank(len(shown.first), len(session.units.rows), repeats)
    silent = np.zeros(len(session.trials), dtype=bool)
    for trial, name, found in session.arrays("responses"):
        if found.shape != (session.count,):
            raise InputError(f"must be ({session.count},), not {found.shape}", file=session.tree.file(name))
        silent[trial] = not np.nan_to_num(found).any()
        if kept[trial]:
            responses[shown.item[trial], :, shown.repeat[trial]] = found[session.units.rows]
    check_recorded(session, silent)
    if session.spec.normalise == "std":
        scale_responses(responses, train_rows(session.tiers[shown.first]))
    return responses


def _beside(session: Session, kind: str, shown: Shown, kept: np.ndarray, channels: int | None) -> np.ndarray | None:
    """What was recorded beside (pictures, channels, repeats); None where nothing was."""
    if not session.has(kind):
        return None
    table = np.empty((0, 0, 0), np.float32)
    for trial, name, found in session.arrays(kind):
        channels = found.size if channels is None else channels
        if found.shape != (channels,):
            raise InputError(f"must be ({channels},), not {found.shape}", file=session.tree.file(name))
        if not table.size:
            table = session.blank(len(shown.first), channels, int(shown.repeat[kept].max()) + 1)
        if kept[trial]:
            table[shown.item[trial], :, shown.repeat[trial]] = found
    return table


def _stimuli(session: Session, shown: Shown, groups: np.ndarray, responses: np.ndarray) -> StimulusSet:
    files = [session.file("images", int(trial)) for trial in session.trials[shown.first]]
    table = pd.DataFrame({"file": files, "group": groups, "role": "fit", "tier": session.tiers[shown.first]})
    tree, white, geometry = session.tree, session.spec.white, session.spec.image.geometry()

    def images(rows: slice) -> np.ndarray:
        """Pictures of a slice of rows, whose files alone are read."""
        names = files[rows]
        shown = np.empty((len(names), *geometry.shape, 3), np.uint8)
        for index, (name, content) in enumerate(zip(names, tree.later(names), strict=True)):
            picture = as_pixels(np.moveaxis(tree.numbers(name, content), 0, -1), white, tree.file(name))
            shown[index] = show(picture[None, :, :, 0] if picture.shape[-1] == 1 else picture[None], geometry)[0]
        return shown

    return StimulusSet(table, responses, "", images)
