"""The format `experanto`: devices that share one clock in seconds; clips or pictures on a screen.

    screen/{data/00000.npy|.png, meta/00000.yml, timestamps.npy}   one file per trial; the time of every frame
    responses/, eye_tracker/, treadmill/                           data.npy or data.mem, meta.yml

What a trial is stands in its own file: `modality` (video, image, blank), `tier`, `first_frame_idx` (its first frame
among all timestamps), `num_frames`. `screen/combined_meta.json` takes the place of these files where there are none.
With `use_stimuli_names: true` in screen/meta.yml, its `stimulus_name` is the name of its file in data/, not its number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.recordings.contents import Contents, joined_notes
from sweeps.recordings.formats.experanto_screen import (
    ExperantoOptions,
    Trial,
    read_clock,
    read_images,
    read_screen,
    read_trials,
    shows_others,
)
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.clips import ClipRows
from sweeps.recordings.readers.file_tree import Tree, is_below
from sweeps.recordings.readers.screens import Presentations, picture_notes, versions
from sweeps.recordings.readers.sequences import Sequence, read_layout, read_sequence
from sweeps.recordings.readers.trial_tables import blank, published_set, scale_responses, train_rows
from sweeps.recordings.recording import Recording, StimulusSet, check_groups, check_responses
from sweeps.recordings.split_rows import PUBLISHED
from sweeps.recordings.units import Units, check_coordinates, check_length, choose_units

NAMES_VERSION = 1
"""Version of the rule by which trials show named stimuli, part of the identity of sessions that it changed."""


@dataclass(frozen=True)
class ScreenSession:
    """An opened folder: its trials, which of them show the same, the rows of what they show, and their times.

    `contents` of the clips or pictures, `used` (trials,): within the first `repeats`; `times`: seconds of every frame
    of every trial; `changed`: how many trials' pictures each of the rules of picture files changes.
    """

    tree: Tree
    spec: ExperantoOptions
    trials: list[Trial]
    presentations: Presentations
    contents: Contents
    rows: ClipRows
    used: np.ndarray
    times: list[np.ndarray]
    changed: Mapping[str, int]

    @property
    def first(self) -> list[Trial]:
        """The first trial that showed each clip or picture."""
        return [self.trials[trial] for trial in self.presentations.first]

    @property
    def notes(self) -> dict[str, str]:
        """How many clips or pictures are in the group of another."""
        own = np.array([trial.key for trial in self.first])
        return joined_notes(own, self.contents.groups)


class ExperantoSpec(ExperantoOptions):
    """An Experanto folder."""

    published: ClassVar[str] = "the tier oracle, or test where there is no oracle"

    def open(self, base: str, cache: Path) -> Recording:
        """Read a session: a row is a frame of a clip, or a picture; trials that showed the same are its repeats.

        Blank trials and those with `valid_trial: false` are left out. Reads every file of the read trials and the
        devices' samples once.
        """
        session = _session(self, base)
        tree, units = session.tree, _units(session)
        responses = _responses(session, units)
        behaviour, pupil = _behaviour(session)
        rules = applied({"labels": tree.cleaned or units.cleaned}) | versions(session.changed)
        rules |= {"stimulus_names": NAMES_VERSION} if shows_others(session.trials) else {}
        identity = refined(content_id([tree.digest(), self.options()]), rules)
        images = read_images(tree, self, session.rows, [trial.file for trial in session.first])
        fit = StimulusSet(_table(session), responses, content_id([identity, "screen"]), images, behaviour, pupil)
        check_groups(fit, tree.file("responses"), units.rows)
        return Recording(
            self.recording_name(),
            identity,
            units.areas,
            {"fit": fit},
            geometry=self.image.geometry(),
            coordinates=units.coordinates,
            frame_rate=_rate(session) if self.modality == "video" else None,
            notes={**session.notes, **picture_notes(session.changed)},
            contents=session.contents,
        )


def _session(spec: ExperantoOptions, base: str) -> ScreenSession:
    tree = Tree(join(base, spec.path))
    trials, clock = read_trials(tree, spec), read_clock(tree)
    lengths, presentations, contents, changed = read_screen(tree, spec, trials)
    rows = ClipRows.of(lengths[presentations.first])
    used = presentations.repeat < (spec.repeats or len(trials))
    times = [
        _times(tree, trial, clock, int(rows.lengths[item]))
        for trial, item in zip(trials, presentations.item, strict=True)
    ]
    return ScreenSession(tree, spec, trials, presentations, contents, rows, used, times, changed)


def _times(tree: Tree, trial: Trial, clock: np.ndarray, most: int) -> np.ndarray:
    """Seconds of a trial's frames, no more than its clip has rows."""
    length = min(trial.frames, most)
    if trial.first + length > len(clock):
        problem = f"has {len(clock)} frames, trial {trial.key} shows frames {trial.first} to"
        raise InputError(f"{problem} {trial.first + length - 1}", file=tree.file("screen/timestamps.npy"))
    return clock[trial.first : trial.first + length]


