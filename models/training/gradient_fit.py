"""Fitting a twin by gradient descent: mini-batches, early stopping on the select rows, best state kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from models.objectives.correlation import correlation_loss
from models.objectives.loss import Loss, Outcome
from models.readouts.sampling import Maps
from models.training.data import Batch, ReadoutData, Step, check, chunks, crop, shuffled_batches, steps, take
from models.training.early_stopping import BestState, Course, FitHistory, Judge, Snapshot, set_rate
from models.training.initial_state import on_device, prepared, set_statistics
from models.training.settings import FitSettings
from models.twin import Twin

__all__ = [
    "BestState",
    "FitHistory",
    "FitSettings",
    "ReadoutData",
    "batch_loss",
    "fit_twin",
    "penalty",
    "predict",
    "prepared",
    "refit_twin",
    "select_loss",
    "shuffled_batches",
]


def fit_twin(twin: Twin, data: Mapping[str, ReadoutData], settings: FitSettings) -> FitHistory:
    """Fit a twin in place on all its recordings; afterwards it has its best state, in evaluation mode.

    Minimises the loss of each readout (`models.objectives.losses`) of response / s + readout.penalty() + core.regularizer(),
    where s is each unit's standard deviation over its train rows (1 if it is constant), so that units of all
    rates weigh the same; the readouts carry s and predict in the recording's own units. The loss of a batch is
    the mean over its readouts, weighed by their observed entries, or evenly with `balance` "areas". Each step
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
    twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings, judge: Judge | None = None
) -> FitHistory:
    """`fit_twin` of a twin that knows what can be known before a fit, see `prepared`; `judge` may end it half-way."""
    course, descent = Course(settings, BestState(twin), Snapshot(twin), judge), Descent(twin, recordings, settings)
    for epoch in range(settings.epochs):
        train = descent.epoch(course.rate(epoch))
        if not course.goes_on(epoch, train, select_loss(twin, recordings, settings)):
            break
        if course.judged(epoch) and not course.stays(epoch, select_correlation(twin, recordings, settings)):
            break
    finish(twin, recordings, settings)
    return course.history


def refit_twin(twin: Twin, data: Mapping[str, ReadoutData], settings: FitSettings, history: FitHistory) -> None:
    """Fit a twin anew, from where `fit_twin` began, on its train and select rows together.

    `history` is what `fit_twin` gave. As many epochs as led to its best state, at the same learning rates; an
    epoch has more steps, as there are more rows. Statistics are those of all these rows, starting positions
    those of the first fit. What it predicts of select rows is no longer held out. In place, evaluation mode.
    """
    recordings = restarted(twin, list(data.values()), history)
    descent = Descent(twin, recordings, settings)
    for rate in history.rates:
        check_refit(descent.epoch(rate), rate)
    finish(twin, recordings, settings)


def restarted(twin: Twin, recordings: Sequence[ReadoutData], history: FitHistory) -> list[ReadoutData]:
    """The recordings with train and select rows as one; the twin is back where its fit began, with their statistics."""
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
    """Responses (stimuli, units) by key, in evaluation mode, a batch at a time, on the twin's device.

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


def batch_loss(twin: Twin, batch: Batch, balance: str = "none") -> Tensor:
    """Loss of a batch of one recording: the mean over its readouts, see `fit_twin`."""
    return _combined(twin, *_said_and_seen(twin, batch), balance)[0]


def penalty(twin: Twin, keys: Sequence[str]) -> Tensor:
    """Mean over the units of `keys` of what their readouts ask for + what the core asks for itself."""
    readouts = [twin.readout(key) for key in keys]
    prices = torch.stack([readout.penalty() * readout.units for readout in readouts])
    return prices.sum() / sum(readout.units for readout in readouts) + twin.regularizer()


@torch.no_grad()
def select_loss(twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings) -> float:
    """Loss of the select rows of all recordings, in evaluation mode, weighed by their observed entries or areas."""
    twin.eval()
    total, weight = 0.0, 0.0
    for recording in recordings:
        loss, seen = _combined(twin, *_whole(twin, recording, recording.select, settings), settings.balance)
        total, weight = total + float(loss) * float(seen), weight + float(seen)
    return total / weight


@torch.no_grad()
def select_correlation(twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings) -> float:
    """Mean over readouts of the mean over units of the correlation with the responses to the select rows."""
    twin.eval()
    found = []
    for recording in recordings:
        said, seen = _whole(twin, recording, recording.select, settings)
        readouts = {key: twin.readout(key) for key in seen}
        found += [correlation(each.loss, said[key], seen[key], each.gamma) for key, each in readouts.items()]
    return float(torch.stack(found).mean())


def correlation(loss: Loss, said: Outcome, seen: Tensor, gamma: Tensor) -> Tensor:
    """Mean over units of the correlation of expected and observed responses, a scalar; see `correlation_loss`."""
    return 1.0 - correlation_loss(loss.mean(said, gamma), seen)


class Descent:
    """The optimizer of a fit, and the order in which it sees the train rows."""

    def __init__(self, twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings) -> None:
        self.twin, self.recordings, self.settings = twin, recordings, settings
        rate, decay = settings.learning_rate, settings.weight_decay
        self.optimizer = torch.optim.AdamW(twin.parameters(), lr=rate, weight_decay=decay)
        self.order, self.windows = (torch.Generator().manual_seed(settings.seed) for _ in range(2))

    def epoch(self, rate: float) -> float:
        """One epoch at this learning rate; returns the mean loss of the steps, without penalties."""
        self.twin.train()
        set_rate(self.optimizer, rate)
        losses = [self.step(step) for step in steps(self.recordings, self.settings, self.order)]
        return float(torch.stack(losses).mean())

    def step(self, step: Step) -> Tensor:
        """Gradients of the mean over the step's batches, then one step of the optimizer."""
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for recording, rows in step:
            window = crop(recording, rows, self.settings, self.windows)
            batch = take(recording, rows, next(self.twin.parameters()).device, **window)
            fitted = batch_loss(self.twin, batch, self.settings.balance)
            ((fitted + penalty(self.twin, tuple(recording.responses))) / len(step)).backward()
            losses.append(fitted.detach())
        self.optimizer.step()
        return torch.stack(losses).mean()


