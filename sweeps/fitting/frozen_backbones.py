"""Readouts of frozen backbones that are fitted by gradient descent, many cells at once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.training.frozen_backbone import Fitted, FrozenFit, fit_frozen_many
from models.training.gradient_fit import predict
from models.training.stacked.strategy import free_bytes
from models.twin import Twin
from sweeps.experiment.cells import Cell
from sweeps.features.block_features import BlockFeatures
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.cell_fit import SPLITS, CellFit, empty_fit, mean_response
from sweeps.fitting.successive_halving import SuccessiveHalving
from sweeps.fitting.twin_inputs import coordinates_of
from sweeps.recordings.recording import Recording

MEMORY = 0.25
"""Share of the free memory that the maps of cells may fill which are fitted in one go."""


def fit_frozen_cells(
    worker: WorkerData, cells: Sequence[Cell], halving: SuccessiveHalving | None = None, path: str = "auto"
) -> Iterator[list[tuple[int, CellFit | Exception]]]:
    """Gradient readouts of frozen backbones' maps: (number, fit) of cells, as they are done.

    Cells whose maps have one shape are fitted as stacks, `path` as in `models.training.stacked.fit_many.fit_twins`,
    as many at a time as there is memory for; the error of one cell is its outcome alone.
    """
    for numbers, maps in _batches(worker, cells):
        for done in _fitted(worker, [cells[number] for number in numbers], maps, halving, path):
            yield [(numbers[turn], outcome) for turn, outcome in done]


def frozen_readouts(worker: WorkerData, cell: Cell) -> list[Fitted]:
    """The readouts of every outer fold of a cell, never ended half-way; raises what its fit raises."""
    ((_, maps),) = _batches(worker, [cell])
    readouts: dict[int, Fitted] = {}
    for done in fit_frozen_many(_requests(worker, cell, maps[0], None)):
        for turn, outcome in done:
            if isinstance(outcome, Exception):
                raise outcome
            readouts[turn] = outcome
    return [readouts[turn] for turn in range(len(readouts))]


def _fitted(
    worker: WorkerData,
    cells: Sequence[Cell],
    maps: Sequence[Sequence[Tensor]],
    halving: SuccessiveHalving | None,
    path: str,
) -> Iterator[list[tuple[int, CellFit | Exception]]]:
    requests = [_requests(worker, cell, own_maps, halving) for cell, own_maps in zip(cells, maps, strict=True)]
    owners = [(number, turn) for number, of_cell in enumerate(requests) for turn in range(len(of_cell))]
    fitted: list[dict[int, Fitted | Exception]] = [{} for _ in cells]
    for outcomes in fit_frozen_many([request for of_cell in requests for request in of_cell], path):
        done = []
        for index, outcome in outcomes:
            number, turn = owners[index]
            fitted[number][turn] = outcome
            if len(fitted[number]) == len(requests[number]):
                folds = [fitted[number][fold] for fold in range(len(requests[number]))]
                done.append((number, _fit_of(worker, cells[number], maps[number], folds)))
        if done:
            yield done


def _requests(
    worker: WorkerData, cell: Cell, maps: Sequence[Tensor], halving: SuccessiveHalving | None
) -> list[FrozenFit]:
    """What is to be fitted for a cell, one readout for each outer fold; halving compares the cells of one area."""
    recording = worker.recording(cell.recording)
    units = recording.units(cell.area)
    key = "responses", recording.fingerprint, cell.area
    responses = worker.of_recordings.get(key, lambda: torch.from_numpy(recording.fit.average[:, units]).float())
    responses, refit = responses.to(worker.device), bool(cell.readout["refit"])
    return [
        FrozenFit(
            cell.readout["name"],
            maps,
            responses,
            torch.from_numpy(fold.train),
            torch.from_numpy(fold.select),
            cell.readout,
            cell.seed,
            coordinates_of(recording, units),
            refit,
            halving.pruner(f"{cell.recording}/{cell.area}/{turn}", cell.cell_id) if halving else None,
        )
        for turn, fold in enumerate(worker.folds(recording, cell.seed))
    ]


def _fit_of(
    worker: WorkerData, cell: Cell, maps: Sequence[Tensor], folds: Sequence[Fitted | Exception]
) -> CellFit | Exception:
    """Predictions of the readouts of all outer folds; the first error if there is one."""
    recording = worker.recording(cell.recording)
    shown = {**_shown(worker, recording, cell), "fit": maps}
    fit = empty_fit(recording, len(recording.units(cell.area)))
    for fold, readouts in zip(worker.folds(recording, cell.seed), folds, strict=True):
        if isinstance(readouts, Exception):
            return readouts
        fit.pruned |= readouts.pruned
        for split, readout in zip(SPLITS, readouts[:2], strict=True):
            twin = Twin(None, {"": readout})
            predicted = {name: predict(twin, inputs, [""])[""].cpu().double().numpy() for name, inputs in shown.items()}
            baseline = mean_response(recording, cell.area, fold.fitted_on(split, cell.readout["refit"]))
            fit.add_fold(fold, split, baseline, predicted, len(folds))
    return fit


def _shown(worker: WorkerData, recording: Recording, cell: Cell) -> Mapping[str, list[Tensor]]:
    """Maps of everything that a cell's twin is shown beside the stimuli it is fitted on, by name."""
    sees = cell.backbone_component.sees
    names = [] if sees == "features" else list(worker.shown(recording, sees))
    blocks = _blocks(recording, cell)
    return {name: _maps(worker, blocks, name) for name in names if name != "fit"}


def _blocks(recording: Recording, cell: Cell) -> list[BlockFeatures]:
    """The blocks that a cell reads; several feature sets of a recording are read as one."""
    pool = cell.readout.get("pool", 1)
    return [BlockFeatures(recording, cell.backbone, cell.seed, depth, pool) for depth in cell.blocks]


def _maps(worker: WorkerData, blocks: Sequence[BlockFeatures], name: str) -> list[Tensor]:
    maps = (worker.maps(block, name) for block in blocks)
    return [torch.from_numpy(np.ascontiguousarray(array)).float().to(worker.device) for array in maps]


@dataclass
class _Batch:
    """Cells that are fitted in one go, and the maps that they read."""

    numbers: list[int]
    maps: dict[Hashable, list[Tensor]]
    keys: list[Hashable]
    bytes: float = 0.0

    def maps_of_cells(self) -> list[list[Tensor]]:
        """The maps that each cell reads."""
        return [self.maps[key] for key in self.keys]


def _batches(worker: WorkerData, cells: Sequence[Cell]) -> Iterator[tuple[list[int], list[list[Tensor]]]]:
    """Cells in turn with their maps, as many together as memory allows, one at least; equal maps are there once."""
    limit = MEMORY * free_bytes(worker.device)
    batch = _Batch([], {}, [])
    for number, cell in enumerate(cells):
        recording = worker.recording(cell.recording)
        blocks = _blocks(recording, cell)
        key = tuple(block.key for block in blocks)
        maps = batch.maps.get(key) or _maps(worker, blocks, "fit")
        copies = len(worker.folds(recording, cell.seed)) + (key not in batch.maps)  # z-scored in each fold
        size = copies * sum(block_maps.nbytes for block_maps in maps)
        if batch.numbers and batch.bytes + size > limit:
            yield batch.numbers, batch.maps_of_cells()
            batch = _Batch([], {}, [])
        batch.numbers.append(number)
        batch.maps[key] = maps
        batch.keys.append(key)
        batch.bytes += size
    yield batch.numbers, batch.maps_of_cells()
