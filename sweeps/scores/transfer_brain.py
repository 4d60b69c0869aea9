"""Cross-modal transfer against recorded responses, where a recording holds them to pictures and to their captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrics import Alignment, benjamini_hochberg, block_permutation_p, correlation
from sweeps.scores.matched import AT_CHANCE, REASONS, BrainNoise, Measure, aligned, code, unknown_noise
from sweeps.scores.score import Score
from sweeps.scores.transfer import caption_alignment, scene_split
from sweeps.scores.view import CellView

SCORE = Score(
    "transfer_brain",
    version=3,
    columns=(
        "transfer_brain",
        "transfer_brain_r",
        "brain_transfer_r",
        "transfer_brain_null",
        "transfer_seeing",
        "transfer_reading",
        "transfer_reading_to_seeing",
        "transfer_ratio",
        "transfer_ratio_units",
        *(f"transfer_brain_{column}" for column in aligned("best_null")),
        *(f"transfer_brain_null_{twin}" for twin in ("constant", "white_noise", "shuffled")),
        "brain_transfer_p",
    ),
    up=True,
    summary="1 - |twin - brain| of the transfer from pictures to captions, unit by unit",
    seconds=0.07,
    sentences=True,
    absent="the recording holds no responses to both pictures and captions",
    reasons=REASONS,
    gaps=unknown_noise("captions", "text"),
    shown={
        "transfer_brain": "transfer_brain_best_null",
        "transfer_brain_normalised": None,
        "transfer_brain_r": "brain_transfer_r",
        "transfer_brain_null": None,
        "transfer_ratio": None,
    },
)

SHUFFLES = 3
PERMUTATIONS = 99
"""Shuffles of the alignment's pairs for the brain's own null."""

LEVEL = 0.05
RATE = 0.05
"""False discovery rate at which a unit's responses to captions count as predicted from captions."""


