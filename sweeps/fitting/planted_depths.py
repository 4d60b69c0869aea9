"""The truth of a simulated recording: which depths cannot be told apart, computed before the sweep.

Imports torch only to compute: the driver reads what its node has on disk.
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
from sweeps.io.files import OWN_MODE, replacing
from sweeps.io.guards.private_folder import cache_folder, is_believed
from sweeps.recordings import read_spec
from sweeps.recordings.simulation.simulated import SimulatedSpec, noise_free, recording_folder

if TYPE_CHECKING:
    from sweeps.features.worker_data import WorkerData

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
    """Make every simulated recording on this node and compute its truth, once: it is in the cache from then on.

    A ridge readout of every block of the teacher (maps averaged to 7 x 7) is fitted to the noise-free rates of the
    train stimuli and scored on the select stimuli of seed 0, in the first fold where there are several. Raises
    InputError when the depths that cannot be told apart are more than a quarter of all: such an answer could not be
    checked.
    """
    from sweeps.features.worker_data import WorkerData

    worker = WorkerData(context)
    return [truth for spec in _simulated(context) for truth in _truths_of(worker, spec)]


def cached_truths(context: WorkerContext) -> list[Truth] | None:
    """What `truths` would return, where this node has the recordings and their truths on disk; else None."""
    truths: list[Truth] = []
    for spec in _simulated(context):
        cached = _cached(context, spec)
        if cached is None or not recording_folder(spec, _cache(context)).exists():
            return None
        truths += cached
    return truths


def _simulated(context: WorkerContext) -> Iterator[SimulatedSpec]:
    specs = (read_spec(raw) for raw in context.recordings)
    return (spec for spec in specs if isinstance(spec, SimulatedSpec))


def _cache(context: WorkerContext) -> Path:
    return cache_folder(context.cache, context.shared_cache)


def _file(context: WorkerContext, spec: SimulatedSpec) -> Path:
    """Where the truth of a recording lies, under everything that decides it."""
    versions = [READOUTS["ridge"].version, BACKBONES[spec.teacher.backbone].version]
    identity = content_id([spec.identity(), context.split, MARGIN, versions])
    return _cache(context) / "simulated" / f"truth-{identity}.json"


def _cached(context: WorkerContext, spec: SimulatedSpec) -> list[Truth] | None:
    """The truth of a recording on disk, or None; that of a shuffled one is empty."""
    if spec.shuffled:
        return []
    file = _file(context, spec)
    if not is_believed(file):
        return None
    return [
        Truth(**{**row, "alike": tuple(row["alike"]), "recording": spec.name}) for row in json.loads(file.read_text())
    ]


def _truths_of(worker: WorkerData, spec: SimulatedSpec) -> list[Truth]:
    recording = worker.recording(spec.name)
    cached = _cached(worker.context, spec)
    if cached is not None:
        return cached
    truths = _compute(worker, spec)
    for truth in truths:
        if 4 * len(truth.alike) > len(truth.correlations):
            raise InputError(
                f"depths {list(truth.alike)} of {len(truth.correlations)} cannot be told apart, more than a quarter: "
                "add scenes or units, or plant another depth",
                key=f"recordings.{recording.name}.areas.{truth.area}.depth",
                value=truth.planted,
            )
    with replacing(_file(worker.context, spec), mode=OWN_MODE) as file:
        file.write(json.dumps([asdict(truth) for truth in truths]).encode())
    return truths


def _compute(worker: WorkerData, spec: SimulatedSpec) -> list[Truth]:
    from sweeps.features.block_features import BlockFeatures
    from sweeps.fitting.closed_form import ClosedFormReadout

    recording = worker.recording(spec.name)
    rates = noise_free(spec, Path(worker.context.cache))
    fold = worker.folds(recording, 0)[0]
    backbone = {"name": spec.teacher.backbone, "weights": spec.teacher.weights}
    component = BACKBONES[spec.teacher.backbone]
    ridge = {"name": "ridge", "alpha": "auto"}
    scores = []
    for depth in range(component.block_count(backbone)):
        kernels = worker.kernels(BlockFeatures(recording, backbone, spec.seed, depth, pool=7))
        readout = ClosedFormReadout.fit(worker, recording, (kernels,), rates, fold.train, ridge)
        predicted = readout.predict([kernels.fit[fold.select]])
        scores.append(np.asarray(correlation(predicted, rates[fold.select])))
    table = np.array(scores)
    return [_truth(spec, name, table[:, recording.units(name)].mean(axis=1)) for name in spec.areas]


def _truth(spec: SimulatedSpec, name: str, scores: np.ndarray) -> Truth:
    planted = spec.areas[name].depth
    alike = tuple(int(depth) for depth in np.flatnonzero(scores >= scores[planted] - MARGIN))
    teacher = spec.teacher.model_dump()
    return Truth(spec.name, name, planted, teacher, alike, tuple(round(float(score), 5) for score in scores))
