"""The truth of a simulated recording: which depths cannot be told apart, computed before the sweep.

Imports torch only to compute: the driver reads what its node has kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metrics import correlation
from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.errors import InputError
from sweeps.experiment.worker_context import WorkerContext
from sweeps.hashing import content_id
from sweeps.io.files import replacing
from sweeps.recordings import read_spec
from sweeps.recordings.simulation.simulated import SimulatedSpec, noise_free, recording_folder

if TYPE_CHECKING:
    from sweeps.features.worker_data import Workshop

MARGIN = 0.02
"""Noise-free select correlations closer than this to the planted depth's cannot be told apart."""


@dataclass(frozen=True)
class Truth:
    """One simulated area: its planted depth and the depths that cannot be told from it.

    `correlations` are noise-free select correlations of every depth of the teacher.
    """

    recording: str
    area: str
    planted: int
    teacher: dict[str, Any]
    alike: tuple[int, ...]
    correlations: tuple[float, ...]


def truths(context: WorkerContext) -> list[Truth]:
    """Make every simulated recording on this node and compute its truth (kept in the cache).

    A ridge readout of every block of the teacher (maps averaged to 7 x 7) is fitted to the noise-free rates of the
    train stimuli and scored on the select stimuli of seed 0, in the first fold where there are several. Raises
    InputError when the depths that cannot be told apart are more than a quarter of all: such an answer could not be
    checked.
    """
    from sweeps.features.worker_data import Workshop

    workshop = Workshop(context)
    return [each for spec in _simulated(context) for each in _truths_of(workshop, spec)]


def kept_truths(context: WorkerContext) -> list[Truth] | None:
    """What `truths` would return, where this node has made the recordings and kept their truths; else None."""
    found: list[Truth] = []
    for spec in _simulated(context):
        held = _kept(context, spec)
        if held is None or not recording_folder(spec, _cache(context)).exists():
            return None
        found += held
    return found


def _simulated(context: WorkerContext) -> Iterator[SimulatedSpec]:
    specs = (read_spec(raw) for raw in context.recordings)
    return (spec for spec in specs if isinstance(spec, SimulatedSpec))


def _cache(context: WorkerContext) -> Path:
    return Path(context.cache).expanduser()


def _file(context: WorkerContext, spec: SimulatedSpec) -> Path:
    """Where the truth of a recording is kept, under everything that decides it."""
    versions = [READOUTS["ridge"].version, BACKBONES[spec.teacher.backbone].version]
    identity = content_id([spec.identity(), context.split, MARGIN, versions])
    return _cache(context) / "simulated" / f"truth-{identity}.json"


def _kept(context: WorkerContext, spec: SimulatedSpec) -> list[Truth] | None:
    """The truth of a recording as it is kept, or None; a shuffled one has none to keep."""
    if spec.shuffled:
        return []
    try:
        held = json.loads(_file(context, spec).read_text())
    except FileNotFoundError:
        return None
    return [Truth(**{**each, "alike": tuple(each["alike"]), "recording": spec.name}) for each in held]


def _truths_of(workshop: Workshop, spec: SimulatedSpec) -> list[Truth]:
    recording = workshop.recording(spec.name)
    kept = _kept(workshop.context, spec)
    if kept is not None:
        return kept
    found = _compute(workshop, spec)
    for each in found:
        if 4 * len(each.alike) > len(each.correlations):
            raise InputError(
                f"depths {list(each.alike)} of {len(each.correlations)} cannot be told apart, more than a quarter: "
                "add scenes or units, or plant another depth",
                key=f"recordings.{recording.name}.areas.{each.area}.depth",
                value=each.planted,
            )
    file = _file(workshop.context, spec)
    with replacing(file) as held:
        held.write(json.dumps([asdict(each) for each in found]).encode())
    return found


def _compute(workshop: Workshop, spec: SimulatedSpec) -> list[Truth]:
    from sweeps.fitting.closed_form import Readout

    recording = workshop.recording(spec.name)
    rates = noise_free(spec, Path(workshop.context.cache))
    fold = workshop.folds(recording, 0)[0]
    backbone = {"name": spec.teacher.backbone, "weights": spec.teacher.weights}
    component = BACKBONES[spec.teacher.backbone]
    scores = []
    for depth in range(component.block_count(backbone)):
        kernels = workshop.kernels(recording, backbone, spec.seed, depth, 7)
        readout = Readout.fit(workshop, recording, (kernels,), rates, fold.train, {"name": "ridge", "alpha": "auto"})
        predicted = readout.predict([kernels.fit[fold.select]])
        scores.append(np.asarray(correlation(predicted, rates[fold.select])))
    table = np.array(scores)
    return [_truth(spec, name, table[:, recording.units(name)].mean(axis=1)) for name in spec.areas]


def _truth(spec: SimulatedSpec, name: str, scores: np.ndarray) -> Truth:
    planted = spec.areas[name].depth
    alike = tuple(int(depth) for depth in np.flatnonzero(scores >= scores[planted] - MARGIN))
    teacher = spec.teacher.model_dump()
    return Truth(spec.name, name, planted, teacher, alike, tuple(round(float(score), 5) for score in scores))
