"""Fitting a twin by gradient descent: mini-batches, early stopping on the select rows, best state kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.losses import LOSSES
from models.readouts.gaussian import GaussianReadout, shrink
from models.readouts.locate import GRID, response_statistics, starting_positions
from models.regularizers import l1 as l1_penalty
from models.twin import Twin

SEARCHED = 2000
"""Starting positions are searched with at most this many train and select stimuli each, evenly taken."""


@dataclass(frozen=True)
class FitSettings:
    """Adam's learning rate, epochs at most, epochs without gain before the end, stimuli per step, seed."""

    learning_rate: float = 0.005
    epochs: int = 60
    patience: int = 8
    batch: int = 64
    seed: int = 0


@dataclass(frozen=True)
class ReadoutData:
    """One recording: inputs (stimuli, channels, h, w) and responses (stimuli, units) by readout key.

    Inputs are images, or the maps of a frozen backbone. `train` and `select` are row numbers; NaN marks a
    response that was not observed.
    """

    inputs: Tensor
    responses: Mapping[str, Tensor]
    train: Tensor
    select: Tensor


@dataclass
class FitHistory:
    """Mean loss of each epoch on the train rows (as trained, noise and all) and on the select rows.

    Losses are of responses divided by each unit's deviation, without penalties. `best_epoch` (from 0) is the
    one whose state the twin now has; `stopped_early` says that patience ended the fit, not the last epoch.
    """

    train: list[float] = field(default_factory=list)
    select: list[float] = field(default_factory=list)
    best_epoch: int = -1
    stopped_early: bool = False


