"""Rows of the table `guidance`: what every twin says of pictures, and what pictures they are."""

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
from sweeps.guidance.synthesis import Judged, Made, Studio
from sweeps.guidance.twins import ChosenTwin, Target
from sweeps.hashing import canonical, content_id
from sweeps.storage.columns import PICTURE_KINDS as KINDS

VERSION = 1
"""Raise when the pictures or their scores change for the same twins and settings."""

MOST_COMPARED = 64
"""Pictures of a kind whose statistics are taken, evenly taken above this number."""

UNSEEN = ("twins", "differ", "least_prediction", "areas", "contrast")
"""Settings that decide which twins and areas are taken, and nothing else: those taken identify a gallery instead."""


def gallery_id(guidance: Guidance, target: Target, twins: Sequence[ChosenTwin]) -> str:
    """Identity of what one target's rows hold: settings, target, and the cells that guide and judge."""
    settings = {key: value for key, value in guidance.resolved().items() if key not in UNSEEN}
    cells = [[twin.cell(area).cell_id for area in twin.predictions] for twin in twins]
    return content_id([VERSION, settings, str(target), target.weight, cells])


def kept(guidance: Guidance, judged: Judged) -> np.ndarray:
    """Indices of the best share of the guided pictures, by the guiding twin, best first."""
    wanted = max(1, round(guidance.keep * guidance.seeds))
    return np.argsort(-judged.objective["guided"], kind="stable")[:wanted]


def rows_of(
    guidance: Guidance, target: Target, twins: Sequence[ChosenTwin], judged: Sequence[Judged], folder: str
) -> list[dict[str, Any]]:
    """One row per twin, the guiding one first."""
    chosen, gallery = kept(guidance, judged[0]), gallery_id(guidance, target, twins)
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
        "kept": len(chosen),
        "natural": len(judged[0].objective["natural"]),
    }
    return [
        {**common, **_about(target, twin, gallery), "role": "judge" if place else "guide", **gains(each, chosen)}
        for place, (twin, each) in enumerate(zip(twins, judged, strict=True))
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


def gains(judged: Judged, chosen: np.ndarray) -> dict[str, float]:
    """Columns that one twin gives: activities and gains, of all seeds and of the chosen pictures."""
    guided, unguided, natural = (judged.objective[kind] for kind in KINDS)
    return {
        "activity_guided": float(guided.mean()),
        "activity_unguided": float(unguided.mean()),
        "activity_kept": float(guided[chosen].mean()),
        "activity_best_natural": float(np.sort(natural)[-len(chosen) :].mean()),
        "gain_over_best": gain_over_best(guided[chosen], natural),
        "gain_over_unguided": gain_over_unguided(guided, unguided),
        "off_target_ratio": off_target_ratio(guided[chosen], judged.others["guided"][:, chosen]),
    }


def transfers(judges: Sequence[Judged], chosen: np.ndarray) -> dict[str, float]:
    """Columns of the guiding twin's row that its judges give, mean over judges; NaN without judges."""
    guided, unguided = ([each.objective[kind] for each in judges] for kind in KINDS[:2])
    over_best = [gain_over_best(each.objective["guided"][chosen], each.objective["natural"]) for each in judges]
    return {
        "judges": len(judges),
        "transfer_gain": transfer_gain(guided, unguided) if judges else float("nan"),
        "transfer_gain_over_best": float(np.mean(over_best)) if over_best else float("nan"),
    }


def statistics(studio: Studio, target: Target, guide: ChosenTwin, made: Made) -> dict[str, float]:
    """Columns of the guiding twin's row about the pictures themselves, by kind."""
    found: dict[str, float] = {}
    for kind in KINDS:
        pictures = _some(made.of(kind))
        found[f"diversity_{kind}"] = diversity(studio.features(guide, target.area, pictures))
        found[f"rms_contrast_{kind}"] = float(np.mean(rms_contrast(pictures.numpy())))
        found[f"spectrum_slope_{kind}"] = float(np.nanmean(image_spectrum_slope(pictures.numpy())))
    return found


def _some(pictures: Tensor) -> Tensor:
    count = min(len(pictures), MOST_COMPARED)
    return pictures[torch.linspace(0, len(pictures) - 1, count).round().long()]
