"""What the rest of a population tells about single trials, for twins whose units share latent factors."""

from __future__ import annotations

import numpy as np

from metrics import correlation, finite_mean
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "conditioned",
    version=2,
    columns=("conditioned", "conditioned_prior", "conditioned_gain", "joint_log_likelihood"),
    up=True,
    summary="single trials given the other half of the population, for twins with latent factors",
    seconds=0.01,
    absent="the twin's units share no latent factors",
    on_request=True,
    shown={"conditioned": "conditioned_prior", "conditioned_gain": None},
)


def compute(view: CellView) -> dict[str, float]:
    """Mean over units of the single-trial correlation given the other half of the population, and what that gains.

    `conditioned_prior` is the same correlation of the prediction from the stimulus alone, `conditioned_gain` the
    difference; trials and frames are concatenated. `joint_log_likelihood` is that of all units of the recording
    together, in bits per unit and frame, averaged over samples of the prior. A unit that is constant, or predicted as
    constant, has no correlation and counts as 0 in neither; NaN for twins without latent factors.
    """
    if "conditioned" not in view.extras:
        return SCORE.unavailable()
    trials = view.repeats
    given = _correlation(view.extras["conditioned"], trials)
    alone = _correlation(np.repeat(view.predicted[:, :, None], trials.shape[2], axis=2), trials)
    mean, prior, gain = (finite_mean(values)[0] for values in (given, alone, given - alone))
    joint = view.extras["joint"]
    return {
        "conditioned": mean,
        "conditioned_prior": prior,
        "conditioned_gain": gain,
        "joint_log_likelihood": float(np.nanmean(joint)) if np.isfinite(joint).any() else float("nan"),
    }


def _correlation(predicted: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Correlation (units,) over all observed (row, repeat) of (rows, units, repeats)."""
    there = np.isfinite(trials) & np.isfinite(predicted)
    pairs = (np.where(there, values, np.nan) for values in (predicted, trials))
    flat = (values.transpose(0, 2, 1).reshape(-1, trials.shape[1]) for values in pairs)
    return np.asarray(correlation(*flat))
