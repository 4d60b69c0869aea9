"""Readouts of frozen backbones that are fitted by gradient descent, many cells at once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.backbones import BACKBONES
from models.training.frozen_backbone import Fitted, FrozenFit, fit_frozen_many
from models.training.gradient_fit import predict
from models.training.stacked.strategy import free_bytes
from models.twin import Twin
from sweeps.experiment.cells import Cell
from sweeps.features.worker_data import Workshop
from sweeps.fitting.cell_fit import SPLITS, CellFit, empty_fit, mean_response
from sweeps.fitting.successive_halving import Halving
from sweeps.fitting.trained_inputs import places
from sweeps.recordings.recording import Recording

MEMORY = 0.25
"""Share of the free memory that the maps of cells may fill which are fitted in one go."""


def fit_frozen_cells(
    workshop: Workshop, cells: Sequence[Cell], halving: Halving | None = None, path: str = "auto"
) -> Iterator[list[tuple[int, CellFit | Exception]]]:
    """Gradient readouts of frozen backbones' maps: (number, fit) of cells, as they are done.

    Cells whose maps have one shape are fitted as stacks, `path` as in `models.training.stacked.fit_many.fit_twins`, as many at a time
    as there is memory for; the error of one cell is its outcome alone.
    """
    for numbers, maps in _batches(workshop, cells):
        for done in _fitted(workshop, [cells[number] for number in numbers], maps, halving, path):
            yield [(numbers[turn], outcome) for turn, outcome in done]


def frozen_readouts(workshop: Workshop, cell: Cell) -> list[Fitted]:
    """The readouts of every outer fold of a cell, never ended half-way; raises what its fit raises."""
    ((_, maps),) = _batches(workshop, [cell])
    found: dict[int, Fitted] = {}
    for done in fit_frozen_many(_wanted(workshop, cell, maps[0], None)):
        for turn, outcome in done:
            if isinstance(outcome, Exception):
                raise outcome
            found[turn] = outcome
    return [found[turn] for turn in range(len(found))]


def _fitted(
    workshop: Workshop,
    cells: Sequence[Cell],
    maps: Sequence[Sequence[Tensor]],
    halving: Halving | None,
    path: str,
) -> Iterator[list[tuple[int, CellFit | Exception]]]:
    wanted = [_wanted(workshop, cell, held, halving) for cell, held in zip(cells, maps, strict=True)]
    places = [(number, turn) for number, each in enumerate(wanted) for turn in range(len(each))]
    found: list[dict[int, Fitted | Exception]] = [{} for _ in cells]
    for outcomes in fit_frozen_many([each for one in wanted for each in one], path):
        done = []
        for place, outcome in outcomes:
            number, turn = places[place]
            found[number][turn] = outcome
            if len(found[number]) == len(wanted[number]):
                folds = [found[number][each] for each in range(len(wanted[number]))]
                done.append((number, _fit_of(workshop, cells[number], maps[number], folds)))
        if done:
            yield done


def _wanted(workshop: Workshop, cell: Cell, maps: Sequence[Tensor], halving: Halving | None) -> list[FrozenFit]:
    """The readouts that a cell asks for, one for each outer fold; halving compares the cells of one area."""
    recording = workshop.recording(cell.recording)
    units = recording.units(cell.area)
    key = "responses", recording.fingerprint, cell.area
    responses = workshop.brain.get(key, lambda: torch.from_numpy(recording.fit.average[:, units]).float())
    held, refit = responses.to(workshop.device), bool(cell.readout["refit"])
    return [
        FrozenFit(
            cell.readout["name"],
            maps,
            held,
            torch.from_numpy(fold.train),
            torch.from_numpy(fold.select),
            cell.readout,
            cell.seed,
            places(recording, units),
            refit,
            halving.judge(f"{cell.recording}/{cell.area}/{turn}", cell.cell_id) if halving else None,
        )
        for turn, fold in enumerate(workshop.folds(recording, cell.seed))
    ]


def _fit_of(
    workshop: Workshop, cell: Cell, maps: Sequence[Tensor], folds: Sequence[Fitted | Exception]
) -> CellFit | Exception:
    """Predictions of the readouts of all outer folds; the first error if there is one."""
    recording = workshop.recording(cell.recording)
    shown = {**_shown(workshop, recording, cell), "fit": maps}
    found = empty_fit(recording, len(recording.units(cell.area)))
    for fold, readouts in zip(workshop.folds(recording, cell.seed), folds, strict=True):
        if isinstance(readouts, Exception):
            return readouts
        found.pruned |= readouts.pruned
        for split, readout in zip(SPLITS, readouts[:2], strict=True):
            twin = Twin(None, {"": readout})
            predicted = {name: predict(twin, each, [""])[""].cpu().double().numpy() for name, each in shown.items()}
            baseline = mean_response(recording, cell.area, fold.fitted_on(split, cell.readout["refit"]))
            found.keep(fold, split, baseline, predicted, len(folds))
    return found


def _shown(workshop: Workshop, recording: Recording, cell: Cell) -> Mapping[str, list[Tensor]]:
    """Maps of everything that a cell's twin is shown beside the stimuli it is fitted on, by name."""
    sees = BACKBONES[cell.backbone["name"]].sees
    names = [] if sees == "features" else list(workshop.shown(recording, sees))
    return {name: _maps(workshop, recording, name, cell) for name in names if name != "fit"}


def _maps(workshop: Workshop, recording: Recording, name: str, cell: Cell) -> list[Tensor]:
    pool = cell.readout.get("pool", 1)
    maps = (workshop.maps(recording, name, cell.backbone, cell.seed, block, pool) for block in cell.blocks)
    return [torch.from_numpy(np.ascontiguousarray(each)).float().to(workshop.device) for each in maps]


@dataclass
class _Batch:
    """Cells that are fitted in one go, and the maps that they read."""

    numbers: list[int]
    maps: dict[Hashable, list[Tensor]]
    keys: list[Hashable]
    bytes: float = 0.0


def _batches(workshop: Workshop, cells: Sequence[Cell]) -> Iterator[tuple[list[int], list[list[Tensor]]]]:
    """Cells in turn with their maps, as many together as memory allows, one at least; the same maps are held once."""
    limit = MEMORY * free_bytes(workshop.device)
    batch = _Batch([], {}, [])
    for number, cell in enumerate(cells):
        recording = workshop.recording(cell.recording)
        used = BACKBONES[cell.backbone["name"]].seed_in_use(cell.backbone, cell.seed)
        key = recording.fingerprint, repr(sorted(cell.backbone.items())), used, cell.blocks, cell.readout.get("pool", 1)
        maps = batch.maps.get(key) or _maps(workshop, recording, "fit", cell)
        copies = len(workshop.folds(recording, cell.seed)) + (key not in batch.maps)  # z-scored in each fold
        size = copies * sum(each.numel() * each.element_size() for each in maps)
        if batch.numbers and batch.bytes + size > limit:
            yield batch.numbers, [batch.maps[each] for each in batch.keys]
            batch = _Batch([], {}, [])
        batch.numbers.append(number)
        batch.maps[key] = maps
        batch.keys.append(key)
        batch.bytes += size
    yield batch.numbers, [batch.maps[each] for each in batch.keys]
