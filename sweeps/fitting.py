"""Fitting cells: held-out predictions of the recorded stimuli and responses to everything else shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metrics import Alignment
from models.ridge import RidgeFit, fit_ridge
from sweeps.cells import Cell
from sweeps.fits import SPLITS, CellFit, empty_fit
from sweeps.recordings.recording import Recording
from sweeps.workshop import Kernels, Workshop, rows_key


def fit_or_load(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit]:
    """The fits of cells that belong together: from this node's cache where all of them are there, else fitted.

    What was kept is what a fit gives, to the last bit.
    """
    shown = {cell.recording: workshop.shown_keys(workshop.recording(cell.recording)) for cell in cells}
    held = [workshop.fits.load(cell.cell_id, shown[cell.recording]) for cell in cells]
    found = [fit for fit in held if fit is not None]
    if len(found) < len(cells):
        found = fit_cells(workshop, cells)
        for cell, fit in zip(cells, found, strict=True):
            workshop.fits.save(cell.cell_id, fit, shown[cell.recording])
    for cell, fit in zip(cells, found, strict=True):
        fit.transferred = _transfers(workshop, cell)
    return found


def fit_cells(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit]:
    """Fit cells that belong together: a single cell of a frozen backbone, or all cells of one trained twin.

    Ridge: select predictions come from a fit on train, report predictions from one on train + select, alpha
    chosen inside each by leave-one-group-out. Gradient readouts: one fit on train, stopped early on select,
    gives both.
    """
    if cells[0].twin:
        from sweeps.training import fit_trained_twin

        return fit_trained_twin(workshop, cells)
    if cells[0].readout["name"] == "ridge":
        return [_fit_ridge_cell(workshop, cell) for cell in cells]
    from sweeps.training import fit_gaussian_cell

    return [fit_gaussian_cell(workshop, cell) for cell in cells]


def mean_response(recording: Recording, area: str, rows: np.ndarray) -> np.ndarray:
    """Mean response (units,) over some stimuli, missing ones left out."""
    return np.asarray(np.nanmean(recording.fit.average[rows][:, recording.units(area)], axis=0))


def _fit_ridge_cell(workshop: Workshop, cell: Cell) -> CellFit:
    recording = workshop.recording(cell.recording)
    kernels = workshop.kernels(recording, cell.backbone, cell.seed, cell.depth, cell.readout.get("pool", 1))
    units = recording.units(cell.area)
    folds = workshop.folds(recording, cell.seed)
    found, alphas = empty_fit(recording, len(units)), []
    for fold in folds:
        for split in SPLITS:
            held, fitted = fold.held_out(split), fold.fitted_on(split)
            readout = fit_readout(workshop, recording, kernels, cell, fitted)
            found.held_out[split][held] = readout.predict(kernels.fit[held])
            found.baseline[split][held] = mean_response(recording, cell.area, fitted)
            for name, kernel in kernels.shown.items():
                share = readout.predict(kernel) / len(folds)
                found.shown[split][name] = found.shown[split].get(name, 0.0) + share
            alphas.append(readout.alpha)
    found.facts["alpha"] = float(np.median(np.concatenate(alphas)))
    return found


def _transfers(workshop: Workshop, cell: Cell) -> dict[str, Callable[[], Mapping[str, np.ndarray]]]:
    """By split, for a twin of one of several feature sets: predictions from the others, when they are asked for."""
    recording = workshop.recording(cell.recording)
    if cell.backbone["name"] != "features" or len(recording.features) < 2:
        return {}
    return {split: _transfer(workshop, cell, recording, split) for split in SPLITS}


def fit_readout(workshop: Workshop, recording: Recording, kernels: Kernels, cell: Cell, rows: np.ndarray) -> Readout:
    """The readout of a cell's units from some stimuli; cells that differ in seed only may share it."""
    alpha = cell.readout["alpha"]
    responses = recording.fit.average[:, recording.units(cell.area)]
    key = (kernels.key, cell.area, alpha, rows_key(rows))
    readout: Readout = workshop.readouts.get(
        key, lambda: Readout.fit(workshop, recording, kernels, responses, rows, alpha)
    )
    return readout


@dataclass(frozen=True)
class Readout:
    """Ridge readouts of the units of a cell; units with missing stimuli are fitted on the ones they have."""

    parts: list[tuple[np.ndarray, np.ndarray, RidgeFit]]
    units: int

    @classmethod
    def fit(
        cls,
        workshop: Workshop,
        recording: Recording,
        kernels: Kernels,
        responses: np.ndarray,
        rows: np.ndarray,
        alpha: float | str,
    ) -> Readout:
        """Fit responses (stimuli, units) at `rows`, one decomposition per pattern of missing stimuli."""
        present = np.isfinite(responses[rows])
        patterns, member = np.unique(present, axis=1, return_inverse=True)
        parts = []
        for index in range(patterns.shape[1]):
            own = np.flatnonzero(member == index)
            used = rows[patterns[:, index]]
            place = torch.from_numpy(used).to(kernels.fit.device)
            fitted = fit_ridge(
                workshop.decomposition(kernels, used),
                kernels.fit[place][:, place],
                torch.from_numpy(responses[np.ix_(used, own)]).to(kernels.fit.device),
                recording.groups[used],
                alpha,
            )
            parts.append((own, used, fitted))
        return cls(parts, responses.shape[1])

    def predict(self, kernel: Tensor) -> np.ndarray:
        """Responses (rows, units) from the kernel (rows, all fit stimuli)."""
        predicted = np.empty((len(kernel), self.units))
        for own, used, fitted in self.parts:
            predicted[:, own] = fitted.predict(kernel[:, torch.from_numpy(used).to(kernel.device)]).cpu().numpy()
        return predicted

    @property
    def alpha(self) -> np.ndarray:
        """Chosen relative alpha of every unit, in no order."""
        return np.concatenate([fitted.alpha.cpu().numpy() for _, _, fitted in self.parts])


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
    responses = recording.fit.average[:, units]
    own, source = recording.features[cell.backbone["set"]], recording.features[other]
    kernels = workshop.kernels(recording, cell.backbone, cell.seed, 0, 1)
    beside = workshop.kernels(recording, {**cell.backbone, "set": other}, cell.seed, 0, 1)
    random = np.random.default_rng([cell.random_seed(), 5])
    blank = np.full((len(own), len(units)), np.nan)
    found = {name: blank.copy() for name in ("transfer", "other", "null")}
    for fold in workshop.folds(recording, cell.seed):
        rows, held = fold.fitted_on(split), fold.held_out(split)
        readout = fit_readout(workshop, recording, kernels, cell, rows)
        alignment = Alignment.fit(source[rows])
        for name, order in (("transfer", rows), ("null", random.permutation(rows))):
            carried = np.asarray(alignment.predict(own[order], source[held]))
            features = torch.from_numpy(carried).to(kernels.features) - kernels.centre
            found[name][held] = readout.predict((features @ kernels.features.T).double())
        direct = Readout.fit(workshop, recording, beside, responses, rows, cell.readout["alpha"])
        found["other"][held] = direct.predict(beside.fit[held])
    kept = np.isfinite(found["transfer"]).any(axis=1)
    return {name: predicted[kept] for name, predicted in found.items()}
