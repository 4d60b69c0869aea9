"""Explained share of the explainable variance, and what the repeats say about it."""

from __future__ import annotations

from metrics import area_feve, explainable_variance, finite_mean, oracle
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "feve",
    version=2,
    columns=("feve", "feve_units", "brain_explainable_variance", "brain_oracle"),
    up=True,
    summary="share of the explainable variance that is explained, on single trials",
    seconds=0.01,
    absent="the recording holds no repeats",
    shown={"feve": None},
)


def compute(view: CellView) -> dict[str, float]:
    """Share of the area's explainable variance that is explained, on single trials (metrics.area_feve).

    The field leaves out units whose explainable variance is below 0.15 on the responses that are scored, and so
    chooses units by them; here all units count, `feve_units` of them, each for what can be explained of it. The brain's
    own explainable variance and its jackknife oracle stand beside it. Without repeats everything is NaN.
    """
    share, units = area_feve(view.predicted, view.repeats)
    explainable, _ = finite_mean(view.of_brain("explainable", lambda: explainable_variance(view.repeats)))
    reached, _ = finite_mean(view.of_brain("oracle", lambda: oracle(view.repeats)))
    return {
        "feve": share,
        "feve_units": float(units),
        "brain_explainable_variance": explainable,
        "brain_oracle": reached,
    }
