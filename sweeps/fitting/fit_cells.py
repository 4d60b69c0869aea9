"""Fitting cells: held-out predictions of the recorded stimuli and responses to everything else shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.experiment.cells import Cell
from sweeps.features.worker_data import Workshop, rows_key
from sweeps.fitting.cell_fit import SPLITS, CellFit, empty_fit, mean_response
from sweeps.fitting.closed_form import bands_of, fit_readout
from sweeps.fitting.feature_transfer import _transfers
from sweeps.fitting.successive_halving import Halving

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
    from sweeps.fitting.frozen_backbones import fit_frozen_cells

    for done in fit_frozen_cells(workshop, [cell for (cell,) in jobs], halving):
        yield [(turn, outcome if isinstance(outcome, Exception) else [outcome]) for turn, outcome in done]


def _trained(workshop: Workshop, jobs: Sequence[Sequence[Cell]], halving: Halving | None) -> Iterator[Done]:
    from sweeps.fitting.trained_cores import fit_trained_twins

    yield from fit_trained_twins(workshop, jobs, halving)


def _fit_in_turn(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit]:
    if READOUTS[cells[0].readout["name"]].fitted_by == "latent":
        from sweeps.fitting.latent_twins import fit_latent_twin

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
