"""Predictions of a twin of one feature set from the others of its recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from metrics import Alignment
from sweeps.experiment.cells import Cell
from sweeps.features.worker_data import Workshop
from sweeps.fitting.cell_fit import SPLITS
from sweeps.fitting.closed_form import bands_of, fit_readout
from sweeps.recordings.recording import Recording


def _transfers(workshop: Workshop, cell: Cell) -> dict[str, Callable[[], Mapping[str, np.ndarray]]]:
    """By split, for a twin of one of several feature sets: predictions from the others, when they are asked for."""
    recording = workshop.recording(cell.recording)
    if cell.backbone["name"] != "features" or len(recording.features) < 2:
        return {}
    if cell.backbone["set"] not in recording.features:  # several sets together
        return {}
    return {split: _transfer(workshop, cell, recording, split) for split in SPLITS}


def _transfer(
    workshop: Workshop, cell: Cell, recording: Recording, split: str
) -> Callable[[], Mapping[str, np.ndarray]]:
    """Predictions (other sets, held-out stimuli, units) from every other feature set of the recording."""

    def compute() -> Mapping[str, np.ndarray]:
        others = [name for name in recording.features if name != cell.backbone["set"]]
        found: dict[str, list[np.ndarray]] = {"transfer": [], "other": [], "null": []}
        for other in others:
            for name, predicted in _transfer_from(workshop, cell, recording, split, other).items():
                found[name].append(predicted)
        return {name: np.stack(predictions) for name, predictions in found.items()}

    return compute


def _transfer_from(
    workshop: Workshop, cell: Cell, recording: Recording, split: str, other: str
) -> dict[str, np.ndarray]:
    units = recording.units(cell.area)
    own, source = recording.features[cell.backbone["set"]], recording.features[other]
    beside = replace(cell, backbone={**cell.backbone, "set": other})
    random = np.random.default_rng([cell.random_seed(), 5])
    blank = np.full((len(own), len(units)), np.nan)
    found = {name: blank.copy() for name in ("transfer", "other", "null")}
    for fold in workshop.folds(recording, cell.seed):
        rows, held = fold.fitted_on(split, cell.readout["refit"]), fold.held_out(split)
        (kernels,) = bands = bands_of(workshop, recording, cell, rows)
        readout = fit_readout(workshop, recording, bands, cell, rows)
        alignment = Alignment.fit(source[rows])
        shown = np.arange(len(own)) if kernels.lags else held
        for name, order in (("transfer", rows), ("null", random.permutation(rows))):
            carried = torch.from_numpy(np.asarray(alignment.predict(own[order], source[shown])))
            kernel = kernels.against(carried.to(kernels.features))
            found[name][held] = readout.predict([kernel[held] if kernels.lags else kernel])
        others = bands_of(workshop, recording, beside, rows)
        direct = fit_readout(workshop, recording, others, beside, rows)
        found["other"][held] = direct.predict([others[0].fit[held]])
    kept = np.isfinite(found["transfer"]).any(axis=1)
    return {name: predicted[kept] for name, predicted in found.items()}
