"""The scores of a cell: a new score is one new file and one line in SCORES."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models import SENTENCES_VERSION

VERSIONS: dict[str, int] = {
    "prediction": 2,
    "interval": 1,
    "invariance": 2,
    "invariance_alignment": 2,
    "dimensionality": 2,
    "transfer": 1,
    "transfer_brain": 2,
    "feature_transfer": 2,
    "feve": 1,
    "likelihood": 1,
    "conditioned": 2,
    "nonlinearity": 1,
    "invariance-battery": 1,
    "dimensionality-battery": 1,
    "receptive-field": 1,
    "search": 2,
    "rsa": 1,
}
"""Version of every headline score, raised only when its numbers change; part of a score's key."""


@dataclass(frozen=True)
class Score:
    """One score: where it is computed and what it writes.

    `columns` are written once with the prefix `select.` and once with `score.` (report); the first one is
    the score itself. `up` says that more is better; other scores are descriptive and never a default
    objective. `seconds` is about what a cell takes on one core, measured at the quickstart's sizes by
    benchmarks/scores.py. `probe` names the probe that it needs, `sentences` that it needs the sentence encoder;
    `absent` says why it is NaN where it does not apply. `asked` scores are computed only where they are named: in an
    experiment's `scores`, or by `sweeps score`. `trial_columns` are those that a trial has beyond the means over its
    cells: for every column in `ordered` Kendall's tau over areas in recorded order, and those of the curves.
    """

    target: str
    columns: tuple[str, ...]
    up: bool
    summary: str
    seconds: float
    probe: str | None = None
    sentences: bool = False
    absent: str = ""
    asked: bool = False
    ordered: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()

    def load(self) -> Callable[..., dict[str, float]]:
        """Import and return the function that computes it."""
        module, _, name = self.target.partition(":")
        function: Callable[..., dict[str, float]] = getattr(importlib.import_module(module), name)
        return function

    @property
    def trial_columns(self) -> tuple[str, ...]:
        """Columns that a trial has beyond those of its cells."""
        return (*(f"{column}_tau" for column in self.ordered), *self.curves)


_CURVES = tuple(
    f"{measure}_{what}"
    for measure in ("participation_ratio", "two_nn")
    for what in ("tau", "curve_distance", "collapse")
)
_NO_PICTURES = "a twin of features that come without pictures cannot be shown the probe"

BETTER_HIGHER = ("prediction_ceiled", "participation_ratio_closeness", "two_nn_closeness")

