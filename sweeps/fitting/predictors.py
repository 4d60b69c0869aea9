"""A fitted cell as a function of pictures, for scores that show it new ones or differentiate it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.readouts import READOUTS
from models.readouts.protocol import Readout
from models.readouts.sampling import Maps, as_list, shrink
from models.twin import Twin
from sweeps.experiment.cells import Cell, cell_key
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.closed_form import SOLVERS, linear_layer
from sweeps.fitting.frozen_backbones import frozen_readouts
from sweeps.fitting.trained_cores import trained_twins
from sweeps.fitting.twin_inputs import held_still, still_frames
from sweeps.recordings.recording import Recording

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
        responses = []
        for maps, readout in self.parts:
            shared[id(maps)] = shared[id(maps)] if id(maps) in shared else maps(pictures)
            responses.append(readout(shared[id(maps)]))
        return torch.stack(responses).mean(dim=0)


def is_linear(readout: Mapping[str, Any]) -> bool:
    """Whether a readout has the same Jacobian everywhere: closed forms, and readouts whose drive is the response."""
    if READOUTS[readout["name"]].fitted_by in SOLVERS:
        return True
    return readout.get("loss") in LINEAR_LOSSES and readout.get("activation", "none") == "none"


LINEAR_LOSSES = ("gaussian", "correlation")
"""Losses of a response that is the drive itself; the others are of rates, which have a nonlinearity."""


def has_predictor(readout: Mapping[str, Any]) -> bool:
    """Whether a readout can be turned into a function of pictures: not where units share latent factors."""
    return READOUTS[readout["name"]].fitted_by != "latent"


def predictors_of(worker: WorkerData, cells: Sequence[Cell]) -> list[Predictor]:
    """Predictors of cells that belong together (see fitting.fit_cells); gradient readouts are fitted again."""
    if cells[0].twin:
        return _of_trained(worker, cells)
    return [_of_frozen(worker, cell) for cell in cells]


def _of_frozen(worker: WorkerData, cell: Cell) -> Predictor:
    recording = worker.recording(cell.recording)
    network, device, shape = frozen_network(worker, cell), worker.device, _shape(recording)
    pool = cell.readout.get("pool", 1)

    def maps(pictures: Tensor) -> list[Tensor]:
        blocks = network.forward_blocks(pictures, cell.blocks)  # type: ignore[operator]
        return [shrink(block, pool) for block in blocks]

    if cell.readout_component.fitted_by in SOLVERS:
        return Predictor([(lambda pictures: _flat(maps(pictures)), linear_layer(worker, cell))], shape, device)
    readouts = [fitted.report.requires_grad_(False) for fitted in frozen_readouts(worker, cell)]
    return Predictor([_part(maps, readout, readout) for readout in readouts], shape, device)


def _flat(maps: Sequence[Tensor]) -> Tensor:
    return torch.cat([block.flatten(1) for block in maps], dim=1)


def _part(
    maps: Callable[[Tensor], list[Tensor]], readout: Readout, answer: Callable[[Maps], Tensor]
) -> tuple[Layer, Layer]:
    """From pictures to one tensor, and from it to responses: the map, or several flattened and joined."""
    if len(readout.shapes) == 1:
        return lambda pictures: maps(pictures)[0], answer

    def joined(flat: Tensor) -> Tensor:
        shapes = [(c, min(h, readout.pool or h), min(w, readout.pool or w)) for c, h, w in readout.shapes]
        parts = flat.split([math.prod(shape) for shape in shapes], dim=1)
        return answer([part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)])

    return lambda pictures: _flat(maps(pictures)), joined


def frozen_network(worker: WorkerData, cell: Cell) -> torch.nn.Module:
    """The frozen backbone of a cell, made once for the cells that read it."""
    make = partial(worker.features.network, cell.backbone, cell.seed)
    network: torch.nn.Module = worker.networks.get(cell.network_key(), make)
    return network


def _of_trained(worker: WorkerData, cells: Sequence[Cell]) -> list[Predictor]:
    twins = [twin.eval().requires_grad_(False) for twin in trained_twins(worker, cells)]
    still = still_frames(cells[0])
    predictors = []
    for cell in cells:
        key, recording = cell_key(cell), worker.recording(cell.recording)
        own = twins[: len(worker.folds(recording, cell.seed))]
        parts = [_twin_part(twin, key, still) for twin in own]
        predictors.append(Predictor(parts, _shape(recording), worker.device))
    return predictors


def _twin_part(twin: Twin, key: str, still: int) -> tuple[Layer, Layer]:
    """The core and one readout of a twin; pictures are held `still` for one of clips, which answers the last frame.

    Behaviour and gaze are the mean.
    """
    readout, lead = twin.readout(key), (1, still) if still else (1,)
    shifter, branch, device = twin.shifter(key), twin.branch, next(twin.parameters()).device
    shift = None if shifter is None else shifter(torch.full((1, 2), torch.nan, device=device))
    missing = None if branch is None else torch.full((*lead, branch.channels), torch.nan, device=device)
    beside = None if branch is None else branch(missing, twin.recordings.get(key, "")).reshape(-1, branch.out)[-1:]

    def maps(pictures: Tensor) -> list[Tensor]:
        view = twin.views(held_still(pictures, still) if still else pictures, [key])[key]
        return [block[view.frames - 1 :: view.frames] if view.frames else block for block in view.maps]

    def answer(maps: Maps) -> Tensor:
        count = len(as_list(maps)[0])
        expanded = (None if values is None else values.expand(count, -1) for values in (shift, beside))
        response: Tensor = readout(maps, *expanded)
        return response

    return _part(maps, readout, answer)


def _shape(recording: Recording) -> tuple[int, int]:
    assert recording.geometry is not None, "predictors need a recording with pictures"
    return recording.geometry.shape
