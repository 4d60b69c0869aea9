"""How near the twin's invariance comes to the brain's, on the object views that were recorded."""

from __future__ import annotations

import numpy as np

from metrics.invariance.decoding import transform_folds
from metrics.invariance.many_decodings import object_decodings
from sweeps.scores.invariance import Views, recorded_views
from sweeps.scores.matched import AT_CHANCE, REASONS, BrainNoise, Measure, aligned, code, unknown_noise
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "invariance_alignment",
    version=3,
    columns=(
        "invariance_alignment",
        *(f"invariance_alignment_{column}" for column in aligned()),
        *(f"invariance_alignment_null_{twin}" for twin in ("constant", "white_noise", "shuffled")),
        "brain_invariance_p",
    ),
    up=True,
    summary="1 - |twin - brain| of object decoding on the recorded object views",
    seconds=0.06,
    absent="the recording holds no responses to object views",
    reasons=REASONS,
    gaps=unknown_noise("objects"),
    shown={"invariance_alignment": "invariance_alignment_null", "invariance_alignment_normalised": None},
)

PERMUTATIONS = 99
"""Permutations of the objects' labels, among the views of a transformation."""

LEVEL = 0.05


def compute(view: CellView) -> dict[str, float]:
    """1 - |twin - brain| of the decoding of the recorded object views.

    The noise of the recorded averages (see metrics.prediction.matched_noise) is added to the twin's noise-free
    responses; the decoding is the mean over draws. NaN where that noise is not known, and where the brain's own
    decoding is within its null: labels permuted among the views of a transformation (`brain_invariance_p`).
    """
    if "objects" not in view.recording.sets or "recorded.objects" not in view.shown:
        return SCORE.unavailable()
    views = recorded_views(view)
    noise = BrainNoise(view, "objects", views.chosen)
    observed = view.recording.sets["objects"].average[:, view.units][views.chosen][:, noise.known]
    if np.isfinite(noise.reason):
        return SCORE.unavailable() | {"invariance_alignment_reason": noise.reason}
    p = float(view.of_brain("object permutations", lambda: _permutation_p(view, views, observed)))
    if not p <= LEVEL:
        return SCORE.unavailable() | {"invariance_alignment_reason": code(AT_CHANCE), "brain_invariance_p": p}
    brain = _decoded(observed, views.objects, views)
    measure = Measure(lambda responses, _: _decoded(responses, views.objects, views)[:, None] - brain, _closeness)
    twin = view.shown["recorded.objects"][views.chosen][:, noise.known]
    result = noise.averaged(measure, lambda number: twin)
    reference = view.of_brain("invariance reference", lambda: noise.reference(measure, observed, shuffled=True))
    columns = reference.columns("invariance_alignment", result)
    return {"invariance_alignment": result.value, **columns, "brain_invariance_p": p}


def _closeness(difference: np.ndarray) -> float:
    return float(1.0 - np.abs(difference).mean())


def _decoded(responses: np.ndarray, objects: np.ndarray, views: Views) -> np.ndarray:
    """Chance-corrected decoding of a stack of responses, or of labels; see `Views.decode_chosen`."""
    chance = 1 / len(np.unique(views.objects))
    return np.asarray((object_decodings(responses, objects, views.transforms) - chance) / (1 - chance))


def _permutation_p(view: CellView, views: Views, observed: np.ndarray) -> float:
    """p of the brain's decoding: how many permutations of the objects' labels are decoded as well."""
    if len(np.unique(views.objects)) < 2:
        return float("nan")
    random = np.random.default_rng([view.brain_seed, 25])
    blocks = _blocks(views.transforms)
    null = _decoded(observed, np.stack([_permuted(views.objects, blocks, random) for _ in range(PERMUTATIONS)]), views)
    return float((1 + np.sum(null >= _decoded(observed, views.objects, views))) / (1 + PERMUTATIONS))


def _blocks(transforms: np.ndarray) -> np.ndarray:
    """Views among which labels are exchanged: those of a transformation, or of a fold where each has its own."""
    _, block, sizes = np.unique(transforms, return_inverse=True, return_counts=True)
    return block if (sizes > 1).mean() > 0.5 else transform_folds(transforms, 5)


def _permuted(objects: np.ndarray, blocks: np.ndarray, random: np.random.Generator) -> np.ndarray:
    permuted = objects.copy()
    for block in np.unique(blocks):
        rows = np.flatnonzero(blocks == block)
        permuted[rows] = objects[random.permutation(rows)]
    return permuted
