"""Explained share of the explainable variance, and what the repeats say about it."""

from __future__ import annotations

from metrics import explainable_variance, finite_mean, oracle
from metrics import feve as explained
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "feve",
    version=1,
    columns=("feve", "feve_units", "brain_explainable_variance", "brain_oracle"),
    up=True,
    summary="share of the explainable variance that is explained, on single trials",
    seconds=0.01,
    absent="the recording holds no repeats",
    shown={"feve": None},
)


def compute(view: CellView) -> dict[str, float]:
    """Mean FEVE over the units whose explainable variance is at least 0.15, as in the field; `feve_units` of them.

    On single trials of the split's stimuli (the variant "trials" of metrics.feve). The brain's own explainable
    variance and its jackknife oracle stand beside it. Without repeats everything is NaN.
    """
    mean, left_out = finite_mean(explained(view.predicted, view.repeats))
    explainable, _ = finite_mean(view.of_brain("explainable", lambda: explainable_variance(view.repeats)))
    reached, _ = finite_mean(view.of_brain("oracle", lambda: oracle(view.repeats)))
    return {
        "feve": mean,
        "feve_units": float(len(view.units) - left_out),
        "brain_explainable_variance": explainable,
        "brain_oracle": reached,
    }
