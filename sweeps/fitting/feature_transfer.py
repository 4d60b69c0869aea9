"""What the twin of one feature set of a recording predicts from the others: the input of the score feature_transfer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from metrics import Alignment
from sweeps.experiment.cells import Cell
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.cell_fit import SPLITS
from sweeps.fitting.closed_form import bands_of, fit_readout

PREDICTIONS = ("transfer", "other", "null")


def feature_transfers(worker: WorkerData, cell: Cell) -> dict[str, Callable[[], Mapping[str, np.ndarray]]]:
    """By split, for a twin of one of several feature sets: a function that predicts from each of the other sets.

    It gives (other sets, held-out stimuli, units) by name: "transfer" shows the twin the other set's features after an
    alignment that is fitted on the twin's own train stimuli; "null" the same after an alignment to shuffled stimuli;
    "other" is a twin of the other set. Empty for other twins. Computed when called, since few scores need it.
    """
    recording = worker.recording(cell.recording)
    if cell.backbone_component.sees != "features" or len(recording.features) < 2:
        return {}
    if cell.backbone["set"] not in recording.features:  # several sets together
        return {}
    return {split: partial(_from_other_sets, worker, cell, split) for split in SPLITS}


def _from_other_sets(worker: WorkerData, cell: Cell, split: str) -> dict[str, np.ndarray]:
    others = [name for name in worker.recording(cell.recording).features if name != cell.backbone["set"]]
    predicted = [_from_set(worker, cell, split, other) for other in others]
    return {name: np.stack([by_name[name] for by_name in predicted]) for name in PREDICTIONS}


def _from_set(worker: WorkerData, cell: Cell, split: str, other: str) -> dict[str, np.ndarray]:
    """Predictions (held-out stimuli, units) from one other feature set."""
    recording = worker.recording(cell.recording)
    own, source = recording.features[cell.backbone["set"]], recording.features[other]
    other_cell = replace(cell, backbone={**cell.backbone, "set": other})
    random = np.random.default_rng([cell.random_seed(), 5])
    blank = np.full((len(own), len(recording.units(cell.area))), np.nan)
    predicted = {name: blank.copy() for name in PREDICTIONS}
    for fold in worker.folds(recording, cell.seed):
        rows, held_out = fold.fitted_on(split, cell.readout["refit"]), fold.held_out(split)
        (kernels,) = bands = bands_of(worker, recording, cell, rows)
        readout = fit_readout(worker, recording, bands, cell, rows)
        alignment = Alignment.fit(source[rows])
        shown = np.arange(len(own)) if kernels.lags else held_out
        for name, order in (("transfer", rows), ("null", random.permutation(rows))):
            aligned = torch.from_numpy(np.asarray(alignment.predict(own[order], source[shown])))
            kernel = kernels.against(aligned.to(kernels.features))
            predicted[name][held_out] = readout.predict([kernel[held_out] if kernels.lags else kernel])
        other_bands = bands_of(worker, recording, other_cell, rows)
        other_readout = fit_readout(worker, recording, other_bands, other_cell, rows)
        predicted["other"][held_out] = other_readout.predict([other_bands[0].fit[held_out]])
    rows = np.isfinite(predicted["transfer"]).any(axis=1)
    return {name: responses[rows] for name, responses in predicted.items()}
