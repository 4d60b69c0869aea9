"""Making pictures for an area and judging them: one target, its guiding twin, its judges, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics import area_activity
from models.guidance.diffusion import DiffusionSettings, denoise
from models.guidance.fourier import FourierSettings, ascend
from models.guidance.objective import AreaMean, Objective
from models.guidance.pictures import in_batches, resized
from models.guidance.pipeline import Parts
from models.inputs.tensors import as_images
from sweeps.errors import InputError
from sweeps.experiment.guidance import Guidance
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.predictors import Predictor, predictors_of
from sweeps.guidance.twins import ChosenTwin, Target
from sweeps.io.lru_cache import LRUCache
from sweeps.recordings.recording import Recording
from sweeps.storage.schema import PICTURE_KINDS as KINDS

MOST_NATURAL = 1000
"""Natural pictures that synthesised ones are compared with: the recording's own, evenly taken above this number."""

AT_A_TIME = {"fourier": 8, "diffusion": 1}
"""Pictures that are made at a time: one step of a published diffusion model and its decoder needs 9 GB a picture."""

SHOWN = 64
"""Pictures that are shown to a twin at a time."""


@dataclass(frozen=True)
class PictureSets:
    """Pictures (n, 3, h, w) by kind: guided and unguided, one from every seed; natural, in the recording's order."""

    guided: Tensor
    unguided: Tensor
    natural: Tensor

    def of(self, kind: str) -> Tensor:
        """Return the pictures of one of KINDS."""
        pictures: Tensor = getattr(self, kind)
        return pictures


@dataclass(frozen=True)
class Judgement:
    """What one twin predicts of the pictures, by kind: `objective` (pictures,), `others` (other areas, pictures).

    In standard deviations of every area over the natural pictures.
    """

    objective: dict[str, np.ndarray]
    others: dict[str, np.ndarray]


