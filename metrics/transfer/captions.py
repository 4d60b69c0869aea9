"""How well captions predict responses to the captioned scenes, and responses the captions, on other scenes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, mean_of_finite, to_complete_matrix, to_labels, to_matrix
from metrics.prediction.accuracy import pearson
from metrics.transfer.alignment import Alignment

COMPONENTS = 10
"""Most principal components of the captions that the backward direction predicts."""

SHUFFLES = 3
"""Shuffled pairings whose mean score is the null."""


@dataclass(frozen=True)
class CaptionTransfer:
    """Mean correlations on held-out scenes: captions to responses, back, their mean, and its null."""

    forward: float
    backward: float
    score: float
    null: float


def _standardise(fit: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Both parts z-scored by the fit scenes, without the units that miss a scene or are constant on fit."""
    complete = np.isfinite(fit).all(axis=0) & np.isfinite(test).all(axis=0)
    mean, deviation = fit[:, complete].mean(axis=0), fit[:, complete].std(axis=0)
    varied = deviation > 1e-12 * np.abs(fit[:, complete]).max(axis=0, initial=0.0)
    units, mean, deviation = np.flatnonzero(complete)[varied], mean[varied], deviation[varied]
    return (fit[:, units] - mean) / deviation, (test[:, units] - mean) / deviation


@dataclass(frozen=True)
class _Direction:
    """One direction of the transfer: a decomposed source, its projected test rows, and the targets on both parts."""

    alignment: Alignment
    projected: Floats
    target_fit: Floats
    target_test: Floats

    def score(self, order: NDArray[np.intp], penalty: float | None) -> float:
        """Mean correlation over targets on the test scenes, with the fit scenes paired in ``order``."""
        predicted = self.alignment.carry(self.target_fit[order], self.projected, penalty)
        return mean_of_finite(pearson(predicted, self.target_test))


def _directions(captions: Alignment, captions_test: Floats, fit: Floats, test: Floats) -> list[_Direction]:
    """Captions to responses; responses to the leading components of the captions."""
    source_fit, source_test = _standardise(fit, test)
    components = slice(0, min(COMPONENTS, len(captions.singular)))
    scores_fit = (captions.left * captions.singular)[:, components]
    projected, back = captions.project(captions_test), Alignment.fit(source_fit)
    return [
        _Direction(captions, projected, fit, test),
        _Direction(back, back.project(source_test), scores_fit, projected[:, components]),
    ]


def _scenes(indices: Array, name: str, scenes: int) -> NDArray[np.intp]:
    """Scene indices as whole numbers in range; a boolean mask is taken as the indices of its true entries."""
    labels = to_labels(indices, name)
    if labels.dtype.kind == "b":
        labels = np.flatnonzero(labels)
    if labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0 or labels.max() >= scenes:
        raise ValueError(f"{name} must be whole scene indices from 0 to {scenes - 1}, at least one")
    return labels.astype(np.intp)


def caption_transfer(
    captions: Array,
    responses: Array,
    fit: Array,
    test: Array,
    penalty: float | None = None,
    seed: int = 0,
    alignment: Alignment | None = None,
) -> CaptionTransfer:
    """How well responses to scenes follow from the scenes' captions, and captions from responses.

    forward: ridge from captions to responses; backward: ridge from z-scored responses to the leading
    principal components of the captions (at most 10). Both are fitted on ``fit`` and scored by the mean
    correlation on ``test``; score is their mean. null: the same with captions shuffled over the fit scenes,
    mean of 3 shuffles.
    Shapes: captions (scenes, embedding), responses (scenes, units), fit and test scene indices -> floats in
    [-1, 1]. ``penalty`` is relative to the kernel's mean diagonal; None chooses it by leave-one-out, for each
    direction and shuffle anew. ``alignment``: ``Alignment.fit(captions[fit])``, to share it between twins.
    Edge rule: a scene in both sets is a ValueError; a unit with a missing scene, or constant, is left out;
    no unit left gives NaN; a constant caption set gives NaN.
    Source: after the transfer of encoding models between modalities (Tang et al. 2023), reference design.

    >>> rng = np.random.default_rng(0)
    >>> captions, weights = rng.normal(size=(60, 5)), rng.normal(size=(5, 8))
    >>> result = caption_transfer(captions, captions @ weights, np.arange(40), np.arange(40, 60))
    >>> result.score > 0.9 > 0.4 > result.null
    True
    """
    words, units = to_complete_matrix(captions, "captions"), to_matrix(responses, "responses")
    if len(words) != len(units):
        raise ValueError(f"captions and responses need one row per scene; got {len(words)} and {len(units)}")
    fitted, tested = _scenes(fit, "fit", len(words)), _scenes(test, "test", len(words))
    if np.intersect1d(fitted, tested).size:
        raise ValueError(f"{np.intersect1d(fitted, tested).size} scenes are in both fit and test")
    shared = Alignment.fit(words[fitted]) if alignment is None else alignment
    directions = _directions(shared, words[tested], units[fitted], units[tested])
    forward, backward = (one.score(np.arange(len(fitted)), penalty) for one in directions)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(fitted)) for _ in range(SHUFFLES)]
    null = np.array([one.score(order, penalty) for one in directions for order in orders])
    return CaptionTransfer(forward, backward, (forward + backward) / 2, float(null.mean()))
