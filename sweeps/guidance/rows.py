"""Rows of the table `guidance`: what every twin predicts of pictures, and what pictures they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics import (
    diversity,
    gain_over_best,
    gain_over_unguided,
    image_spectrum_slope,
    off_target_ratio,
    rms_contrast,
    transfer_gain,
)
from sweeps.experiment.guidance import Guidance
from sweeps.guidance.synthesis import Judgement, PictureSets, Synthesizer
from sweeps.guidance.twins import ChosenTwin, Target
from sweeps.hashing import canonical, content_id
from sweeps.storage.schema import PICTURE_KINDS as KINDS

VERSION = 1
"""Raise when the pictures or their scores change for the same twins and settings."""

MOST_COMPARED = 64
"""Pictures of a kind whose statistics are taken, evenly taken above this number."""

SELECTION = ("twins", "differ", "least_prediction", "areas", "contrast")
"""Settings that decide which twins and areas are taken, and nothing else: those taken identify a gallery instead."""


def gallery_id(guidance: Guidance, target: Target, twins: Sequence[ChosenTwin]) -> str:
    """Return the identity of what one target's rows hold: settings, target, and the cells that guide and judge."""
    settings = {key: value for key, value in guidance.resolved().items() if key not in SELECTION}
    cells = [[twin.cell(area).cell_id for area in twin.predictions] for twin in twins]
    return content_id([VERSION, settings, str(target), target.weight, cells])


def best_pictures(guidance: Guidance, judgement: Judgement) -> np.ndarray:
    """Return the indices of the best share of the guided pictures, by the guiding twin, best first."""
    wanted = max(1, round(guidance.keep * guidance.seeds))
    return np.argsort(-judgement.objective["guided"], kind="stable")[:wanted]


def rows_of(
    guidance: Guidance, target: Target, twins: Sequence[ChosenTwin], judgements: Sequence[Judgement], folder: str
) -> list[dict[str, Any]]:
    """Make one row per twin, the guiding one first."""
    best, gallery = best_pictures(guidance, judgements[0]), gallery_id(guidance, target, twins)
    common = {
        "gallery": gallery,
        "folder": folder,
        "recording": target.recording,
        "area": target.area,
        "against": target.against,
        "weight": target.weight if target.against else None,
        "method": guidance.method,
        "settings": canonical(guidance.resolved()),
        "seeds": guidance.seeds,
        "kept": len(best),
        "natural": len(judgements[0].objective["natural"]),
    }
    return [
        {**common, **_about(target, twin, gallery), "role": "judge" if place else "guide", **gains(judgement, best)}
        for place, (twin, judgement) in enumerate(zip(twins, judgements, strict=True))
    ]


def _about(target: Target, twin: ChosenTwin, gallery: str) -> dict[str, Any]:
    cell = twin.cell(target.area)
    return {
        "guidance_id": content_id([gallery, cell.cell_id]),
        "trial_id": twin.trial_id,
        "cell_id": cell.cell_id,
        "backbone": cell.backbone["name"],
        "depth": cell.depth,
        "readout": cell.readout["name"],
        "config": canonical(cell.configuration()),
        "prediction": twin.predictions[target.area],
    }


def gains(judgement: Judgement, best: np.ndarray) -> dict[str, float]:
    """Return the columns that one twin gives: activities and gains, of all seeds and of the best pictures."""
    guided, unguided, natural = (judgement.objective[kind] for kind in KINDS)
    return {
        "activity_guided": float(guided.mean()),
        "activity_unguided": float(unguided.mean()),
        "activity_kept": float(guided[best].mean()),
        "activity_best_natural": float(np.sort(natural)[-len(best) :].mean()),
        "gain_over_best": gain_over_best(guided[best], natural),
        "gain_over_unguided": gain_over_unguided(guided, unguided),
        "off_target_ratio": off_target_ratio(guided[best], judgement.others["guided"][:, best]),
    }


def transfers(judges: Sequence[Judgement], best: np.ndarray) -> dict[str, float]:
    """Return the columns of the guiding twin's row that its judges give, mean over judges; NaN without judges."""
    guided, unguided = ([judge.objective[kind] for judge in judges] for kind in KINDS[:2])
    over_best = [gain_over_best(judge.objective["guided"][best], judge.objective["natural"]) for judge in judges]
    return {
        "judges": len(judges),
        "transfer_gain": transfer_gain(guided, unguided) if judges else float("nan"),
        "transfer_gain_over_best": float(np.mean(over_best)) if over_best else float("nan"),
    }


def statistics(synthesizer: Synthesizer, target: Target, guide: ChosenTwin, pictures: PictureSets) -> dict[str, float]:
    """Return the columns of the guiding twin's row about the pictures themselves, by kind."""
    columns: dict[str, float] = {}
    for kind in KINDS:
        sample = _sample(pictures.of(kind))
        columns[f"diversity_{kind}"] = diversity(synthesizer.features(guide, target.area, sample))
        columns[f"rms_contrast_{kind}"] = float(np.mean(rms_contrast(sample.numpy())))
        columns[f"spectrum_slope_{kind}"] = float(np.nanmean(image_spectrum_slope(sample.numpy())))
    return columns


def _sample(pictures: Tensor) -> Tensor:
    count = min(len(pictures), MOST_COMPARED)
    return pictures[torch.linspace(0, len(pictures) - 1, count).round().long()]
