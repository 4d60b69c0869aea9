"""Fitting cells: held-out predictions of the recorded stimuli and responses to everything else shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from metrics import Alignment
from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.cells import Cell
from sweeps.closed_form import bands_of, fit_readout
from sweeps.fits import SPLITS, CellFit, empty_fit
from sweeps.halving import Halving
from sweeps.recordings.recording import Recording
from sweeps.workshop import Workshop, rows_key

Done = list[tuple[int, list[CellFit] | Exception]]
"""Numbers of jobs that are done together, and the fits of their cells, or the error that ended them."""


def fits_of(workshop: Workshop, jobs: Sequence[Sequence[Cell]], halving: Halving | None = None) -> Iterator[Done]:
    """The fits of jobs (cells that belong together), as they are done: from this node's cache, else fitted.

    What was kept is what a fit gives, to the last bit. With `halving` fits by gradient descent may be ended half-way.
    Nothing is raised from here.
    """
    missing = []
    for number, cells in enumerate(jobs):
        held = _held(workshop, cells)
        if held is None:
            missing.append(number)
        else:
            yield [(number, held)]
    for done in fit_jobs(workshop, [jobs[number] for number in missing], halving):
        yield [(missing[turn], _kept(workshop, jobs[missing[turn]], outcome)) for turn, outcome in done]


def fit_cells(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit]:
    """Fit cells that belong together: a single cell of a frozen backbone, or all cells of one trained twin.

    Closed forms: select predictions come from a fit on train, report predictions from one on train + select (with
    `refit: false` from the same as select), every choice (alpha, block, shares of bands) made inside each by leaving
    groups out. Gradient readouts: one fit on train, stopped early on select, gives both, or with `refit` a second one
    on train + select the report predictions. Raises what went wrong.
    """
    (((_, found),),) = fit_jobs(workshop, [cells])
    if isinstance(found, Exception):
        raise found
    return found


def fit_jobs(workshop: Workshop, jobs: Sequence[Sequence[Cell]], halving: Halving | None = None) -> Iterator[Done]:
    """Fit jobs, see `fit_cells`: gradient descent many at once, closed forms and twins with latents in turn.

    Where something unforeseen ends the fit of many, those that are left are fitted one by one.
    """
    many: dict[Fitter, list[int]] = {_frozen: [], _trained: []}
    for number, cells in enumerate(jobs):
        if READOUTS[cells[0].readout["name"]].fitted_by == "gradient":
            many[_trained if cells[0].twin else _frozen].append(number)
        else:
            yield [(number, _tried(lambda cells=cells: _fit_in_turn(workshop, cells)))]  # type: ignore[misc]
    for fit, numbers in many.items():
        left = dict.fromkeys(numbers)
        try:
            for done in fit(workshop, [jobs[number] for number in numbers], halving):
                for turn, _ in done:
                    left.pop(numbers[turn])
                yield [(numbers[turn], outcome) for turn, outcome in done]
        except Exception as error:
            if len(numbers) == 1:
                yield [(number, error) for number in left]
                continue
            for number in left:
                for done in fit_jobs(workshop, [jobs[number]], halving):
                    yield [(number, outcome) for _, outcome in done]


Fitter = Callable[[Workshop, Sequence[Sequence[Cell]], Halving | None], Iterator[Done]]


def _frozen(workshop: Workshop, jobs: Sequence[Sequence[Cell]], halving: Halving | None) -> Iterator[Done]:
    from sweeps.frozen import fit_frozen_cells

    for done in fit_frozen_cells(workshop, [cell for (cell,) in jobs], halving):
        yield [(turn, outcome if isinstance(outcome, Exception) else [outcome]) for turn, outcome in done]


def _trained(workshop: Workshop, jobs: Sequence[Sequence[Cell]], halving: Halving | None) -> Iterator[Done]:
    from sweeps.training import fit_trained_twins

    yield from fit_trained_twins(workshop, jobs, halving)


def _fit_in_turn(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit]:
    if READOUTS[cells[0].readout["name"]].fitted_by == "latent":
        from sweeps.latent import fit_latent_twin

        return fit_latent_twin(workshop, cells)
    return [_fit_closed_form(workshop, cell) for cell in cells]


def _tried(action: Callable[[], list[CellFit] | None]) -> Any:
    """What an action gives, or its error."""
    try:
        return action()
    except Exception as error:
        return error


def _held(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit] | Exception | None:
    """The fits of a job from the cache, None unless all are there."""
    return _tried(lambda: _loaded(workshop, cells))


def _loaded(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit] | None:
    found = []
    for cell in cells:
        fit = workshop.fits.load(cell.cell_id, _shown_keys(workshop, cell))
        if fit is None:
            return None
        fit.transferred = _transfers(workshop, cell)
        found.append(fit)
    return found


def _kept(workshop: Workshop, cells: Sequence[Cell], fits: list[CellFit] | Exception) -> list[CellFit] | Exception:
    """Fits of a job, after they were put into the cache."""
    if isinstance(fits, Exception):
        return fits
    for cell, fit in zip(cells, fits, strict=True):
        if not fit.pruned:
            workshop.fits.save(cell.cell_id, fit, _shown_keys(workshop, cell))
        fit.transferred = _transfers(workshop, cell)
    return fits


def _shown_keys(workshop: Workshop, cell: Cell) -> dict[str, str]:
    return workshop.shown_keys(workshop.recording(cell.recording), BACKBONES[cell.backbone["name"]].sees)


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
            place = ("mean", recording.fingerprint, cell.area, rows_key(fitted))
            mean = partial(mean_response, recording, cell.area, fitted)
            found.baseline[split][held] = workshop.brain.get(place, mean)
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