def _said_and_seen(twin: Twin, batch: Batch) -> tuple[dict[str, Outcome], dict[str, Tensor]]:
    """Outcomes, and responses in deviations, of a batch by key, each (rows, units)."""
    views = twin.views(batch.inputs, tuple(batch.responses), batch.behaviour, batch.pupil)
    seen = {key: view.flattened(batch.responses[key]) / twin.readout(key).scale for key, view in views.items()}
    return twin.outcomes(views), seen


def _whole(
    twin: Twin, recording: ReadoutData, rows: Tensor, settings: FitSettings
) -> tuple[dict[str, Outcome], dict[str, Tensor]]:
    """`_said_and_seen` of many rows, chunk by chunk."""
    device = next(twin.parameters()).device
    parts = [_said_and_seen(twin, take(recording, chunk, device)) for chunk in chunks(recording, rows, settings)]
    seen = {key: torch.cat([part[1][key] for part in parts]) for key in recording.responses}
    said = {key: tuple(map(torch.cat, zip(*(part[0][key] for part in parts), strict=True))) for key in seen}
    return said, seen


def _combined(
    twin: Twin, said: Mapping[str, Outcome], seen: Mapping[str, Tensor], balance: str
) -> tuple[Tensor, Tensor]:
    """`weighed` of the readouts of a twin."""
    readouts = {key: twin.readout(key) for key in seen}
    gammas = {key: readout.gamma for key, readout in readouts.items()}
    return weighed({key: readout.loss for key, readout in readouts.items()}, said, seen, gammas, balance)


def weighed(
    measures: Mapping[str, Loss],
    said: Mapping[str, Outcome],
    seen: Mapping[str, Tensor],
    gammas: Mapping[str, Tensor],
    balance: str,
) -> tuple[Tensor, Tensor]:
    """Weighed mean of the losses of all keys, and the sum of the weights: observed entries, or areas with any.

    By key: the loss, the outcome and the responses in deviations, each (rows, units), and the gamma's shape (units,).
    """
    losses, counts = [], []
    for key, values in seen.items():
        losses.append(measures[key].measure(said[key], values, gammas[key]))
        counts.append((~values.isnan()).sum())
    weights = torch.stack(counts).to(losses[0])
    weights = weights.clamp(max=1.0) if balance == "areas" else weights
    return (torch.stack(losses) * weights).sum() / weights.sum().clamp(min=1.0), weights.sum()


@torch.no_grad()
def finish(twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings) -> None:
    """Evaluation mode; readouts whose loss knows no scale get one, by least squares over the train rows."""
    twin.eval()
    for recording in recordings:
        if not any(twin.readout(key).loss.scaleless for key in recording.responses):
            continue
        said, seen = _whole(twin, recording, recording.train, settings)
        for key, values in seen.items():
            readout = twin.readout(key)
            if readout.loss.scaleless:
                readout.calibrate(*_line(readout.response(said[key]), values * readout.scale))


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
