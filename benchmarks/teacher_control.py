"""The teacher itself as a twin of its own recording: the control that a score must put among the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeps.execution.cell_runner import CellRunner
from sweeps.experiment.cells import Cell
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.cell_fit import SPLITS, CellFit, empty_fit, mean_response
from sweeps.recordings.recording import Recording
from sweeps.recordings.simulation.simulated import SimulatedSpec, teacher_rates


def teacher_scores(
    runner: CellRunner, spec: SimulatedSpec, cells: Sequence[Cell], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Give scores by area of the noise-free teacher in the place of fitted cells; scores add the noise that they match.

    `cells` are one cell of the recording per area: they lend their splits and the seed of the draws.
    """
    worker = runner.worker
    recording = worker.recording(spec.name)
    others = {
        name: shown.load(slice(0, shown.count))
        for name, shown in worker.shown(recording).items()
        if name.startswith("probe.")
    }
    rates = teacher_rates(spec, others)
    return {cell.area: runner.score(cell, _as_fit(worker, recording, cell, rates), names) for cell in cells}


def _as_fit(worker: WorkerData, recording: Recording, cell: Cell, rates: dict[str, np.ndarray]) -> CellFit:
    units = recording.units(cell.area)
    fit = empty_fit(recording, len(units))
    for fold in worker.folds(recording, cell.seed):
        for split in SPLITS:
            held = fold.held_out(split)
            fit.held_out[split][held] = rates["fit"][held][:, units]
            fit.baseline[split][held] = mean_response(recording, cell.area, fold.fitted_on(split))
    for name in worker.shown_keys(recording):
        role = name.removeprefix("recorded.")
        for split in SPLITS:
            fit.shown[split][name] = rates[role][:, units]
    return fit