SCORES: dict[str, Score] = {
    "prediction": Score(
        "sweeps.scores.prediction:prediction",
        ("prediction", "prediction_ceiled", "prediction_constant_units", "brain_ceiling"),
        up=True,
        seconds=0.01,
        summary="mean over units of the correlation to the repeat average",
    ),
    "interval": Score(
        "sweeps.scores.interval:interval",
        ("prediction_low", "prediction_high"),
        up=False,
        seconds=0.01,
        asked=True,
        summary="95 % bootstrap interval of prediction over stimulus groups; taken where there are contrasts",
    ),
    "feve": Score(
        "sweeps.scores.feve:feve",
        ("feve", "feve_units", "brain_explainable_variance", "brain_oracle"),
        up=True,
        seconds=0.01,
        summary="share of the explainable variance that is explained, on single trials",
        absent="the recording holds no repeats",
    ),
    "invariance": Score(
        "sweeps.scores.invariance:invariance",
        ("invariance", "brain_invariance"),
        up=False,
        seconds=0.01,
        probe="objects",
        summary="object decoding across held-out transformations, 0 = chance, 1 = perfect",
        absent=_NO_PICTURES,
        ordered=("invariance",),
    ),
    "invariance_alignment": Score(
        "sweeps.scores.invariance:invariance_alignment",
        ("invariance_alignment",),
        up=True,
        seconds=0.03,
        summary="1 - |twin - brain| of object decoding on the recorded object views",
        absent="the recording holds no responses to object views",
    ),
    "dimensionality": Score(
        "sweeps.scores.dimensionality:dimensionality",
        (
            "dimensionality",
            "participation_ratio",
            "brain_participation_ratio",
            "participation_ratio_closeness",
            "two_nn",
            "brain_two_nn",
            "two_nn_closeness",
            "noise_matched",
        ),
        up=True,
        seconds=0.02,
        summary="closeness of the twin's dimensionality to the brain's, linear and nonlinear",
        curves=_CURVES,
    ),
    "transfer": Score(
        "sweeps.scores.transfer:transfer",
        ("transfer", "transfer_forward", "transfer_backward", "transfer_null", "brain_transfer"),
        up=False,
        seconds=0.05,
        probe="captions",
        sentences=True,
        summary="captions to the twin's responses and back, on held-out scenes",
        absent=_NO_PICTURES,
    ),
    "transfer_brain": Score(
        "sweeps.scores.transfer_brain:transfer_brain",
        (
            "transfer_brain",
            "transfer_brain_r",
            "brain_transfer_r",
            "transfer_brain_null",
            "transfer_seeing",
            "transfer_reading",
            "transfer_reading_to_seeing",
            "transfer_ratio",
            "transfer_ratio_units",
        ),
        up=True,
        seconds=0.07,
        sentences=True,
        summary="1 - |twin - brain| of the transfer from pictures to captions, unit by unit",
        absent="the recording holds no responses to both pictures and captions",
    ),
    "feature_transfer": Score(
        "sweeps.scores.feature_transfer:feature_transfer",
        ("feature_transfer", "feature_transfer_direct", "feature_transfer_other", "feature_transfer_null"),
        up=False,
        seconds=0.1,
        summary="trained on one feature set, tested on another through an alignment",
        absent="the recording brings no second feature set, or the twin is of pictures",
    ),
    "likelihood": Score(
        "sweeps.scores.likelihood:likelihood",
        ("likelihood", "likelihood_units"),
        up=True,
        seconds=0.01,
        asked=True,
        summary="Poisson information about single trials, bits per observation beyond the unit's mean",
        absent="responses below zero have no Poisson likelihood, nor have predicted rates at or below zero",
    ),
    "conditioned": Score(
        "sweeps.scores.conditioned:conditioned",
        ("conditioned", "conditioned_prior", "conditioned_gain", "joint_log_likelihood"),
        up=True,
        seconds=0.01,
        asked=True,
        summary="single trials given the other half of the population, for twins with latent factors",
        absent="the twin's units share no latent factors",
    ),
    "nonlinearity": Score(
        "sweeps.scores.nonlinearity:nonlinearity",
        ("nonlinearity", "nonlinearity_deviation", "nonlinearity_scale_free", "nonlinearity_units"),
        up=False,
        seconds=4.0,
        asked=True,
        summary="dispersion of the readout's Jacobian over stimuli (JNE)",
        absent="a linear readout has the same Jacobian everywhere, by construction",
        ordered=("nonlinearity",),
    ),
    "invariance-battery": Score(
        "sweeps.scores.invariance_battery:invariance_battery",
        (
            "rotation_decoding",
            "rotation_decoding_clean",
            "brain_rotation_decoding",
            "object_discriminability",
            "object_discriminability_clean",
            "brain_object_discriminability",
        ),
        up=False,
        seconds=35.0,
        probe="objects",
        asked=True,
        summary="rotation-invariant decoding (accuracy) and object discriminability (bits)",
        absent=f"{_NO_PICTURES}; three objects in a half, and repeats for its noise, are needed",
        ordered=("rotation_decoding", "object_discriminability"),
    ),
    "dimensionality-battery": Score(
        "sweeps.scores.dimensionality_battery:dimensionality_battery",
        (
            "levina_bickel",
            "brain_levina_bickel",
            *(f"{who}gride_{scale}" for scale in (2, 8, 32) for who in ("", "brain_")),
            "spectrum_slope",
            "brain_spectrum_slope",
            "clean_participation_ratio",
            "brain_cross_validated_participation_ratio",
            "shuffled_participation_ratio",
            *(f"features_{how}_{name}" for how in ("pooled", "flat") for name in ("participation_ratio", "two_nn")),
        ),
        up=False,
        seconds=0.1,
        asked=True,
        summary="dimension by scale, local and cross-validated, with nulls, of twin, brain and features",
        ordered=("levina_bickel", "clean_participation_ratio"),
    ),
    "receptive-field": Score(
        "sweeps.scores.receptive_field:receptive_field",
        ("receptive_field", "receptive_field_units"),
        up=False,
        seconds=20.0,
        asked=True,
        summary="mean area of the units' receptive fields, as a share of the picture",
        absent="a twin of features that come without pictures has no receptive field",
        ordered=("receptive_field",),
    ),
    "search": Score(
        "sweeps.scores.visual_search:search",
        (
            "search_asymmetry",
            "search_asymmetry_low",
            "search_asymmetry_high",
            *(f"search_asymmetry_{number}" for number in range(1, 7)),
            "search_polarity",
            "search_slope_r",
            "search_rt_error",
            "search_never_found",
            "human_search_asymmetry",
            *(f"human_search_asymmetry_{number}" for number in range(1, 7)),
            "human_search_polarity",
        ),
        up=False,
        seconds=40.0,
        probe="search",
        asked=True,
        summary="asymmetry of visual search in six experiments, that of people beside it",
        absent="a trained core, a twin of features that come without pictures and a network whose maps are one pixel "
        "do not search; nor are displays searched whose cells are under two pixels of the attention map",
    ),
    "rsa": Score(
        "sweeps.scores.rsa:rsa",
        ("rsa", "rsa_features", "rsa_ceiling"),
        up=True,
        seconds=0.05,
        asked=True,
        summary="correlation of the dissimilarities of stimuli, predicted with recorded, beside that of the features",
        absent="three units and three stimuli that all of them were shown are needed, and repeats for the ceiling",
    ),
}

STANDARD = tuple(name for name, score in SCORES.items() if not score.asked)
"""Scores of an experiment that names none."""


def score_key(name: str, probes: Mapping[str, str]) -> str:
    """Identity of a score: name, VERSION, the sentence encoder's where it is used, and the probe's fingerprint."""
    score = SCORES[name]
    encoder = f"+sentences{SENTENCES_VERSION}" if score.sentences else ""
    probe = probes.get(score.probe) if score.probe else None
    return f"{name}@{VERSIONS[name]}{encoder}" + (f":{probe[:16]}" if probe else "")


def objectives() -> list[str]:
    """Select columns that may drive a search: every score itself, and what else is better the higher it is."""
    firsts = [score.columns[0] for score in SCORES.values()]
    return [f"select.{column}" for column in (*firsts, *BETTER_HIGHER)]


def cell_columns(names: list[str]) -> list[str]:
    """Score columns of a cell row, in order."""
    inner = [column for name in names for column in SCORES[name].columns]
    return [f"{split}.{column}" for split in ("select", "score") for column in inner]


def trial_columns(names: list[str]) -> list[str]:
    """Score columns that a trial row has beyond those of its cells."""
    inner = [column for name in names for column in SCORES[name].trial_columns]
    return [f"{split}.{column}" for split in ("select", "score") for column in inner]


def unavailable(name: str) -> dict[str, Any]:
    """NaN in every column of a score."""
    return dict.fromkeys(SCORES[name].columns, float("nan"))
