"""Fitting a twin by gradient descent: mini-batches, early stopping on the select rows, best state kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from models.readouts.sampling import Maps
from models.training.data import ReadoutData, check, take
from models.training.early_stopping import EarlyStopping, FitHistory, Pruner
from models.training.initial_state import on_device, prepared, set_statistics
from models.training.settings import FitSettings
from models.training.state_copy import BestState, StateCopy
from models.training.training_loop import TrainingLoop
from models.training.twin_loss import outcomes_in_chunks, select_correlation, select_loss
from models.twin import Twin

__all__ = ["FitHistory", "FitSettings", "ReadoutData", "fit_twin", "predict", "prepared", "refit_twin"]


def fit_twin(twin: Twin, data: Mapping[str, ReadoutData], settings: FitSettings) -> FitHistory:
    """Fit a twin in place on all its recordings; afterwards it has its best state, in evaluation mode.

    Minimises the loss of each readout (`models.objectives.losses`) of response / s + readout.penalty() +
    core.regularizer(), where s is each unit's standard deviation over its train rows (1 if it is constant), so that
    units of all rates weigh the same; the readouts carry s and predict in the recording's own units. The loss of a
    batch is the mean over its readouts, weighted by their observed entries, or evenly with `balance` "areas". Each step
    takes one batch of one recording, or of all of them together (`FitSettings`, which also has the schedule).
    Stops after `patience` epochs without a lower select loss (no penalties, no noise).

    Readouts start at `starting_positions`, with the bias that gives the mean train response. Deterministic on
    a CPU given the twin and the settings (on CUDA, sums of `grid_sample` and convolutions differ in the last
    digits). Raises ValueError for a set or a unit without data and for negative responses under a loss that knows
    none, FloatingPointError when the loss is not finite.
    """
    check(twin, data)
    return fit_prepared(twin, prepared(twin, list(data.values())), settings)


def fit_prepared(
    twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings, pruner: Pruner | None = None
) -> FitHistory:
    """Fit a twin that has the statistics of its data, see `prepared`, like `fit_twin`; a `pruner` may end it early."""
    stopping = EarlyStopping(settings, BestState(twin), StateCopy(twin), pruner)
    loop = TrainingLoop(twin, recordings, settings)
    for epoch in range(settings.epochs):
        train = loop.epoch(stopping.rate(epoch))
        if not stopping.goes_on(epoch, train, select_loss(twin, recordings, settings)):
            break
        if not stopping.needs_score(epoch):
            continue
        if not stopping.survives(epoch, select_correlation(twin, recordings, settings)):
            break
    finish(twin, recordings, settings)
    return stopping.history


def refit_twin(twin: Twin, data: Mapping[str, ReadoutData], settings: FitSettings, history: FitHistory) -> None:
    """Fit a twin anew, from where `fit_twin` began, on its train and select rows together.

    `history` is what `fit_twin` gave. As many epochs as led to its best state, at the same learning rates; an
    epoch has more steps, as there are more rows. Statistics are those of all these rows, starting positions
    those of the first fit. What it predicts of select rows is no longer held out. In place, evaluation mode.
    """
    recordings = restarted(twin, list(data.values()), history)
    loop = TrainingLoop(twin, recordings, settings)
    for rate in history.rates:
        check_refit(loop.epoch(rate), rate)
    finish(twin, recordings, settings)


def restarted(twin: Twin, recordings: Sequence[ReadoutData], history: FitHistory) -> list[ReadoutData]:
    """Join train and select rows; put the twin back where its fit began, with the statistics of these rows."""
    assert history.start is not None, "the history of a fit has its start"
    device = next(twin.parameters()).device
    moved = [on_device(_joined(recording), device) for recording in recordings]
    history.start.restore(twin)
    set_statistics(twin, moved)
    return moved


def check_refit(loss: float, rate: float) -> None:
    """Raise FloatingPointError for the loss of an epoch of a second fit that is not finite."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"loss {loss} in the second fit at learning rate {rate:g}")


@torch.no_grad()
def predict(
    twin: Twin,
    inputs: Maps,
    keys: Sequence[str],
    batch: int | None = None,
    behaviour: Tensor | None = None,
    pupil: Tensor | None = None,
) -> dict[str, Tensor]:
    """Predict responses (stimuli, units) by key, in evaluation mode, a batch at a time, on the twin's device.

    Of clips (clips, frames', units), which belong to the last frames' frames. `batch` is 256 stimuli or 4 clips
    unless it is given.
    """
    twin.eval()
    data = ReadoutData(inputs, {}, torch.empty(0), torch.empty(0), behaviour, pupil)
    device = next(twin.parameters()).device
    parts = []
    for rows in torch.arange(data.items).split(batch or (256 if data.frames is None else 4)):
        part = take(data, rows, device)
        parts.append(twin(part.inputs, keys, part.behaviour, part.pupil))
    return {key: torch.cat([part[key] for part in parts]) for key in keys}


@torch.no_grad()
def finish(twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings) -> None:
    """Evaluation mode; readouts whose loss knows no scale get one, by least squares over the train rows."""
    twin.eval()
    for recording in recordings:
        if not any(twin.readout(key).loss.scaleless for key in recording.responses):
            continue
        outcomes, targets = outcomes_in_chunks(twin, recording, recording.train, settings)
        for key, values in targets.items():
            readout = twin.readout(key)
            if readout.loss.scaleless:
                readout.calibrate(*_line(readout.response(outcomes[key]), values * readout.scale))


def _line(predicted: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset (units,) with the least squared error over observed entries; gain 0 for a constant.

    Of a unit without any, both are 0.
    """
    missing = observed.isnan()
    predicted = torch.where(missing, torch.nan, predicted)
    centre, level = predicted.nanmean(dim=0), observed.nanmean(dim=0)
    spread = (predicted - centre).square().nanmean(dim=0)
    shared = ((predicted - centre) * (observed - level)).nanmean(dim=0)
    gain = torch.where(spread > 1e-12, shared / spread.clamp(min=1e-12), 0.0)
    return gain, (level - gain * centre).nan_to_num(nan=0.0)


def _joined(recording: ReadoutData) -> ReadoutData:
    return replace(recording, train=torch.cat([recording.train, recording.select]))
