"""Readouts and twins that are fitted by gradient descent, one twin at a time.

Stacked training of same-shape twins has its place here: `fit_trained_twin` takes the cells of one twin, and a
stack is a list of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from models.backbones import BACKBONES
from models.fit import FitSettings, ReadoutData, fit_gaussian, fit_twin, predict
from models.readouts.gaussian import GaussianReadout
from models.twin import Twin
from sweeps.cells import Cell
from sweeps.features import as_images
from sweeps.fits import SPLITS, CellFit, empty_fit
from sweeps.fitting import mean_response
from sweeps.recordings.recording import Recording
from sweeps.splits import Fold
from sweeps.workshop import Workshop


def fit_gaussian_cell(workshop: Workshop, cell: Cell) -> CellFit:
    """A Gaussian readout of a frozen backbone's maps."""
    recording = workshop.recording(cell.recording)
    units = recording.units(cell.area)
    responses = torch.from_numpy(recording.fit.average[:, units]).float()
    folds = workshop.folds(recording, cell.seed)
    found = empty_fit(recording, len(units))
    maps = {name: _maps(workshop, recording, name, cell) for name in workshop.shown(recording)}
    for fold in folds:
        train, select = torch.from_numpy(fold.train), torch.from_numpy(fold.select)
        readout = fit_gaussian(maps["fit"], responses.to(workshop.device), train, select, cell.readout, cell.seed)
        twin = Twin(None, {"": readout})
        predicted = {name: predict(twin, each, [""])[""] for name, each in maps.items()}
        _keep(found, fold, mean_response(recording, cell.area, fold.train), predicted, len(folds))
    return found


def _maps(workshop: Workshop, recording: Recording, name: str, cell: Cell) -> Tensor:
    maps = workshop.maps(recording, name, cell.backbone, cell.seed, cell.depth, cell.readout["pool"])
    return torch.from_numpy(np.ascontiguousarray(maps)).to(workshop.device)


def _keep(found: CellFit, fold: Fold, baseline: np.ndarray, predicted: dict[str, Tensor], folds: int) -> None:
    """Put a fold's predictions in their places; one fit serves both splits."""
    arrays = {name: each.cpu().double().numpy() for name, each in predicted.items()}
    for split in SPLITS:
        rows = fold.held_out(split)
        found.held_out[split][rows] = arrays["fit"][rows]
        found.baseline[split][rows] = baseline
        for name, array in arrays.items():
            if name != "fit":
                found.shown[split][name] = found.shown[split].get(name, 0.0) + array / folds


def fit_trained_twin(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit]:
    """A core trained together with a Gaussian readout per cell, once per outer fold."""
    recordings = {cell.recording: workshop.recording(cell.recording) for cell in cells}
    counts = {name: len(workshop.folds(recording, cells[0].seed)) for name, recording in recordings.items()}
    images = {name: _images(workshop, recording) for name, recording in recordings.items()}
    found = [empty_fit(recordings[cell.recording], len(recordings[cell.recording].units(cell.area))) for cell in cells]
    for turn, (twin, folds) in enumerate(trained_twins(workshop, cells, images)):
        for cell, each in zip(cells, found, strict=True):
            if turn < counts[cell.recording]:
                key, fold = cell_key(cell), folds[cell.recording]
                predicted = {
                    name: predict(twin, pictures, [key])[key] for name, pictures in images[cell.recording].items()
                }
                baseline = mean_response(recordings[cell.recording], cell.area, fold.train)
                _keep(each, fold, baseline, predicted, counts[cell.recording])
    return found


def trained_twins(
    workshop: Workshop, cells: Sequence[Cell], images: dict[str, dict[str, Tensor]] | None = None
) -> Iterator[tuple[Twin, dict[str, Fold]]]:
    """The twin of every outer fold with the fold of each recording; those with fewer folds repeat their last one."""
    recordings = {cell.recording: workshop.recording(cell.recording) for cell in cells}
    images = images or {name: _images(workshop, recording) for name, recording in recordings.items()}
    folds = {name: workshop.folds(recording, cells[0].seed) for name, recording in recordings.items()}
    for turn in range(max(len(each) for each in folds.values())):
        now = {name: each[min(turn, len(each) - 1)] for name, each in folds.items()}
        yield _train(workshop, cells, recordings, images, now), now


def _images(workshop: Workshop, recording: Recording) -> dict[str, Tensor]:
    cpu = torch.device("cpu")
    shown = workshop.shown(recording)
    return {name: as_images(held.load(slice(0, held.count)), cpu) for name, held in shown.items()}


def _train(
    workshop: Workshop,
    cells: Sequence[Cell],
    recordings: dict[str, Recording],
    images: dict[str, dict[str, Tensor]],
    folds: dict[str, Fold],
) -> Twin:
    first = cells[0]
    core = BACKBONES[first.backbone["name"]].load()(first.backbone, first.seed)
    readouts, data = {}, {}
    for name, recording in recordings.items():
        responses = {}
        for cell in cells:
            if cell.recording == name:
                units = recording.units(cell.area)
                rate = first.readout["loss"] == "poisson"
                readouts[cell_key(cell)] = GaussianReadout(
                    first.backbone["channels"], len(units), first.seed, rate=rate
                )
                responses[cell_key(cell)] = torch.from_numpy(recording.fit.average[:, units]).float()
        rows = (torch.from_numpy(part) for part in (folds[name].train, folds[name].select))
        data[name] = ReadoutData(images[name]["fit"], responses, *rows)
    twin = Twin(core, readouts, {cell_key(cell): cell.depth for cell in cells}).to(workshop.device)
    settings = FitSettings(
        first.backbone["learning_rate"], first.backbone["epochs"], first.backbone["patience"], seed=first.seed
    )
    fit_twin(twin, data, first.readout["loss"], settings, first.readout["l1"])
    return twin


def cell_key(cell: Cell) -> str:
    """Name of a cell's readout in its twin."""
    return f"{cell.recording}/{cell.area}"
