"""A fitted cell as a function of pictures, for scores that show it new ones or differentiate it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.fit import fit_gaussian
from models.readouts.gaussian import shrink
from sweeps.cells import Cell
from sweeps.fitting import fit_readout
from sweeps.recordings.recording import Recording
from sweeps.training import cell_key, trained_twins
from sweeps.workshop import Workshop

Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Predictor:
    """Responses to any pictures: the mean over the folds of the readouts that gave the report predictions.

    `parts` are pairs of what leads from pictures (n, 3, *shape) in [0, 1] to maps, and from maps to responses
    (n, units); everything can be differentiated.
    """

    parts: Sequence[tuple[Layer, Layer]]
    shape: tuple[int, int]
    device: torch.device

    def __call__(self, pictures: Tensor) -> Tensor:
        """Responses (n, units)."""
        shared: dict[int, Tensor] = {}
        found = []
        for maps, readout in self.parts:
            shared[id(maps)] = shared[id(maps)] if id(maps) in shared else maps(pictures)
            found.append(readout(shared[id(maps)]))
        return torch.stack(found).mean(dim=0)


def is_linear(readout: Mapping[str, Any]) -> bool:
    """Whether a readout has the same Jacobian everywhere: ridge, and Gaussian readouts without a rate."""
    return readout["name"] == "ridge" or readout["loss"] != "poisson"


def predictors_of(workshop: Workshop, cells: Sequence[Cell]) -> list[Predictor]:
    """Predictors of cells that belong together (see fitting.fit_cells); gradient readouts are fitted again."""
    if cells[0].twin:
        return _of_trained(workshop, cells)
    return [_of_frozen(workshop, cell) for cell in cells]


def _of_frozen(workshop: Workshop, cell: Cell) -> Predictor:
    recording = workshop.recording(cell.recording)
    network = frozen_network(workshop, cell)
    pool = cell.readout.get("pool", 1)

    def maps(pictures: Tensor) -> Tensor:
        return shrink(network.forward_blocks(pictures, [cell.depth])[0], pool)  # type: ignore[operator]

    ridge = cell.readout["name"] == "ridge"
    readouts = (_ridge if ridge else _gaussian)(workshop, recording, cell)
    return Predictor([(maps, readout) for readout in readouts], _shape(recording), workshop.device)


def frozen_network(workshop: Workshop, cell: Cell) -> torch.nn.Module:
    make = partial(workshop.cache.network, cell.backbone, cell.seed)
    network: torch.nn.Module = workshop.networks.get(cell.network_key(), make)
    return network


def _ridge(workshop: Workshop, recording: Recording, cell: Cell) -> list[Layer]:
    """The readout in primal form, mean over folds: weights are features times dual."""
    kernels = workshop.kernels(recording, cell.backbone, cell.seed, cell.depth, cell.readout["pool"])
    folds = workshop.folds(recording, cell.seed)
    weights = torch.zeros(kernels.features.shape[1], len(recording.units(cell.area)), dtype=torch.float64)
    offset = torch.zeros(weights.shape[1], dtype=torch.float64)
    for fold in folds:
        readout = fit_readout(workshop, recording, kernels, cell, fold.fitted_on("report"))
        for own, used, fitted in readout.parts:
            features = kernels.features[torch.from_numpy(used).to(kernels.features.device)].double()
            weights[:, own] += (features.T @ fitted.dual).cpu() / len(folds)
            offset[own] += fitted.offset.cpu() / len(folds)
    device = kernels.features.device
    held, added = weights.float().to(device), offset.float().to(device)
    return [lambda maps: (maps.flatten(1) - kernels.centre) @ held + added]


def _gaussian(workshop: Workshop, recording: Recording, cell: Cell) -> list[Layer]:
    maps = workshop.maps(recording, "fit", cell.backbone, cell.seed, cell.depth, cell.readout["pool"])
    features = torch.from_numpy(maps).to(workshop.device)
    units = recording.units(cell.area)
    responses = torch.from_numpy(recording.fit.average[:, units]).float().to(workshop.device)
    found: list[Layer] = []
    for fold in workshop.folds(recording, cell.seed):
        train, select = torch.from_numpy(fold.train), torch.from_numpy(fold.select)
        found.append(fit_gaussian(features, responses, train, select, cell.readout, cell.seed).requires_grad_(False))
    return found


def _of_trained(workshop: Workshop, cells: Sequence[Cell]) -> list[Predictor]:
    twins = [twin.eval().requires_grad_(False) for twin, _ in trained_twins(workshop, cells)]
    found = []
    for cell in cells:
        key, recording = cell_key(cell), workshop.recording(cell.recording)
        own = twins[: len(workshop.folds(recording, cell.seed))]
        parts = [(_twin_maps(twin, key), twin.readout(key)) for twin in own]
        found.append(Predictor(parts, _shape(recording), workshop.device))
    return found


def _twin_maps(twin: torch.nn.Module, key: str) -> Layer:
    return lambda pictures: twin.maps(pictures, [key])[key]  # type: ignore[operator]


def _shape(recording: Recording) -> tuple[int, int]:
    assert recording.geometry is not None, "predictors are asked of recordings with pictures"
    return recording.geometry.shape
