"""Readouts and twins that are fitted by gradient descent, one twin at a time.

Stacked training of same-shape twins has its place here: `fit_trained_twin` takes the cells of one twin, and a
stack is a list of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.assembly import assemble
from models.backbones import BACKBONES
from models.fit import FitSettings, ReadoutData, fit_frozen_both, fit_twin, predict, refit_twin
from models.readouts.protocol import Readout
from models.twin import Twin
from sweeps.cells import Cell
from sweeps.depths import resolve
from sweeps.fits import SPLITS, CellFit, empty_fit
from sweeps.fitting import mean_response
from sweeps.items import Items, items_of, still_frames
from sweeps.recordings.recording import Recording
from sweeps.shared_stimuli import kept_apart
from sweeps.splits import Fold
from sweeps.workshop import Workshop


def fit_frozen_cell(workshop: Workshop, cell: Cell) -> CellFit:
    """A gradient readout of a frozen backbone's maps."""
    recording = workshop.recording(cell.recording)
    folds = workshop.folds(recording, cell.seed)
    found = empty_fit(recording, len(recording.units(cell.area)))
    sees = BACKBONES[cell.backbone["name"]].sees
    names = ["fit"] if sees == "features" else list(workshop.shown(recording, sees))
    maps = {name: _maps(workshop, recording, name, cell) for name in names}
    for fold, readouts in zip(folds, frozen_readouts(workshop, cell, maps["fit"]), strict=True):
        for split, readout in zip(SPLITS, readouts, strict=True):
            twin = Twin(None, {"": readout})
            predicted = {name: predict(twin, each, [""])[""].cpu().double().numpy() for name, each in maps.items()}
            baseline = mean_response(recording, cell.area, fold.fitted_on(split, cell.readout["refit"]))
            found.keep(fold, split, baseline, predicted, len(folds))
    return found


def frozen_readouts(
    workshop: Workshop, cell: Cell, maps: Sequence[Tensor] | None = None
) -> Iterator[tuple[Readout, Readout]]:
    """The readouts of every outer fold: of select predictions, and of report predictions (fitted anew with refit)."""
    recording = workshop.recording(cell.recording)
    maps = maps or _maps(workshop, recording, "fit", cell)
    units = recording.units(cell.area)
    responses = torch.from_numpy(recording.fit.average[:, units]).float().to(workshop.device)
    for fold in workshop.folds(recording, cell.seed):
        train, select = torch.from_numpy(fold.train), torch.from_numpy(fold.select)
        yield fit_frozen_both(
            cell.readout["name"],
            maps,
            responses,
            train,
            select,
            cell.readout,
            cell.seed,
            places(recording, units),
            bool(cell.readout["refit"]),
        )


def places(recording: Recording, units: np.ndarray) -> Tensor | None:
    """Places of some units in cortex, where they are known."""
    return None if recording.coordinates is None else torch.from_numpy(recording.coordinates[units]).float()


def _maps(workshop: Workshop, recording: Recording, name: str, cell: Cell) -> list[Tensor]:
    pool = cell.readout.get("pool", 1)
    maps = (workshop.maps(recording, name, cell.backbone, cell.seed, block, pool) for block in cell.blocks)
    return [torch.from_numpy(np.ascontiguousarray(each)).float().to(workshop.device) for each in maps]


@dataclass(frozen=True)
class TrainedTwin:
    """The twin of one outer fold: for select predictions, and for report predictions (fitted anew with refit)."""

    select: Twin
    report: Twin
    folds: dict[str, Fold]


def fit_trained_twin(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit]:
    """A core trained together with a readout per cell, once per outer fold."""
    recordings = {cell.recording: workshop.recording(cell.recording) for cell in cells}
    counts = {name: len(workshop.folds(recording, cells[0].seed)) for name, recording in recordings.items()}
    shown = {name: all_items(workshop, cells[0], recording) for name, recording in recordings.items()}
    found = [empty_fit(recordings[cell.recording], len(recordings[cell.recording].units(cell.area))) for cell in cells]
    fits = {cell_key(cell): each for cell, each in zip(cells, found, strict=True)}
    for turn, twin in enumerate(trained_twins(workshop, cells, {name: each["fit"] for name, each in shown.items()})):
        for cell in cells:
            if turn < counts[cell.recording]:
                fold, key = twin.folds[cell.recording], cell_key(cell)
                for split, part in zip(SPLITS, (twin.select, twin.report), strict=True):
                    predicted = {name: _predicted(part, key, items) for name, items in shown[cell.recording].items()}
                    baseline = mean_response(
                        recordings[cell.recording], cell.area, fold.fitted_on(split, cell.readout["refit"])
                    )
                    fits[key].keep(fold, split, baseline, predicted, counts[cell.recording])
    return found


