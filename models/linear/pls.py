"""Partial least squares regression in dual form: from the kernel of the features, however many those are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.linear.ridge import ROUNDING


@dataclass(frozen=True)
class PlsFit:
    """A fitted readout in dual form: prediction = K(x, train) @ dual + offset.

    `dual` (train stimuli, units) sums to zero over stimuli, so kernels need no centring; `offset` (units,);
    `components` is the number that was found.
    """

    dual: Tensor
    offset: Tensor
    components: int

    def predict(self, kernel: Tensor) -> Tensor:
        """Predict responses (stimuli, units) from the kernel (stimuli, train stimuli) of raw or centred features."""
        return kernel.double() @ self.dual + self.offset


def fit_pls(kernel: Tensor, responses: Tensor, components: int = 25) -> PlsFit:
    """Partial least squares (PLS2, no scaling) of all units together, from the kernel X X' (stimuli, stimuli).

    Each component t = X w, of unit length, has w = X' Y c with the largest covariance with the responses, |X' Y c| over
    unit c; then X and Y lose what t explains. With U the directions Y c and T the components,

        dual = U (T' K U)^{-1} T' Y

    which is NIPALS on the features themselves. `responses` (stimuli, units) in the units' own scale, which decides how
    much each counts. Fewer components are taken where the features' rank, or what is left of the responses, ends
    first; features without variance predict each unit's mean. Raises ValueError below one component.
    Source: Wold et al. 1984; kernel form of Rosipal and Trejo 2001; 25 components as in Brain-Score.
    """
    if components < 1:
        raise ValueError(f"PLS needs at least 1 component; got {components}")
    responses = responses.double()
    mean, raw = responses.mean(dim=0), kernel.double()
    left = responses - mean
    scores, directions = _components(_centred(raw), _reduced(left), components)
    dual = torch.zeros_like(left)
    if scores.shape[1]:
        dual = directions @ torch.linalg.solve(scores.T @ _centred(raw) @ directions, scores.T @ left)
        dual = dual - dual.mean(dim=0)
    return PlsFit(dual, mean - raw.mean(dim=0) @ dual, scores.shape[1])


def _components(kernel: Tensor, responses: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Components T and directions U, each (stimuli, components), of a centred kernel and centred responses."""
    scores, directions = (kernel.new_zeros(len(kernel), 0) for _ in range(2))
    floor = ROUNDING * float(kernel.trace()) * float(responses.square().sum())
    kernel, responses = kernel.clone(), responses.clone()
    for _ in range(most):
        covariance, vectors = torch.linalg.eigh(responses.T @ kernel @ responses)
        if not covariance.numel() or float(covariance[-1]) <= floor:
            break
        direction = responses @ vectors[:, -1:]
        score = kernel @ direction
        score = score - scores @ (scores.T @ score)
        score = score / score.norm()
        scores, directions = torch.cat([scores, score], 1), torch.cat([directions, direction], 1)
        kernel = _deflated(kernel, score)
        responses = responses - score @ (score.T @ responses)
    return scores, directions


def _deflated(kernel: Tensor, score: Tensor) -> Tensor:
    """(I - t t') K (I - t t')."""
    half = kernel - score @ (score.T @ kernel)
    return half - (half @ score) @ score.T


def _reduced(responses: Tensor) -> Tensor:
    """Responses turned so that no more columns than stimuli are left; Y Y', all that components see, is the same."""
    if responses.shape[1] <= responses.shape[0]:
        return responses
    left, singular, _ = torch.linalg.svd(responses, full_matrices=False)
    return left * singular


def _centred(kernel: Tensor) -> Tensor:
    rows = kernel - kernel.mean(dim=0)
    return rows - rows.mean(dim=1, keepdim=True)