def _table(session: ScreenSession) -> pd.DataFrame:
    tiers = np.array([trial.tier for trial in session.first])
    names = [trial.file for trial in session.first]
    table = session.rows.table(names, session.contents.groups, tiers)
    table[PUBLISHED] = published_set(session.rows.spread(tiers), "oracle" if "oracle" in tiers else "test")
    return table if session.spec.modality == "video" else table.drop(columns=["clip", "frame"])


# -- the devices ------------------------------------------------------------------------------------


def _units(session: ScreenSession) -> Units:
    """The units; `neuron_properties` in the responses' meta.yml may name a file of areas: a choice of ours."""
    tree = session.tree
    meta = tree.mapping("responses/meta.yml")
    count = read_layout(tree, "responses", meta).shape[1]
    places = _properties(tree, meta)
    labels = tree.labels(places["area"]) if "area" in places and session.spec.area is None else None
    coordinates = tree.array(places["cell_motor_coordinates"]) if "cell_motor_coordinates" in places else None
    check_length(labels, count, tree.file(places.get("area", "responses")))
    if coordinates is not None:
        check_coordinates(coordinates, count, tree.file(places["cell_motor_coordinates"]))
    return choose_units(session.spec, count, labels, coordinates, tree.file("responses/meta.yml"))


def _properties(tree: Tree, meta: dict[str, Any]) -> dict[str, str]:
    """Files of the units' areas and coordinates, where `neuron_properties` names them: all below responses/."""
    properties, file = meta.get("neuron_properties"), tree.file("responses/meta.yml")
    if properties is None:
        return {}
    if not isinstance(properties, dict):
        raise InputError("must map properties to files", file=file, key="neuron_properties", value=properties)
    places = {key: properties[key] for key in ("area", "cell_motor_coordinates") if key in properties}
    for key, place in places.items():
        if not is_below(place):
            problem = "must be a file below responses/"
            raise InputError(problem, file=file, key=f"neuron_properties.{key}", value=place)
    return {key: f"responses/{place}" for key, place in places.items()}


def _responses(session: ScreenSession, units: Units) -> np.ndarray:
    """Responses (rows, units, repeats), scaled, missing in the frames that are skipped."""
    spec, rows = session.spec, session.rows
    responses = _sampled(session, read_sequence(session.tree, "responses", units.rows))
    if spec.normalise == "std":
        tiers = np.array([trial.tier for trial in session.first])
        scale_responses(responses, train_rows(rows.spread(tiers)))
    if spec.modality == "video":
        responses[rows.frame < spec.skip] = np.nan
    check_responses(responses, session.tree.file("responses"), units.rows)
    return responses


def _sampled(session: ScreenSession, device: Sequence) -> np.ndarray:
    """Values of a device (rows, signals, repeats)."""
    spec, rows, presentations = session.spec, session.rows, session.presentations
    shape = (len(rows), device.values.shape[1], int(presentations.repeat[session.used].max()) + 1)
    table = blank(*shape, spec.memory_gb, session.tree.url)
    for trial in np.flatnonzero(session.used):
        start, times = int(rows.start[presentations.item[trial]]), session.times[trial]
        values = _taken(device, times + spec.delay, spec)
        table[start : start + len(times), :, presentations.repeat[trial]] = values
    return table


def _taken(device: Sequence, times: np.ndarray, spec: ExperantoOptions) -> np.ndarray:
    """Values at the times of frames, or means over the window after a picture's."""
    if spec.modality == "video":
        return device.at(times)
    steps = np.arange(0.0, spec.window, 1.0 / device.rate)
    return np.stack([device.at(start + steps).mean(axis=0) for start in times])


def _behaviour(session: ScreenSession) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Behaviour (rows, channels, repeats) and pupil (rows, 2, repeats), None where there is no such device."""
    tree, centre = session.tree, session.spec.pupil
    present = [device for device in ("treadmill", "eye_tracker") if tree.has(device)]
    signals_of = {device: _sampled(session, read_sequence(tree, device)) for device in present}
    eye, pupil = signals_of.get("eye_tracker"), None
    if centre is not None:
        signals = 0 if eye is None else eye.shape[1]
        if eye is None or not all(0 <= signal < signals for signal in centre):
            problem = f"must be two of the {signals} signals of the eye tracker, counted from 0"
            raise InputError(problem, file=tree.file("eye_tracker"), key="pupil", value=centre)
        pupil = eye[:, list(centre)]
        signals_of["eye_tracker"] = np.delete(eye, centre, axis=1)
    rest = [values for values in signals_of.values() if values.shape[1]]
    return (np.concatenate(rest, axis=1) if rest else None), pupil


def _rate(session: ScreenSession) -> float | None:
    """Frames a second: one over the median time between frames."""
    steps = np.concatenate([np.diff(times) for times in session.times])
    if not len(steps):
        return None
    with np.errstate(divide="ignore"):
        rate = float(np.round(1.0 / np.median(steps), 3))
    if not 0 < rate < np.inf:
        problem = f"must be seconds: frames follow each other after {np.median(steps):g}"
        raise InputError(problem, file=session.tree.file("screen/timestamps.npy"))
    return rate