class BestState:
    """A copy of the state with the lowest loss so far, and its epoch."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.loss, self.epoch = module, float("inf"), -1
        self.state: dict[str, Tensor] = {}

    def offer(self, loss: float, epoch: int) -> None:
        """Copy the module's state if `loss` is lower than any before."""
        if loss < self.loss:
            self.loss, self.epoch = loss, epoch
            self.state = {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def restore(self) -> None:
        """Put the best state back into the module."""
        self.module.load_state_dict(self.state)


def fit_twin(
    twin: Twin, data: Mapping[str, ReadoutData], loss: str, settings: FitSettings, l1: float = 0.0
) -> FitHistory:
    """Fit a twin in place on all its recordings; afterwards it has its best state, in evaluation mode.

    Minimises mean over observed entries of loss(prediction / s, response / s) + l1 * l1(readout weights)
    + core.regularizer(), where s is each unit's standard deviation over its train rows (1 if it is constant),
    so that units of all rates weigh the same; the readouts carry s and predict in the recording's own units.
    Each step takes one batch of one recording; batches of all recordings are shuffled together. Stops after
    `patience` epochs without a lower select loss (no penalties, no noise).

    Readouts start at `starting_positions`, with the bias that gives the mean train response. Deterministic on
    a CPU given the twin and the settings (on CUDA, sums of `grid_sample` and convolutions differ in the last
    digits). Raises ValueError for a set or a unit without data and for negative responses under the Poisson
    loss, FloatingPointError when the loss is not finite.
    """
    _check(twin, data, loss)
    recordings = [prepared(twin, recording) for recording in data.values()]
    optimizer = torch.optim.Adam(twin.parameters(), lr=settings.learning_rate)
    shuffle = torch.Generator().manual_seed(settings.seed)
    best, history = BestState(twin), FitHistory()
    for epoch in range(settings.epochs):
        batches = shuffled_batches(recordings, settings.batch, shuffle)
        history.train.append(_train_epoch(twin, batches, loss, l1, optimizer))
        history.select.append(select_loss(twin, recordings, loss, 4 * settings.batch))
        _check_finite(history, epoch, settings.learning_rate)
        best.offer(history.select[-1], epoch)
        history.stopped_early = epoch - best.epoch >= settings.patience
        if history.stopped_early:
            break
    best.restore()
    history.best_epoch = best.epoch
    return history


def fit_gaussian(
    maps: Tensor, responses: Tensor, train: Tensor, select: Tensor, parameters: Mapping[str, Any], seed: int
) -> GaussianReadout:
    """A Gaussian readout of `responses` (stimuli, units) from frozen maps (stimuli, channels, h, w).

    `parameters` are those of `models.readouts.READOUTS["gaussian"]`. Maps are averaged to at most `pool` a
    side and z-scored per channel over train stimuli and positions; the readout that is returned, in
    evaluation mode, takes maps as they were given, averaged or not. With the Poisson loss rates are ELU + 1,
    with the Gaussian loss the response is linear (z-scored responses are below zero half of the time).
    """
    rate, pool = parameters["loss"] == "poisson", parameters["pool"]
    small = shrink(maps, pool)
    centre, spread = channel_statistics(small[train])
    readout = GaussianReadout(maps.shape[1], responses.shape[1], seed, rate, pool).to(maps.device)
    normal = (small - centre[:, None, None]) / spread[:, None, None]
    settings = FitSettings(parameters["learning_rate"], parameters["epochs"], parameters["patience"], seed=seed)
    data = {"maps": ReadoutData(normal, {"area": responses}, train, select)}
    fit_twin(Twin(None, {"area": readout}), data, parameters["loss"], settings, parameters["l1"])
    readout.absorb(centre, spread)
    return readout


def channel_statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (channels,) over stimuli and positions; 1 for a constant channel."""
    spread, centre = torch.std_mean(maps, dim=(0, 2, 3), correction=0)
    return centre, torch.where(spread > 1e-6 * centre.abs().clamp(min=1e-6), spread, 1.0)


@torch.no_grad()
def predict(twin: Twin, inputs: Tensor, keys: Sequence[str], batch: int = 256) -> dict[str, Tensor]:
    """Responses (stimuli, units) by key, in evaluation mode, a batch at a time, on the twin's device."""
    twin.eval()
    device = next(twin.parameters()).device
    parts = [twin(chunk.to(device), keys) for chunk in inputs.split(batch)]
    return {key: torch.cat([part[key] for part in parts]) for key in keys}


@torch.no_grad()
def prepared(twin: Twin, recording: ReadoutData) -> ReadoutData:
    """The recording on the twin's device; its readouts get their starting positions, scales and biases."""
    twin.eval()
    device = next(twin.parameters()).device
    responses = {key: values.to(device, torch.float32) for key, values in recording.responses.items()}
    inputs = recording.inputs.to(device, torch.float32)
    train, select = recording.train.to(device), recording.select.to(device)
    searched = [rows[:: -(-len(rows) // SEARCHED)] for rows in (train, select)]
    rows = torch.cat(searched)
    first, second = torch.arange(len(rows), device=device).split([len(part) for part in searched])
    maps = _small_maps(twin, inputs, rows, tuple(responses))
    for key, values in responses.items():
        readout = twin.readout(key)
        readout.initialize(*response_statistics(values[train]))
        readout.mean.copy_(starting_positions(maps[key], values[rows], first, second))
    return ReadoutData(inputs, responses, train, select)


def _small_maps(twin: Twin, inputs: Tensor, rows: Tensor, keys: Sequence[str]) -> dict[str, Tensor]:
    """Maps (rows, channels, h, w) that the readouts read now, averaged to at most GRID a side."""
    parts = [twin.maps(inputs[chunk], keys) for chunk in rows.split(64)]
    return {key: torch.cat([shrink(part[key], GRID) for part in parts]) for key in keys}


def shuffled_batches(
    recordings: Sequence[ReadoutData], batch: int, generator: torch.Generator
) -> Iterator[tuple[ReadoutData, Tensor]]:
    """(recording, rows) for one epoch: all train rows once, at most `batch` together, in random order."""
    batches = []
    for recording in recordings:
        order = torch.randperm(len(recording.train), generator=generator).to(recording.train.device)
        for rows in recording.train[order].tensor_split(-(-len(order) // batch)):
            batches.append((recording, rows))
    for index in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[index]


def batch_loss(twin: Twin, recording: ReadoutData, rows: Tensor, loss: str) -> Tensor:
    """Loss of some rows of one recording: the mean over all observed entries of all its readouts."""
    keys = tuple(recording.responses)
    predicted = twin(recording.inputs[rows], keys)
    scale = torch.cat([twin.readout(key).scale for key in keys])
    rate = torch.cat([predicted[key] for key in keys], dim=1)
    observed = torch.cat([recording.responses[key][rows] for key in keys], dim=1)
    return LOSSES[loss](rate / scale, observed / scale)


def penalty(twin: Twin, keys: Sequence[str], l1: float) -> Tensor:
    """l1 * (mean over the units of `keys` of the sum of |weights|) + what the core asks for itself."""
    prices = torch.cat([twin.readout(key).weights.abs().sum(dim=1, keepdim=True) for key in keys])
    return l1 * l1_penalty(prices) + twin.regularizer()


@torch.no_grad()
def select_loss(twin: Twin, recordings: Sequence[ReadoutData], loss: str, batch: int) -> float:
    """Mean loss over the observed entries of the select rows of all recordings, in evaluation mode."""
    twin.eval()
    total, entries = 0.0, 0
    for recording in recordings:
        for rows in recording.select.split(batch):
            seen = sum(int((~values[rows].isnan()).sum()) for values in recording.responses.values())
            total += float(batch_loss(twin, recording, rows, loss)) * seen
            entries += seen
    return total / entries


def _train_epoch(
    twin: Twin,
    batches: Iterator[tuple[ReadoutData, Tensor]],
    loss: str,
    l1: float,
    optimizer: torch.optim.Optimizer,
) -> float:
    """One step per batch; returns the mean loss of the steps, without penalties."""
    twin.train()
    losses = []
    for recording, rows in batches:
        optimizer.zero_grad(set_to_none=True)
        fitted = batch_loss(twin, recording, rows, loss)
        (fitted + penalty(twin, tuple(recording.responses), l1)).backward()
        optimizer.step()
        losses.append(fitted.detach())
    return float(torch.stack(losses).mean())


def _check(twin: Twin, data: Mapping[str, ReadoutData], loss: str) -> None:
    """Refuse what cannot be fitted, before work starts."""
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; known: {', '.join(LOSSES)}")
    for name, recording in data.items():
        for key, values in recording.responses.items():
            problem = _problem(values, recording, twin.readout(key).units, loss)
            if problem:
                raise ValueError(f"recording {name!r}, readout {key!r}: {problem}")


def _problem(responses: Tensor, recording: ReadoutData, units: int, loss: str) -> str:
    """What is wrong with the responses of one readout; empty if nothing."""
    train, select = responses[recording.train], responses[recording.select]
    if responses.shape != (len(recording.inputs), units):
        return f"responses are {tuple(responses.shape)}, expected {(len(recording.inputs), units)}"
    if train.isnan().all(dim=0).any():
        return f"{int(train.isnan().all(dim=0).sum())} units have no response in the train rows"
    if select.isnan().all():
        return "no response in the select rows"
    if loss == "poisson" and bool((train < 0).any() or (select < 0).any()):
        return "negative responses: the poisson loss has no minimum there, use the gaussian loss"
    return ""


def _check_finite(history: FitHistory, epoch: int, learning_rate: float) -> None:
    """Raise FloatingPointError if the last losses are not finite."""
    train, select = history.train[-1], history.select[-1]
    if not torch.isfinite(torch.tensor([train, select])).all():
        raise FloatingPointError(
            f"loss {train} (train), {select} (select) in epoch {epoch} at learning rate {learning_rate:g}"
        )
