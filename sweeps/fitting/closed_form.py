"""Readouts in closed form: ridge, banded ridge and partial least squares, in dual form from one kernel per band."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.linear.banded import ShareSearch, balanced, fit_banded
from models.linear.block_choice import choose_block
from models.linear.pls import fit_pls
from models.linear.projection import johnson_lindenstrauss_size
from models.linear.ridge import fit_ridge
from models.readouts import READOUTS
from sweeps.experiment.cells import Cell
from sweeps.features.block_features import blocks_of_cell
from sweeps.features.kernels import Kernels
from sweeps.features.worker_data import WorkerData, rows_key
from sweeps.hashing import canonical
from sweeps.recordings.recording import Recording

Bands = tuple[Kernels, ...]
"""One kernel for every block of a cell, or for every feature set that it reads."""


@dataclass(frozen=True)
class Dual:
    """A fitted readout: prediction = sum over bands of K_b(x, used) @ duals_b + offset.

    `duals` (bands, used stimuli, units); `offset` (units,); `alpha` (units,) is relative, NaN where there is none.
    """

    duals: Tensor
    offset: Tensor
    alpha: Tensor

    def predict(self, kernels: Sequence[Tensor]) -> Tensor:
        """Responses (rows, units) from one kernel (rows, used stimuli) for each band."""
        parts = [kernel @ dual for kernel, dual in zip(kernels, self.duals, strict=True)]
        return (parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)) + self.offset


def bands_of(worker: WorkerData, recording: Recording, cell: Cell, rows: np.ndarray) -> Bands:
    """Kernels that a cell's readout is fitted from at the stimuli `rows`, shared by the cells that read the same."""
    how, readout = cell.readout.get("kernel", "centred"), cell.readout
    size = johnson_lindenstrauss_size(len(recording.groups), readout["eps"]) if how == "projection" else 0
    projection = (size, readout["projection_seed"] if size else 0)
    blocks = blocks_of_cell(recording, cell)
    key = (tuple(block.key for block in blocks), how, projection)
    if how == "centred":
        bands: Bands = worker.bands.get(key, lambda: tuple(map(worker.kernels, blocks)))
        return bands
    columns = worker.bands.get(key, lambda: tuple(worker.columns(block, *projection) for block in blocks))
    fitted = rows_key(rows)
    scaled: Bands = worker.standardised.get(
        (key, fitted), lambda: tuple(block.standardised(rows, f"{block.key} {fitted.hex()}") for block in columns)
    )
    return scaled


def fit_readout(
    worker: WorkerData, recording: Recording, bands: Bands, cell: Cell, rows: np.ndarray
) -> ClosedFormReadout:
    """The readout of a cell's units from some stimuli; cells that differ in seed only may share it."""
    responses = recording.fit.average[:, recording.units(cell.area)]
    key = (tuple(band.key for band in bands), cell.area, canonical(cell.readout), rows_key(rows))
    readout: ClosedFormReadout = worker.readouts.get(
        key, lambda: ClosedFormReadout.fit(worker, recording, bands, responses, rows, cell.readout)
    )
    return readout


@dataclass(frozen=True)
class Sample:
    """What units are fitted to: responses (stimuli, units) to the stimuli `rows`, and the groups of those."""

    responses: Tensor
    rows: np.ndarray
    groups: np.ndarray

    def inside(self, bands: Bands) -> list[Tensor]:
        """The bands' kernels among these stimuli."""
        place = torch.from_numpy(self.rows).to(self.responses.device)
        return [band.fit[place][:, place] for band in bands]


@dataclass(frozen=True)
class ClosedFormReadout:
    """Readouts of the units of a cell; units with missing stimuli are fitted on the ones they have.

    A unit that was recorded in one group of them or none is predicted as constant: its mean there, or 0. `parts` are
    pairs of units and stimuli, and the fit of those units on those stimuli. Units of different parts never share
    components (PLS).
    """

    parts: list[tuple[np.ndarray, np.ndarray, Dual]]
    units: int

    @classmethod
    def fit(
        cls,
        worker: WorkerData,
        recording: Recording,
        bands: Bands,
        responses: np.ndarray,
        rows: np.ndarray,
        readout: Mapping[str, Any],
    ) -> ClosedFormReadout:
        """Fit responses (stimuli, units) at `rows`, one decomposition per pattern of missing stimuli."""
        solve = SOLVERS[READOUTS[readout["name"]].fitted_by]
        present = np.isfinite(responses[rows])
        patterns, member = _patterns(present)
        parts = []
        for index in range(patterns.shape[1]):
            own = np.flatnonzero(member == index)
            used = rows[patterns[:, index]]
            recorded = torch.from_numpy(responses[np.ix_(used, own)]).to(bands[0].fit.device)
            sample = Sample(recorded, used, recording.groups[used])
            enough = len(used) > 0 and bool((sample.groups != sample.groups[0]).any())
            parts.append((own, used, solve(worker, bands, readout, sample) if enough else _constant(bands, sample)))
        return cls(parts, responses.shape[1])

    def predict(self, kernels: Sequence[Tensor]) -> np.ndarray:
        """Responses (rows, units) from one kernel (rows, all fit stimuli) for each band."""
        predicted = np.empty((len(kernels[0]), self.units))
        for own, used, fitted in self.parts:
            place = torch.from_numpy(used).to(kernels[0].device)
            predicted[:, own] = fitted.predict([kernel[:, place] for kernel in kernels]).cpu().numpy()
        return predicted

    @property
    def alpha(self) -> np.ndarray:
        """Chosen relative alpha of every unit, in no order; NaN where there is none."""
        return np.concatenate([fitted.alpha.cpu().numpy() for _, _, fitted in self.parts])


