"""The format `experanto`: devices that share one clock in seconds; clips or pictures on a screen.

    screen/{data/00000.npy|.png, meta/00000.yml, timestamps.npy}   one file per trial; the time of every frame
    responses/, eye_tracker/, treadmill/                           data.npy or data.mem, meta.yml

What a trial is stands in its own file: `modality` (video, image, blank), `tier`, `first_frame_idx` (its first frame
among all timestamps), `num_frames`. `screen/combined_meta.json` takes the place of these files where there are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.recordings.formats.experanto_screen import (
    ExperantoSpec,
    Trial,
    read_clock,
    read_images,
    read_screen,
    read_trials,
)
from sweeps.recordings.formats.sensorium import blank, scale_responses, train_rows
from sweeps.recordings.readers.clips import ClipRows
from sweeps.recordings.readers.file_tree import Tree, is_below
from sweeps.recordings.readers.screens import Shown
from sweeps.recordings.readers.sequences import Sequence, read_layout, read_sequence
from sweeps.recordings.recording import Recording, RecordingFacts, StimulusSet, check_groups, check_responses
from sweeps.recordings.units import Units, check_coordinates, check_length, choose_units


@dataclass(frozen=True)
class Experiment:
    """An opened experiment: its trials, which of them show the same, the rows of what they show, and their times.

    `groups` (clips,), `kept` (trials,): within the first `repeats`; `times`: seconds of every frame of every trial.
    """

    tree: Tree
    spec: ExperantoSpec
    trials: list[Trial]
    shown: Shown
    groups: np.ndarray
    rows: ClipRows
    kept: np.ndarray
    times: list[np.ndarray]

    @property
    def first(self) -> list[Trial]:
        """The first trial that showed each clip or picture."""
        return [self.trials[trial] for trial in self.shown.first]


def open_experanto(spec: ExperantoSpec, base: str, cache: Path | None = None) -> Recording:
    """Read an experiment: a row is a frame of a clip, or a picture; trials that showed the same are its repeats.

    Blank trials and those with `valid_trial: false` are left out. Reads every file of the read trials and the
    devices' samples once; `cache` is not needed here.
    """
    experiment = _experiment(spec, base)
    tree, units = experiment.tree, _units(experiment)
    responses = _responses(experiment, units)
    behaviour, pupil = _behaviour(experiment)
    identity = content_id([tree.digest(), spec.options()])
    images = read_images(tree, spec, experiment.rows, [trial.file for trial in experiment.first])
    fit = StimulusSet(_table(experiment), responses, content_id([identity, "screen"]), images, behaviour, pupil)
    check_groups(fit, tree.file("responses"), units.rows)
    return Recording(
        spec.recording_name(),
        identity,
        units.areas,
        {"fit": fit},
        geometry=spec.image.geometry(),
        coordinates=units.coordinates,
        frame_rate=_rate(experiment) if spec.modality == "video" else None,
    )


def describe_experanto(spec: ExperantoSpec, base: str) -> RecordingFacts:
    """What the driver needs to know."""
    return open_experanto(spec, base).facts()


def _experiment(spec: ExperantoSpec, base: str) -> Experiment:
    tree = Tree(join(base, spec.path))
    trials, clock = read_trials(tree, spec), read_clock(tree)
    lengths, shown, groups = read_screen(tree, spec, trials)
    rows = ClipRows.of(lengths[shown.first])
    kept = shown.repeat < (spec.repeats or len(trials))
    times = [
        _times(tree, trial, clock, int(rows.lengths[item])) for trial, item in zip(trials, shown.item, strict=True)
    ]
    return Experiment(tree, spec, trials, shown, groups, rows, kept, times)


def _times(tree: Tree, trial: Trial, clock: np.ndarray, most: int) -> np.ndarray:
    """Seconds of a trial's frames, no more than its clip has rows."""
    length = min(trial.frames, most)
    if trial.first + length > len(clock):
        problem = f"has {len(clock)} frames, trial {trial.key} shows frames {trial.first} to"
        raise InputError(f"{problem} {trial.first + length - 1}", file=tree.file("screen/timestamps.npy"))
    return clock[trial.first : trial.first + length]


def _table(experiment: Experiment) -> pd.DataFrame:
    tiers = np.array([trial.tier for trial in experiment.first])
    names = [trial.file for trial in experiment.first]
    table = experiment.rows.table(names, experiment.groups, tiers)
    return table if experiment.spec.modality == "video" else table.drop(columns=["clip", "frame"])


# -- the devices ------------------------------------------------------------------------------------