def all_items(workshop: Workshop, cell: Cell, recording: Recording) -> dict[str, Items]:
    """Everything that the twin of a cell is shown of a recording, by name."""
    still = still_frames(cell.backbone)
    return {name: items_of(recording, name, each, still) for name, each in workshop.shown(recording).items()}


def _predicted(twin: Twin, key: str, items: Items) -> np.ndarray:
    found = predict(twin, items.inputs, [key], behaviour=items.behaviour, pupil=items.pupil)[key]
    return items.scattered(found)


def trained_twins(
    workshop: Workshop, cells: Sequence[Cell], items: Mapping[str, Items] | None = None
) -> Iterator[TrainedTwin]:
    """The twin of every outer fold with the fold of each recording; those with fewer folds repeat their last one."""
    recordings = {cell.recording: workshop.recording(cell.recording) for cell in cells}
    items = items or {name: all_items(workshop, cells[0], each)["fit"] for name, each in recordings.items()}
    folds = {name: workshop.folds(recording, cells[0].seed) for name, recording in recordings.items()}
    for turn in range(max(len(each) for each in folds.values())):
        now = {name: each[min(turn, len(each) - 1)] for name, each in folds.items()}
        yield TrainedTwin(*_train(workshop, cells, recordings, items, now), now)


def _train(
    workshop: Workshop,
    cells: Sequence[Cell],
    recordings: Mapping[str, Recording],
    items: Mapping[str, Items],
    folds: Mapping[str, Fold],
) -> tuple[Twin, Twin]:
    first = cells[0]
    rows = kept_apart(items, {name: each.groups for name, each in recordings.items()}, folds)
    data = {name: _data(cells, recordings[name], items[name], *rows[name]) for name in recordings}
    settings = FitSettings.of(first.seed, first.readout, first.backbone)
    twin = _assembled(workshop, cells, recordings, data)
    history = fit_twin(twin, data, settings)
    if not first.readout["refit"]:
        return twin, twin
    kept = _assembled(workshop, cells, recordings, data)
    kept.load_state_dict(twin.state_dict())
    refit_twin(twin, data, settings, history)
    return kept, twin


def _data(
    cells: Sequence[Cell], recording: Recording, items: Items, train: np.ndarray, select: np.ndarray
) -> ReadoutData:
    responses = {
        cell_key(cell): items.gathered(recording.fit.average[:, recording.units(cell.area)])
        for cell in cells
        if cell.recording == recording.name
    }
    chosen = items.among(train), items.among(select)
    return ReadoutData(items.inputs, responses, *chosen, items.behaviour, items.pupil)


def _assembled(
    workshop: Workshop, cells: Sequence[Cell], recordings: Mapping[str, Recording], data: Mapping[str, ReadoutData]
) -> Twin:
    first = cells[0]
    core = BACKBONES[first.backbone["name"]].load()(first.backbone, first.seed)
    coordinates = {}
    for cell in cells:
        recording = recordings[cell.recording]
        place = places(recording, recording.units(cell.area))
        if place is not None:
            coordinates[cell_key(cell)] = place
    twin = assemble(
        core,
        first.readout["name"],
        first.readout,
        data,
        {cell_key(cell): resolve(cell.blocks, 0) for cell in cells},
        first.seed,
        coordinates,
        behaviour=bool(first.backbone.get("behaviour")),
        gaze=bool(first.backbone.get("gaze")),
    )
    return twin.to(workshop.device)


def cell_key(cell: Cell) -> str:
    """Name of a cell's readout in its twin."""
    return f"{cell.recording}/{cell.area}"
