"""Fitting cells: held-out predictions of the recorded stimuli and responses to everything else shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from metrics import Alignment
from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.cells import Cell
from sweeps.closed_form import SOLVERS, bands_of, fit_readout
from sweeps.fits import SPLITS, CellFit, empty_fit
from sweeps.recordings.recording import Recording
from sweeps.workshop import Workshop


def fit_or_load(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit]:
    """The fits of cells that belong together: from this node's cache where all of them are there, else fitted.

    What was kept is what a fit gives, to the last bit.
    """
    sees = BACKBONES[cells[0].backbone["name"]].sees
    shown = {cell.recording: workshop.shown_keys(workshop.recording(cell.recording), sees) for cell in cells}
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

    Closed forms: select predictions come from a fit on train, report predictions from one on train + select (with
    `refit: false` from the same as select), every choice (alpha, block, shares of bands) made inside each by leaving
    groups out. Gradient readouts: one fit on train, stopped early on select, gives both, or with `refit` a second one
    on train + select the report predictions.
    """
    if READOUTS[cells[0].readout["name"]].fitted_by == "latent":
        from sweeps.latent import fit_latent_twin

        return fit_latent_twin(workshop, cells)
    if cells[0].twin:
        from sweeps.training import fit_trained_twin

        return fit_trained_twin(workshop, cells)
    if READOUTS[cells[0].readout["name"]].fitted_by in SOLVERS:
        return [_fit_closed_form(workshop, cell) for cell in cells]
    from sweeps.training import fit_frozen_cell

    return [fit_frozen_cell(workshop, cell) for cell in cells]


def mean_response(recording: Recording, area: str, rows: np.ndarray) -> np.ndarray:
    """Mean response (units,) over some stimuli, missing ones left out; NaN for a unit without any."""
    held = recording.fit.average[rows][:, recording.units(area)]
    with np.errstate(invalid="ignore"):  # none of none is NaN
        return np.asarray(np.nansum(held, axis=0) / np.count_nonzero(~np.isnan(held), axis=0))


def _fit_closed_form(workshop: Workshop, cell: Cell) -> CellFit:
    recording = workshop.recording(cell.recording)
    folds = workshop.folds(recording, cell.seed)
    found, alphas = empty_fit(recording, len(recording.units(cell.area))), []
    for fold in folds:
        for split in SPLITS:
            held, fitted = fold.held_out(split), fold.fitted_on(split, cell.readout["refit"])
            bands = bands_of(workshop, recording, cell, fitted)
            readout = fit_readout(workshop, recording, bands, cell, fitted)
            found.held_out[split][held] = readout.predict([band.fit[held] for band in bands])
            found.baseline[split][held] = mean_response(recording, cell.area, fitted)
            for name in bands[0].shown:
                share = readout.predict([band.shown[name] for band in bands]) / len(folds)
                found.shown[split][name] = found.shown[split].get(name, 0.0) + share
            alphas.append(readout.alpha)
    alpha = np.concatenate(alphas)
    alpha = alpha[np.isfinite(alpha)]
    if len(alpha):
        found.facts["alpha"] = float(np.median(alpha))
    return found


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
