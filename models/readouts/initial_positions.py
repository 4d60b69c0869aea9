"""Where on the map each unit starts to look: at the centre, or where its responses go best with the features.

A gradient finds a position only from within reach of the features' correlation length. On planted units with
receptive fields all over the map, a start at the centre (the usual one) loses half of the units; where the
stimuli were centred on the units, as with electrodes in V1, searching the map with few movies is the worse
start. So both are tried in closed form, and the select rows decide for all units of an area together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.readouts.sampling import sample

GRID = 14
"""Maps need not be finer than this to be searched; `models.training.initial_state` averages them to this at most."""


def starting_positions(maps: Tensor, responses: Tensor, train: Tensor, select: Tensor) -> Tensor:
    """Choose the better of two starts for all units: the centre, or `located`; (units, 2), x and y in [-1, 1].

    Better = higher mean over units of the correlation, over the select rows, between the response and the sum
    over channels of weight * feature at the position, with the weights of `marginal_weights`.
    maps (stimuli, channels, h, w); responses (stimuli, units) may be NaN. A tie, and select rows on which no
    correlation is defined, go to the centre.
    """
    mean, deviation = response_statistics(responses[train])
    scaled = torch.nan_to_num((responses[train] - mean) / deviation, nan=0.0)
    centre, searched = torch.zeros_like(mean)[:, None].expand(-1, 2), located(maps[train], scaled)
    gains = []
    for positions in (centre, searched):
        weights = marginal_weights(sample(maps[train], positions), scaled)
        predicted = (sample(maps[select], positions) * weights).sum(dim=1)
        gains.append(_mean_correlation(predicted, responses[select]))
    return searched if gains[1] > gains[0] else centre


def located(maps: Tensor, scaled: Tensor) -> Tensor:
    """argmax over positions of sum over channels of r(feature, response)^2, per unit: (units, 2).

    maps (stimuli, channels, h, w); `scaled` (stimuli, units): z-scored responses, 0 where missing. Constant
    features count nothing; a unit that goes with no feature at all gets the first position.
    """
    features = maps.flatten(1)
    strength = (scaled.T @ features).square() * _inverse_variance(features)
    best = strength.unflatten(1, maps.shape[1:]).sum(dim=1).flatten(1).argmax(dim=1)
    high, wide = maps.shape[2:]
    return torch.stack([_coordinate(best % wide, wide), _coordinate(best // wide, high)], dim=1)


def marginal_weights(features: Tensor, scaled: Tensor) -> Tensor:
    """cov(feature, response) / var(feature), (channels, units), of features (stimuli, channels, units).

    Channels are taken one by one, as if they were uncorrelated: a rough predictor that cannot overfit much.
    """
    return torch.einsum("ncu,nu->cu", features, scaled) * _inverse_variance(features) / len(features)


def response_statistics(responses: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation (ddof 0) of each unit over its observed rows of (stimuli, units).

    A constant unit gets a deviation of 1, a unit without any observed row NaN and 1.
    """
    mean = responses.nanmean(dim=0)
    deviation = (responses - mean).square().nanmean(dim=0).sqrt()
    return mean, torch.where(deviation > 1e-6 * mean.abs().clamp(min=1e-12), deviation, 1.0)


def _inverse_variance(features: Tensor) -> Tensor:
    """1 / variance over stimuli; 0 for features that are constant to a thousandth of their size."""
    variance, mean = torch.var_mean(features, dim=0, correction=0)
    varies = variance > 1e-6 * mean.square().clamp(min=1e-12)
    return torch.where(varies, 1.0 / variance.clamp(min=1e-30), 0.0)


def _mean_correlation(predicted: Tensor, responses: Tensor) -> float:
    """Mean over units of the correlation over observed rows, both (rows, units); undefined ones left out."""
    observed = ~responses.isnan()
    a, b = (torch.where(observed, values, torch.nan) for values in (predicted, responses))
    a, b = a - a.nanmean(dim=0), b - b.nanmean(dim=0)
    norms = (a.square().nansum(dim=0) * b.square().nansum(dim=0)).sqrt()
    return float(torch.where(norms > 0, (a * b).nansum(dim=0) / norms, torch.nan).nanmean())


def _coordinate(index: Tensor, length: int) -> Tensor:
    """-1 for the first pixel, 1 for the last; 0 where there is only one."""
    return 2.0 * index / (length - 1) - 1.0 if length > 1 else torch.zeros(index.shape, device=index.device)