def _units(experiment: Experiment) -> Units:
    """The units; `neuron_properties` in the responses' meta.yml may name a file of areas: a choice of ours."""
    tree = experiment.tree
    meta = tree.mapping("responses/meta.yml")
    count = read_layout(tree, "responses", meta).shape[1]
    places = _properties(tree, meta)
    labels = tree.labels(places["area"]) if "area" in places and experiment.spec.area is None else None
    coordinates = tree.array(places["cell_motor_coordinates"]) if "cell_motor_coordinates" in places else None
    check_length(labels, count, tree.file(places.get("area", "responses")))
    if coordinates is not None:
        check_coordinates(coordinates, count, tree.file(places["cell_motor_coordinates"]))
    return choose_units(experiment.spec, count, labels, coordinates, tree.file("responses/meta.yml"))


def _properties(tree: Tree, meta: dict[str, Any]) -> dict[str, str]:
    """Files of the units' areas and coordinates, where `neuron_properties` names them: all below responses/."""
    held, file = meta.get("neuron_properties"), tree.file("responses/meta.yml")
    if held is None:
        return {}
    if not isinstance(held, dict):
        raise InputError("must map properties to files", file=file, key="neuron_properties", value=held)
    places = {key: held[key] for key in ("area", "cell_motor_coordinates") if key in held}
    for key, place in places.items():
        if not is_below(place):
            problem = "must be a file below responses/"
            raise InputError(problem, file=file, key=f"neuron_properties.{key}", value=place)
    return {key: f"responses/{place}" for key, place in places.items()}


def _responses(experiment: Experiment, units: Units) -> np.ndarray:
    """Responses (rows, units, repeats), scaled, missing in the frames that are skipped."""
    spec, rows = experiment.spec, experiment.rows
    responses = _sampled(experiment, read_sequence(experiment.tree, "responses", units.rows))
    if spec.normalise == "std":
        tiers = np.array([trial.tier for trial in experiment.first])
        scale_responses(responses, train_rows(rows.spread(tiers)))
    if spec.modality == "video":
        responses[rows.frame < spec.skip] = np.nan
    check_responses(responses, experiment.tree.file("responses"), units.rows)
    return responses


def _sampled(experiment: Experiment, device: Sequence) -> np.ndarray:
    """Values of a device (rows, signals, repeats)."""
    spec, rows, shown = experiment.spec, experiment.rows, experiment.shown
    shape = (len(rows), device.values.shape[1], int(shown.repeat[experiment.kept].max()) + 1)
    table = blank(*shape, spec.memory_gb, experiment.tree.url)
    for trial in np.flatnonzero(experiment.kept):
        start, times = int(rows.start[shown.item[trial]]), experiment.times[trial]
        found = _taken(device, times + spec.delay, spec)
        table[start : start + len(times), :, shown.repeat[trial]] = found
    return table


def _taken(device: Sequence, times: np.ndarray, spec: ExperantoSpec) -> np.ndarray:
    """Values at the times of frames, or means over the window after a picture's."""
    if spec.modality == "video":
        return device.at(times)
    steps = np.arange(0.0, spec.window, 1.0 / device.rate)
    return np.stack([device.at(start + steps).mean(axis=0) for start in times])


def _behaviour(experiment: Experiment) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Behaviour (rows, channels, repeats) and pupil (rows, 2, repeats), None where there is no such device."""
    tree, wanted = experiment.tree, experiment.spec.pupil
    present = [device for device in ("treadmill", "eye_tracker") if tree.has(device)]
    found = {device: _sampled(experiment, read_sequence(tree, device)) for device in present}
    eye, pupil = found.get("eye_tracker"), None
    if wanted is not None:
        signals = 0 if eye is None else eye.shape[1]
        if eye is None or not all(0 <= signal < signals for signal in wanted):
            problem = f"must be two of the {signals} signals of the eye tracker, counted from 0"
            raise InputError(problem, file=tree.file("eye_tracker"), key="pupil", value=wanted)
        pupil = eye[:, list(wanted)]
        found["eye_tracker"] = np.delete(eye, wanted, axis=1)
    rest = [values for values in found.values() if values.shape[1]]
    return (np.concatenate(rest, axis=1) if rest else None), pupil


def _rate(experiment: Experiment) -> float | None:
    """Frames a second: one over the median time between frames."""
    steps = np.concatenate([np.diff(held) for held in experiment.times])
    if not len(steps):
        return None
    with np.errstate(divide="ignore"):
        rate = float(np.round(1.0 / np.median(steps), 3))
    if not 0 < rate < np.inf:
        problem = f"must be seconds: frames follow each other after {np.median(steps):g}"
        raise InputError(problem, file=experiment.tree.file("screen/timestamps.npy"))
    return rate