class Synthesizer:
    """Makes pictures and shows them to twins."""

    def __init__(self, worker: WorkerData, guidance: Guidance, parts: Parts | None = None) -> None:
        self.worker, self.guidance, self.parts = worker, guidance, parts
        self._predictors = LRUCache(2)
        self._natural = LRUCache(1)

    def make(self, target: Target, guide: ChosenTwin) -> PictureSets:
        """Make guided and unguided pictures of every seed, and take the natural ones.

        Raises InputError where the guiding twin predicts the same for all natural pictures.
        """
        natural = self.natural(guide.recording)
        objective = self._objective(target, guide, natural)
        shape = self.predictor(guide, target.area).shape
        grey = bool((natural[:, :1] == natural).all())
        seeds = torch.arange(self.guidance.seeds).split(AT_A_TIME[self.guidance.method])
        draw = partial(self._drawn, objective, shape, grey)
        guided, unguided = (torch.cat([draw(part.tolist(), on) for part in seeds]) for on in (True, False))
        return PictureSets(guided, unguided, natural)

    def judge(self, target: Target, twin: ChosenTwin, pictures: PictureSets) -> Judgement:
        """Predict the activity for the pictures of every kind."""
        beside = [area for area in twin.predictions if area not in target.areas]
        activity = {area: self._activity(twin, area, pictures) for area in (*target.areas, *beside)}
        objective = {kind: activity[target.area][kind] for kind in KINDS}
        if target.against is not None:
            other = activity[target.against]
            objective = {kind: objective[kind] - target.weight * other[kind] for kind in KINDS}
        others = {
            kind: np.array([activity[area][kind] for area in beside]).reshape(len(beside), len(objective[kind]))
            for kind in KINDS
        }
        return Judgement(objective, others)

    def natural(self, recording: str) -> Tensor:
        """Return pictures of a recording, at most MOST_NATURAL, as its twins see them."""
        pictures: Tensor = self._natural.get(recording, lambda: _natural_pictures(self.worker.recording(recording)))
        return pictures

    def predictor(self, twin: ChosenTwin, area: str) -> Predictor:
        """Return the predictor of a twin's area; those that are fitted together are made together."""
        group = twin.together(area)
        key = tuple(cell.cell_id for cell in group)
        predictors: list[Predictor] = self._predictors.get(key, lambda: predictors_of(self.worker, group))
        return predictors[group.index(twin.cell(area))]

    def features(self, twin: ChosenTwin, area: str, pictures: Tensor) -> np.ndarray:
        """Return what a twin reads an area from (pictures, features), where it is read."""
        predictor = self.predictor(twin, area)
        maps = predictor.parts[0][0]
        return self._shown(lambda part: maps(part).flatten(1), predictor, pictures)

    def _responses(self, twin: ChosenTwin, area: str, pictures: Tensor) -> np.ndarray:
        predictor = self.predictor(twin, area)
        return self._shown(predictor, predictor, pictures)

    def _shown(self, function: Any, predictor: Predictor, pictures: Tensor) -> np.ndarray:
        def show(part: Tensor) -> Tensor:
            values: Tensor = function(resized(part.to(predictor.device), predictor.shape))
            return values.cpu()

        return in_batches(show, pictures, SHOWN).double().numpy()

    def _activity(self, twin: ChosenTwin, area: str, pictures: PictureSets) -> dict[str, np.ndarray]:
        responses = {kind: self._responses(twin, area, pictures.of(kind)) for kind in KINDS}
        return {kind: area_activity(responses[kind], responses["natural"]) for kind in KINDS}

    def _objective(self, target: Target, guide: ChosenTwin, natural: Tensor) -> Objective:
        means = [self._area_mean(guide, area, natural) for area in target.areas]
        return Objective(means[0], means[1] if len(means) > 1 else None, target.weight)

    def _area_mean(self, twin: ChosenTwin, area: str, natural: Tensor) -> AreaMean:
        predictor = self.predictor(twin, area)
        responses = self._responses(twin, area, natural)
        levels = responses[:, np.isfinite(responses).all(axis=0)].mean(axis=1)
        if not np.isfinite(levels).all() or levels.std() <= 1e-9 * np.abs(levels).max():
            problem = f"the twin {twin.trial_id} predicts the same for all natural pictures"
            raise InputError(problem, key="guidance", value=f"{twin.recording}-{area}")
        centre, scale = float(levels.mean()), float(levels.std())
        return AreaMean(
            lambda pictures: predictor(resized(pictures.to(predictor.device), predictor.shape)), None, centre, scale
        )

    def _drawn(
        self, objective: Objective, shape: tuple[int, int], grey: bool, seeds: Sequence[int], guided: bool
    ) -> Tensor:
        """Make pictures of some seeds, with and without guidance."""
        settings = self.guidance.resolved()
        common = {"contrast_cap": settings["contrast_cap"], "grey": grey}
        if self.parts is None:
            ascent = FourierSettings(
                settings["steps"], settings["step"], settings["jitter"], decorrelated=settings["decorrelated"], **common
            )
            ascent = ascent if guided else replace(ascent, steps=0)
            return ascend(objective, seeds, shape, ascent, self.worker.device).pictures.cpu()
        gamma = settings["gamma"] if guided else 0.0
        options = (settings[name] for name in ("attention", "unit_norm", "blend"))
        diffusion = DiffusionSettings(settings["steps"], gamma, *options, **common)
        return denoise(self.parts, seeds, diffusion, objective if guided else None).pictures.cpu()


def _natural_pictures(recording: Recording) -> Tensor:
    images = recording.fit.images
    assert images is not None, "targets are of recordings with pictures"
    count = len(recording.fit.table)
    wanted = np.unique(np.linspace(0, count - 1, min(count, MOST_NATURAL)).round().astype(int))
    starts = range(0, count, SHOWN)
    chosen = [(start, wanted[(wanted >= start) & (wanted < start + SHOWN)] - start) for start in starts]
    pictures = [images(slice(start, min(start + SHOWN, count)))[rows] for start, rows in chosen if len(rows)]
    return as_images(np.concatenate(pictures), torch.device("cpu"))
