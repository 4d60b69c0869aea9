"""The scores of a cell: a new score is one new file, which declares itself, and one line in SCORES."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from models import SENTENCES_VERSION
from models.registry import Registry
from sweeps.scores.score import Score, with_module

SCORES: Registry[Score] = Registry(
    "scores",
    Score,
    {
        "prediction": "sweeps.scores.prediction:SCORE",
        "interval": "sweeps.scores.interval:SCORE",
        "feve": "sweeps.scores.feve:SCORE",
        "invariance": "sweeps.scores.invariance:SCORE",
        "invariance_alignment": "sweeps.scores.invariance_alignment:SCORE",
        "dimensionality": "sweeps.scores.dimensionality:SCORE",
        "transfer": "sweeps.scores.transfer:SCORE",
        "transfer_brain": "sweeps.scores.transfer_brain:SCORE",
        "feature_transfer": "sweeps.scores.feature_transfer:SCORE",
        "likelihood": "sweeps.scores.likelihood:SCORE",
        "conditioned": "sweeps.scores.conditioned:SCORE",
        "nonlinearity": "sweeps.scores.nonlinearity:SCORE",
        "invariance-battery": "sweeps.scores.invariance_battery:SCORE",
        "dimensionality-battery": "sweeps.scores.dimensionality_battery:SCORE",
        "receptive-field": "sweeps.scores.receptive_field:SCORE",
        "search": "sweeps.scores.visual_search:SCORE",
        "rsa": "sweeps.scores.rsa:SCORE",
        "ood": "sweeps.scores.ood:SCORE",
    },
    complete=with_module,
)
"""Name -> score."""


def standard_scores() -> list[str]:
    """Scores of an experiment that names none: those that ship here and are not computed on request alone."""
    return [name for name in SCORES.builtin if not SCORES[name].on_request]


def in_order(names: Iterable[str]) -> list[str]:
    """Names of scores in the order of SCORES, plug-ins behind, none twice."""
    wanted = dict.fromkeys(names)
    builtin = [name for name in SCORES.builtin if name in wanted]
    return [*builtin, *(name for name in wanted if name not in SCORES.builtin)]


def score_key(name: str, probes: Mapping[str, str]) -> str:
    """Identity of a score: name, VERSION, the sentence encoder's where it is used, and the probe's fingerprint."""
    score = SCORES[name]
    encoder = f"+sentences{SENTENCES_VERSION}" if score.sentences else ""
    probe = probes.get(score.probe) if score.probe else None
    return f"{name}@{score.version}{encoder}" + (f":{probe[:16]}" if probe else "")


def objectives(names: Iterable[str]) -> list[str]:
    """Select columns of these scores that may drive a search: every score itself, and what else is better if higher."""
    scores = [SCORES[name] for name in names]
    firsts = [score.columns[0] for score in scores]
    return [f"select.{column}" for column in (*firsts, *(column for score in scores for column in score.also_up))]


def cell_columns(names: Iterable[str]) -> list[str]:
    """Score columns of a cell row, in order."""
    inner = [column for name in names for column in SCORES[name].columns]
    return [f"{split}.{column}" for split in ("select", "score") for column in inner]


def trial_columns(names: Iterable[str]) -> list[str]:
    """Score columns that a trial row has beyond those of its cells."""
    inner = [column for name in names for column in SCORES[name].trial_columns]
    return [f"{split}.{column}" for split in ("select", "score") for column in inner]
