"""Fitting cells: held-out predictions of the recorded stimuli and responses to everything else shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from sweeps.experiment.cells import Cell
from sweeps.features.worker_data import WorkerData, rows_key
from sweeps.fitting.cell_fit import SPLITS, CellFit, FitCache, empty_fit, mean_response
from sweeps.fitting.closed_form import bands_of, fit_readout
from sweeps.fitting.feature_transfer import feature_transfers
from sweeps.fitting.successive_halving import SuccessiveHalving

T = TypeVar("T")

Done = list[tuple[int, list[CellFit] | Exception]]
"""Numbers of jobs that are done together, and the fits of their cells, or the error that ended them."""

Fitter = Callable[[WorkerData, Sequence[Sequence[Cell]], SuccessiveHalving | None], Iterator[Done]]
"""Fits many jobs at once."""


def fits_of(
    worker: WorkerData, jobs: Sequence[Sequence[Cell]], cache: FitCache, halving: SuccessiveHalving | None = None
) -> Iterator[Done]:
    """The fits of jobs (cells that belong together), as they are done: from this node's cache, else fitted.

    What the cache gives is what a fit gives, to the last bit. With `halving` fits by gradient descent may be ended
    half-way. Nothing is raised from here.
    """
    missing = []
    for number, cells in enumerate(jobs):
        fits = _or_error(partial(_cached_fits, worker, cells, cache))
        if fits is None:
            missing.append(number)
        else:
            yield [(number, fits)]
    for done in fit_jobs(worker, [jobs[number] for number in missing], halving):
        yield [(missing[turn], _saved(worker, jobs[missing[turn]], outcome, cache)) for turn, outcome in done]


def fit_cells(worker: WorkerData, cells: Sequence[Cell]) -> list[CellFit]:
    """Fit cells that belong together: a single cell of a frozen backbone, or all cells of one trained twin.

    Closed forms: select predictions come from a fit on train, report predictions from one on train + select (with
    `refit: false` from the same as select), every choice (alpha, block, shares of bands) made inside each by leaving
    groups out. Gradient readouts: one fit on train, stopped early on select, gives both, or with `refit` a second one
    on train + select the report predictions. Raises what went wrong.
    """
    (((_, fits),),) = fit_jobs(worker, [cells])
    if isinstance(fits, Exception):
        raise fits
    return fits


def fit_jobs(
    worker: WorkerData, jobs: Sequence[Sequence[Cell]], halving: SuccessiveHalving | None = None
) -> Iterator[Done]:
    """Fit jobs, see `fit_cells`: gradient descent many at once, closed forms and twins with latents in turn."""
    by_fitter: dict[Fitter, list[int]] = {_frozen: [], _trained: []}
    for number, cells in enumerate(jobs):
        if cells[0].readout_component.fitted_by == "gradient":
            by_fitter[_trained if cells[0].twin else _frozen].append(number)
        else:
            yield [(number, _or_error(partial(_fit_in_turn, worker, cells)))]
    for fitter, numbers in by_fitter.items():
        yield from _fit_together(fitter, worker, jobs, numbers, halving)


def _fit_together(
    fitter: Fitter,
    worker: WorkerData,
    jobs: Sequence[Sequence[Cell]],
    numbers: Sequence[int],
    halving: SuccessiveHalving | None,
) -> Iterator[Done]:
    """Some of the jobs at once; where something unforeseen ends that, those that are left are fitted one by one."""
    left = dict.fromkeys(numbers)
    try:
        for done in fitter(worker, [jobs[number] for number in numbers], halving):
            for turn, _ in done:
                left.pop(numbers[turn])
            yield [(numbers[turn], outcome) for turn, outcome in done]
    except Exception as error:
        for number in left:
            if len(numbers) == 1:
                yield [(number, error)]
            else:
                yield from _fit_together(fitter, worker, jobs, [number], halving)


def _frozen(worker: WorkerData, jobs: Sequence[Sequence[Cell]], halving: SuccessiveHalving | None) -> Iterator[Done]:
    from sweeps.fitting.frozen_backbones import fit_frozen_cells

    for done in fit_frozen_cells(worker, [cell for (cell,) in jobs], halving):
        yield [(turn, outcome if isinstance(outcome, Exception) else [outcome]) for turn, outcome in done]


def _trained(worker: WorkerData, jobs: Sequence[Sequence[Cell]], halving: SuccessiveHalving | None) -> Iterator[Done]:
    from sweeps.fitting.trained_cores import fit_trained_twins

    yield from fit_trained_twins(worker, jobs, halving)


def _fit_in_turn(worker: WorkerData, cells: Sequence[Cell]) -> list[CellFit]:
    if cells[0].readout_component.fitted_by == "latent":
        from sweeps.fitting.latent_twins import fit_latent_twin

        return fit_latent_twin(worker, cells)
    return [_fit_closed_form(worker, cell) for cell in cells]


def _or_error(action: Callable[[], T]) -> T | Exception:
    """What an action gives, or its error."""
    try:
        return action()
    except Exception as error:
        return error


def _cached_fits(worker: WorkerData, cells: Sequence[Cell], cache: FitCache) -> list[CellFit] | None:
    """The fits of a job from the cache, None unless all are there."""
    fits = []
    for cell in cells:
        fit = cache.load(cell.cell_id, _shown_keys(worker, cell))
        if fit is None:
            return None
        fit.transferred = feature_transfers(worker, cell)
        fits.append(fit)
    return fits


def _saved(
    worker: WorkerData, cells: Sequence[Cell], fits: list[CellFit] | Exception, cache: FitCache
) -> list[CellFit] | Exception:
    """Fits of a job, after they were put into the cache."""
    if isinstance(fits, Exception):
        return fits
    for cell, fit in zip(cells, fits, strict=True):
        if not fit.pruned:
            cache.save(cell.cell_id, fit, _shown_keys(worker, cell))
        fit.transferred = feature_transfers(worker, cell)
    return fits


def _shown_keys(worker: WorkerData, cell: Cell) -> dict[str, str]:
    return worker.shown_keys(worker.recording(cell.recording), cell.backbone_component.sees)


def _fit_closed_form(worker: WorkerData, cell: Cell) -> CellFit:
    recording = worker.recording(cell.recording)
    folds = worker.folds(recording, cell.seed)
    fit, alphas = empty_fit(recording, len(recording.units(cell.area))), []
    for fold in folds:
        for split in SPLITS:
            held_out, fitted = fold.held_out(split), fold.fitted_on(split, cell.readout["refit"])
            bands = bands_of(worker, recording, cell, fitted)
            readout = fit_readout(worker, recording, bands, cell, fitted)
            fit.held_out[split][held_out] = readout.predict([band.fit[held_out] for band in bands])
            key = ("mean", recording.fingerprint, cell.area, rows_key(fitted))
            mean = partial(mean_response, recording, cell.area, fitted)
            fit.baseline[split][held_out] = worker.of_recordings.get(key, mean)
            for name in bands[0].shown:
                share = readout.predict([band.shown[name] for band in bands]) / len(folds)
                fit.shown[split][name] = fit.shown[split].get(name, 0.0) + share
            alphas.append(readout.alpha)
    alpha = np.concatenate(alphas)
    alpha = alpha[np.isfinite(alpha)]
    if len(alpha):
        fit.facts["alpha"] = float(np.median(alpha))
    return fit