@dataclass(frozen=True)
class _Scenes:
    """Captioned scenes of a recording: embeddings and recorded averages, on the scenes that fit and that test.

    `projected` are the embeddings of those that test on the axes of those that fit.
    """

    embedded: np.ndarray
    picture_responses: np.ndarray
    caption_responses: np.ndarray
    fit: np.ndarray
    test: np.ndarray
    alignment: Alignment
    projected: np.ndarray

    @classmethod
    def of(cls, view: CellView) -> _Scenes:
        """Take the scenes of the cell's recording, with the alignment fitted to those that fit."""
        sets = view.recording.sets
        captions = tuple(sets["captions"].table["caption"])
        fit, test = scene_split(view, len(captions))
        embedded, alignment = view.embed(captions), caption_alignment(view, captions, fit)
        pictures, texts = (sets[role].average[:, view.units] for role in ("captions", "text"))
        return cls(embedded, pictures, texts, fit, test, alignment, alignment.project(embedded[test]))

    def to_reading(
        self, pictures: np.ndarray, order: np.ndarray | None = None, units: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """r per unit: what responses to pictures lead to expect of reading a caption, against what was recorded.

        The alignment takes captions to the responses to their pictures on the scenes that fit. `pictures` are those of
        `units` alone.
        """
        fitted = pictures[self.fit] if order is None else pictures[self.fit][order]
        recorded = self.caption_responses[self.test][:, units]
        return np.asarray(correlation(self.alignment.carry(fitted, self.projected), recorded))

    def reading_p(self, seed: int) -> float:
        """p of the brain's own r, by its mean square over units: how many shuffles of the pairs reach as much.

        Signs are free, since a unit may read against what it sees; the penalty is that of the pairs as they are.
        """
        random, fitted = np.random.default_rng(seed), self.picture_responses[self.fit]
        orders = [np.arange(len(fitted)), *(random.permutation(len(fitted)) for _ in range(PERMUTATIONS))]
        stacked = np.concatenate([fitted[order] for order in orders], axis=1)
        predicted = self.alignment.carry(stacked, self.projected, self.alignment.choose(fitted))
        reached = correlation(predicted, np.tile(self.caption_responses[self.test], len(orders)))
        own, *null = (_mean(one) for one in np.split(np.asarray(reached) ** 2, len(orders)))
        return float((1 + (np.array(null) >= own).sum()) / (1 + PERMUTATIONS)) if np.isfinite(own) else float("nan")

    def to_seeing(self, pictures: np.ndarray) -> np.ndarray:
        """r per unit the other way: pictures to captions by the twin, captions to responses as when they are read."""
        back = Alignment.fit(_scaled(pictures[self.fit], pictures[self.fit]))
        captions = back.predict(self.embedded[self.fit], _scaled(pictures[self.test], pictures[self.fit]))
        return np.asarray(
            correlation(
                self.alignment.predict(self.caption_responses[self.fit], captions), self.picture_responses[self.test]
            )
        )

    def within_reading(self) -> tuple[np.ndarray, np.ndarray]:
        """r per unit of responses to captions predicted from captions, and its p adjusted over units."""
        predicted = self.alignment.carry(self.caption_responses[self.fit], self.projected)
        observed = self.caption_responses[self.test]
        p = block_permutation_p(predicted, observed, block=1, permutations=499)
        return np.asarray(correlation(predicted, observed)), np.asarray(benjamini_hochberg(p))


def compute(view: CellView) -> dict[str, float]:
    """How closely the twin's transfer from pictures to captions follows the brain's own, unit by unit.

    1 - mean over units of |r_twin - r_brain|. r is the correlation, over held-out captions, of the recorded responses
    to captions with what the responses to pictures lead to expect, through an alignment from captions to responses
    fitted on other scenes: the twin's responses to pictures for r_twin (with the noise of the recorded averages, the
    mean over draws), the recorded ones for r_brain. A larger r is no merit in itself: a twin that sees less than the
    brain does besides the meaning reaches more than the brain's own pictures do. NaN where the noise is not known, and
    where the brain's r is within its null, with shuffled pairs (`brain_transfer_p`).

    Beside it, as means over units, signed: `transfer_brain_r` and the brain's `brain_transfer_r`, the null with the
    alignment's pairs shuffled, the other three directions (seeing, reading, reading to seeing), and the ratio r_twin
    over the within-reading r, over the units where that is significant (permutation, FDR 0.05), with their number.
    """
    sets = view.recording.sets
    if "captions" not in sets or "text" not in sets or "recorded.captions" not in view.shown:
        return SCORE.unavailable()
    scenes, twin = _Scenes.of(view), view.shown["recorded.captions"]
    within, p = view.of_brain("within reading", scenes.within_reading)
    random = view.random("transfer_brain")
    clean, null = scenes.to_reading(twin), [scenes.to_reading(twin, _order(random, scenes)) for _ in range(SHUFFLES)]
    significant = p <= RATE
    return {
        **SCORE.unavailable(),
        "transfer_brain_r": _mean(clean),
        "brain_transfer_r": _mean(view.of_brain("reading", lambda: scenes.to_reading(scenes.picture_responses))),
        "transfer_brain_null": _mean(np.concatenate(null)),
        "transfer_seeing": _mean(np.asarray(correlation(twin[scenes.test], scenes.picture_responses[scenes.test]))),
        "transfer_reading": _mean(within),
        "transfer_reading_to_seeing": _mean(scenes.to_seeing(twin)),
        "transfer_ratio": _mean(clean[significant] / within[significant]),
        "transfer_ratio_units": float(significant.sum()),
        **_aligned(view, scenes, twin),
    }


def _aligned(view: CellView, scenes: _Scenes, twin: np.ndarray) -> dict[str, float]:
    """The alignment with the brain, and what stands beside it."""
    noise = BrainNoise(view, "captions", np.ones(len(twin), dtype=bool))
    if np.isfinite(noise.reason):
        return {"transfer_brain_reason": noise.reason}
    p = float(view.of_brain("reading p", lambda: scenes.reading_p(view.brain_seed)))
    if not p <= LEVEL:
        return {"transfer_brain_reason": code(AT_CHANCE), "brain_transfer_p": p}
    observed = scenes.picture_responses[:, noise.known]
    brain = scenes.to_reading(observed, units=noise.known)

    def differences(responses: np.ndarray, _: np.ndarray) -> np.ndarray:
        reached = np.array([scenes.to_reading(one, units=noise.known) for one in responses])
        return np.where(np.isfinite(brain), np.nan_to_num(reached) - brain, np.nan)

    measure = Measure(differences, _closeness)
    result = noise.averaged(measure, lambda number: twin[:, noise.known])
    reference = view.of_brain("reading reference", lambda: noise.reference(measure, observed, shuffled=True))
    columns = reference.columns("transfer_brain", result, "best_null")
    return {"transfer_brain": result.value, "brain_transfer_p": p, **columns}


def _closeness(difference: np.ndarray) -> float:
    return 1.0 - _mean(np.abs(difference))


def _order(random: np.random.Generator, scenes: _Scenes) -> np.ndarray:
    return random.permutation(len(scenes.fit))


def _scaled(responses: np.ndarray, fit: np.ndarray) -> np.ndarray:
    spread = fit.std(axis=0)
    return np.asarray(responses / np.where(spread > 0, spread, 1.0))


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
