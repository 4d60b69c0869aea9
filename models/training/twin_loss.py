"""The loss of a twin: of a batch, of the select rows, its penalties, and the correlation with the responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.objectives.correlation import correlation_loss
from models.objectives.loss import Loss, Outcome
from models.training.data import Batch, ReadoutData, chunks, take
from models.training.settings import FitSettings
from models.twin import Twin


def batch_loss(twin: Twin, batch: Batch, balance: str = "none") -> Tensor:
    """Compute the loss of a batch of one recording: the mean over its readouts, see `fit_twin`."""
    return _twin_loss(twin, *_outcomes_and_targets(twin, batch), balance)[0]


def penalty(twin: Twin, keys: Sequence[str]) -> Tensor:
    """Compute the mean over the units of `keys` of their readouts' penalties, plus the core's regularizer."""
    readouts = [twin.readout(key) for key in keys]
    penalties = torch.stack([readout.penalty() * readout.units for readout in readouts])
    return penalties.sum() / sum(readout.units for readout in readouts) + twin.regularizer()


@torch.no_grad()
def select_loss(twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings) -> float:
    """Compute the loss of all select rows, in evaluation mode, weighted by their observed entries or areas."""
    twin.eval()
    total, weight = 0.0, 0.0
    for recording in recordings:
        outcomes, targets = outcomes_in_chunks(twin, recording, recording.select, settings)
        loss, observed = _twin_loss(twin, outcomes, targets, settings.balance)
        total, weight = total + float(loss) * float(observed), weight + float(observed)
    return total / weight


@torch.no_grad()
def select_correlation(twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings) -> float:
    """Average over readouts the mean over units of the correlation with the responses to the select rows."""
    twin.eval()
    correlations = []
    for recording in recordings:
        outcomes, targets = outcomes_in_chunks(twin, recording, recording.select, settings)
        for key, values in targets.items():
            readout = twin.readout(key)
            correlations.append(correlation(readout.loss, outcomes[key], values, readout.gamma))
    return float(torch.stack(correlations).mean())


def correlation(loss: Loss, outcome: Outcome, targets: Tensor, gamma: Tensor) -> Tensor:
    """Average the correlation of expected and observed responses over units, a scalar; see `correlation_loss`."""
    return 1.0 - correlation_loss(loss.mean(outcome, gamma), targets)


def outcomes_in_chunks(
    twin: Twin, recording: ReadoutData, rows: Tensor, settings: FitSettings
) -> tuple[dict[str, Outcome], dict[str, Tensor]]:
    """Compute outcomes, and responses in deviations, of many rows by key, chunk by chunk."""
    device = next(twin.parameters()).device
    parts = [_outcomes_and_targets(twin, take(recording, part, device)) for part in chunks(recording, rows, settings)]
    targets = {key: torch.cat([part[1][key] for part in parts]) for key in recording.responses}
    outcomes = {key: tuple(map(torch.cat, zip(*(part[0][key] for part in parts), strict=True))) for key in targets}
    return outcomes, targets


def _outcomes_and_targets(twin: Twin, batch: Batch) -> tuple[dict[str, Outcome], dict[str, Tensor]]:
    """Outcomes, and responses in deviations, of a batch by key, each (rows, units)."""
    views = twin.views(batch.inputs, tuple(batch.responses), batch.behaviour, batch.pupil)
    targets = {key: view.flattened(batch.responses[key]) / twin.readout(key).scale for key, view in views.items()}
    return twin.outcomes(views), targets


def _twin_loss(
    twin: Twin, outcomes: Mapping[str, Outcome], targets: Mapping[str, Tensor], balance: str
) -> tuple[Tensor, Tensor]:
    """`weighted_loss` of the readouts of a twin."""
    readouts = {key: twin.readout(key) for key in targets}
    gammas = {key: readout.gamma for key, readout in readouts.items()}
    return weighted_loss({key: readout.loss for key, readout in readouts.items()}, outcomes, targets, gammas, balance)


def weighted_loss(
    losses: Mapping[str, Loss],
    outcomes: Mapping[str, Outcome],
    targets: Mapping[str, Tensor],
    gammas: Mapping[str, Tensor],
    balance: str,
) -> tuple[Tensor, Tensor]:
    """Average the losses of all keys by weight; also the sum of the weights: observed entries, or areas with any.

    By key: the loss, the outcome and the responses in deviations, each (rows, units), and the gamma's shape (units,).
    """
    values, counts = [], []
    for key, observed in targets.items():
        values.append(losses[key].measure(outcomes[key], observed, gammas[key]))
        counts.append((~observed.isnan()).sum())
    weights = torch.stack(counts).to(values[0])
    weights = weights.clamp(max=1.0) if balance == "areas" else weights
    return (torch.stack(values) * weights).sum() / weights.sum().clamp(min=1.0), weights.sum()
