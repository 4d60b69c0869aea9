"""The perceptron's readout and JNE together: planted quadratic units are more nonlinear than linear ones."""

from __future__ import annotations

import numpy as np
import torch
from frozen import fit_frozen

from metrics import jne_streaming
from models.readouts import READOUTS
from models.training.frozen_backbone import FrozenFit

UNITS = 8


def planted(stimuli: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and z-scored responses: UNITS linear units under `noise`, then UNITS quadratic ones under little."""
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(stimuli, 6, 1, 1, generator=draws)
    weights = torch.randn(2, 6, UNITS, generator=draws)
    linear = features[:, :, 0, 0] @ weights[0]
    quadratic = (features[:, :, 0, 0] @ weights[1]).square()
    clean = torch.cat([(each - each.mean(0)) / each.std(0) for each in (linear, quadratic)], dim=1)
    spread = torch.cat([torch.full((UNITS,), noise), torch.full((UNITS,), 0.1)])
    noisy = clean + spread * torch.randn(clean.shape, generator=draws)
    return features, (noisy - noisy.mean(0)) / noisy.std(0)


def test_planted_quadratic_units_have_higher_jne_at_equal_explained_variance() -> None:
    torch.set_num_threads(1)
    given = {key: parameter.default for key, parameter in READOUTS["mlp"].parameters.items()}
    given |= {"hidden": 64, "epochs": 400, "patience": 40, "learning_rate": 0.003}
    features, responses = planted(1600, noise=0.75)
    train, select, report = torch.arange(1600).split([1000, 200, 400])
    readout = fit_frozen(FrozenFit("mlp", [features], responses, train, select, given, 0))
    with torch.no_grad():
        error = (readout(features[report]) - responses[report]).square().mean(dim=0)
    explained = (1 - error / responses[report].var(dim=0)).numpy()
    linear, quadratic = explained[:UNITS].mean(), explained[UNITS:].mean()
    assert min(linear, quadratic) > 0.4, explained
    assert abs(linear - quadratic) < 0.15, explained  # what makes a unit easier to predict is not what is measured
    found = np.asarray(jne_streaming(readout.requires_grad_(False), features[report]).jne)
    assert found[UNITS:].min() > 2 * found[:UNITS].max(), found
