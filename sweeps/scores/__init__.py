"""The scores of a cell: a new score is one new file and one line in SCORES."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from metrics import VERSIONS
from models import SENTENCES_VERSION


@dataclass(frozen=True)
class Score:
    """One headline score: where it is computed and what it writes.

    `columns` are written once with the prefix `select.` and once with `score.` (report); the first one is
    the score itself. `up` says that more is better; other scores are descriptive and never a default
    objective. `probe` names the probe that it needs, `sentences`
    that it needs the sentence encoder; `absent` says why it is NaN where it does not apply.
    """

    target: str
    columns: tuple[str, ...]
    up: bool
    summary: str
    probe: str | None = None
    sentences: bool = False
    absent: str = ""
    trial_columns: tuple[str, ...] = ()

    def load(self) -> Callable[..., dict[str, float]]:
        """Import and return the function that computes it."""
        module, _, name = self.target.partition(":")
        function: Callable[..., dict[str, float]] = getattr(importlib.import_module(module), name)
        return function


_CURVES = tuple(
    f"{measure}_{what}"
    for measure in ("participation_ratio", "two_nn")
    for what in ("tau", "curve_distance", "collapse")
)

BETTER_HIGHER = ("prediction_ceiled", "participation_ratio_closeness", "two_nn_closeness")

SCORES: dict[str, Score] = {
    "prediction": Score(
        "sweeps.scores.prediction:prediction",
        ("prediction", "prediction_ceiled", "brain_ceiling"),
        up=True,
        summary="mean over units of the correlation to the repeat average",
    ),
    "invariance": Score(
        "sweeps.scores.invariance:invariance",
        ("invariance", "brain_invariance"),
        up=False,
        probe="objects",
        summary="object decoding across held-out transformations, 0 = chance, 1 = perfect",
        absent="a twin of features that come without pictures cannot be shown the probe",
    ),
    "invariance_alignment": Score(
        "sweeps.scores.invariance:invariance_alignment",
        ("invariance_alignment",),
        up=True,
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
        summary="closeness of the twin's dimensionality to the brain's, linear and nonlinear",
        trial_columns=_CURVES,
    ),
    "transfer": Score(
        "sweeps.scores.transfer:transfer",
        ("transfer", "transfer_forward", "transfer_backward", "transfer_null", "brain_transfer"),
        up=False,
        probe="captions",
        sentences=True,
        summary="captions to the twin's responses and back, on held-out scenes",
        absent="a twin of features that come without pictures cannot be shown the probe",
    ),
    "transfer_brain": Score(
        "sweeps.scores.transfer:transfer_brain",
        ("transfer_brain", "transfer_brain_null", "brain_transfer_brain"),
        up=True,
        sentences=True,
        summary="recorded responses to captions predicted by the twin of vision",
        absent="the recording holds no responses to both pictures and captions",
    ),
    "feature_transfer": Score(
        "sweeps.scores.feature_transfer:feature_transfer",
        ("feature_transfer", "feature_transfer_direct", "feature_transfer_other", "feature_transfer_null"),
        up=False,
        summary="trained on one feature set, tested on another through an alignment",
        absent="the recording brings no second feature set, or the twin is of pictures",
    ),
}


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