def _patterns(present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct columns of what is present (stimuli, units), and which of them every unit has."""
    if present.all():
        return present[:, :1], np.zeros(present.shape[1], dtype=int)
    patterns: tuple[np.ndarray, np.ndarray] = np.unique(present, axis=1, return_inverse=True)
    return patterns


def _constant(bands: Bands, sample: Sample) -> Dual:
    """The mean response, whatever is shown: 0 without any."""
    offset = sample.responses.sum(dim=0) / max(1, len(sample.responses))
    duals = sample.responses.new_zeros(len(bands), *sample.responses.shape)
    return Dual(duals, offset, torch.full_like(offset, torch.nan))


def _ridge(worker: WorkerData, bands: Bands, readout: Mapping[str, Any], sample: Sample) -> Dual:
    if readout.get("layer") == "nested" and len(bands) > 1:
        return _nested(worker, bands, readout, sample)
    kernel, factors = balanced(sample.inside(bands))
    parts = worker.decomposition(bands, kernel, sample.rows)
    fitted = fit_ridge(parts, kernel, sample.responses, sample.groups, readout["alpha"], left_out=False)
    return Dual(torch.stack([fitted.dual * factor for factor in factors]), fitted.offset, fitted.alpha)


def _nested(worker: WorkerData, bands: Bands, readout: Mapping[str, Any], sample: Sample) -> Dual:
    """Every unit from the one band that predicts it best among the stimuli of the fit, by leave-one-group-out."""
    kernels = sample.inside(bands)
    parts = [worker.decomposition((band,), kernel, sample.rows) for band, kernel in zip(bands, kernels, strict=True)]
    choice = choose_block(kernels, sample.responses, sample.groups, readout["alpha"], parts=parts)
    taken = torch.arange(len(bands), device=choice.block.device)[:, None] == choice.block
    duals = torch.stack([fit.dual for fit in choice.fits]) * taken[:, None]
    offset, alpha = torch.stack([torch.stack([fit.offset, fit.alpha]) for fit in choice.fits], dim=1)
    return Dual(duals, (offset * taken).sum(dim=0), (alpha * taken).sum(dim=0))


def _pls(worker: WorkerData, bands: Bands, readout: Mapping[str, Any], sample: Sample) -> Dual:
    kernel, factors = balanced(sample.inside(bands))
    fitted = fit_pls(kernel, sample.responses, readout["components"])
    duals = torch.stack([fitted.dual * factor for factor in factors])
    return Dual(duals, fitted.offset, torch.full_like(fitted.offset, torch.nan))


def _banded(worker: WorkerData, bands: Bands, readout: Mapping[str, Any], sample: Sample) -> Dual:
    search = ShareSearch(readout["folds"], readout["iterations"], readout["search_seed"])
    fitted = fit_banded(sample.inside(bands), sample.responses, sample.groups, readout["alpha"], search)
    return Dual(fitted.duals, fitted.offset, fitted.alpha)


SOLVERS: dict[str, Callable[..., Dual]] = {"ridge": _ridge, "pls": _pls, "banded": _banded}
"""How a readout is fitted in closed form, by the `fitted_by` of its component."""


def linear_layer(worker: WorkerData, cell: Cell) -> Callable[[Tensor], Tensor]:
    """A cell's report readout in primal form, mean over folds, of the flat maps (n, features) of its blocks, in order.

    response = (maps - centre) @ W + offset, with W = X' duals for every block (back through z-scoring and projection,
    where there are any). With delays it is the response to a picture that is held.
    """
    recording = worker.recording(cell.recording)
    folds = worker.folds(recording, cell.seed)
    summed: list[Tensor] = []
    for fold in folds:
        rows = fold.fitted_on("report", cell.readout["refit"])
        bands = bands_of(worker, recording, cell, rows)
        primal = _primal(bands, fit_readout(worker, recording, bands, cell, rows))
        summed = [a + b for a, b in zip(summed, primal, strict=True)] if summed else list(primal)
    weights, offset = ((total / len(folds)).float().to(worker.device) for total in summed)
    centre = torch.cat([band.centre for band in bands]).to(weights)
    return lambda maps: (maps - centre) @ weights + offset


def _primal(bands: Bands, readout: ClosedFormReadout) -> tuple[Tensor, Tensor]:
    """Weights (features of all bands, units) on centred features, and offset (units,), float64."""
    weights = torch.zeros(sum(len(band.centre) for band in bands), readout.units, dtype=torch.float64)
    offset = torch.zeros(readout.units, dtype=torch.float64)
    for own, used, fitted in readout.parts:
        of_bands = [band.weights(dual, used) for band, dual in zip(bands, fitted.duals, strict=True)]
        weights[:, own] = torch.cat([own_weights for own_weights, _ in of_bands]).cpu()
        offset[own] = (torch.stack([constant for _, constant in of_bands]).sum(dim=0) + fitted.offset).cpu()
    return weights, offset
