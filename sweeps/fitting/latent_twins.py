"""Video twins whose units share latent factors: fitted to single trials, and asked what part of a population tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from models.backbones import BACKBONES
from models.latents.data import LatentData, LatentTraining
from models.latents.fit import fit_latent
from models.latents.twin import LatentTwin, LikelihoodSettings
from sweeps.experiment.cells import Cell
from sweeps.features.worker_data import Workshop
from sweeps.fitting.cell_fit import SPLITS, CellFit, empty_fit, mean_response
from sweeps.fitting.leakage import kept_apart
from sweeps.fitting.trained_inputs import Items, all_items, places
from sweeps.recordings.recording import Recording
from sweeps.recordings.splits import Fold

SAMPLES = 100
"""Samples of the prior over which predictions and likelihoods are averaged."""

LIKELIHOOD = LikelihoodSettings(SAMPLES, joint=True, bits=True)


def fit_latent_twin(workshop: Workshop, cells: Sequence[Cell]) -> list[CellFit]:
    """A twin with latent factors, once per outer fold; the units of all areas of a recording share the factors.

    Predictions are those from the stimulus alone (the mean over the prior). `extras` hold, for the held-out trials,
    "conditioned" (rows, units, repeats), what every unit is expected to do given the units of the other half of the
    recording, and "joint" (rows, repeats), the joint log-likelihood of all units in bits per unit that was recorded in
    that frame. One fit, stopped early on select, gives both splits.
    """
    names = list(dict.fromkeys(cell.recording for cell in cells))
    recordings = {name: workshop.recording(name) for name in names}
    shown = {name: all_items(workshop, cells[0], recording) for name, recording in recordings.items()}
    found = [empty_fit(recordings[cell.recording], len(recordings[cell.recording].units(cell.area))) for cell in cells]
    folds = {name: workshop.folds(recording, cells[0].seed) for name, recording in recordings.items()}
    for turn in range(max(len(each) for each in folds.values())):
        now = {name: each[min(turn, len(each) - 1)] for name, each in folds.items()}
        twin = _train(workshop, cells, recordings, {name: each["fit"] for name, each in shown.items()}, now)
        for name in names:
            if turn < len(folds[name]):
                own = [(cell, each) for cell, each in zip(cells, found, strict=True) if cell.recording == name]
                _keep(twin, own, recordings[name], shown[name], now[name], len(folds[name]))
    return found


def _units(cells: Sequence[Cell], recording: Recording) -> np.ndarray:
    """The recording's units that the twin reads, cell by cell."""
    return np.concatenate([recording.units(cell.area) for cell in cells if cell.recording == recording.name])


def _train(
    workshop: Workshop,
    cells: Sequence[Cell],
    recordings: Mapping[str, Recording],
    items: Mapping[str, Items],
    folds: Mapping[str, Fold],
) -> LatentTwin:
    first = cells[0]
    core = BACKBONES[first.backbone["name"]].load()(first.backbone, first.seed).to(workshop.device)
    rows = kept_apart(items, {name: each.groups for name, each in recordings.items()}, folds)
    data = {name: _data(cells, recordings[name], items[name], *rows[name]) for name in recordings}
    fit = fit_latent(core, data, first.readout, LatentTraining.of(first.backbone), first.seed)
    return fit.twin


def _data(
    cells: Sequence[Cell], recording: Recording, items: Items, train: np.ndarray, select: np.ndarray
) -> LatentData:
    units = _units(cells, recording)
    trials, shown = _trials(recording, items, units)
    depths = [cell.depth for cell in cells if cell.recording == recording.name for _ in recording.units(cell.area)]
    first, second = (torch.isin(shown, items.among(rows)).nonzero()[:, 0] for rows in (train, select))
    return LatentData(items.inputs, trials, first, second, depths, places(recording, units), shown)


def _trials(recording: Recording, items: Items, units: np.ndarray) -> tuple[Tensor, Tensor]:
    """Single trials (trials, frames, units) that have any response, and the clip of each."""
    responses = recording.fit.responses[:, units]
    repeats = [items.gathered(responses[:, :, repeat]) for repeat in range(responses.shape[2])]
    every = torch.stack(repeats, dim=1)  # (clips, repeats, frames, units)
    there = ~every.isnan().all(dim=3).all(dim=2)
    return every[there], there.nonzero()[:, 0]


def _keep(
    twin: LatentTwin,
    own: Sequence[tuple[Cell, CellFit]],
    recording: Recording,
    shown: Mapping[str, Items],
    fold: Fold,
    folds: int,
) -> None:
    key, cells = recording.name, [cell for cell, _ in own]
    prior = {name: each.scattered(twin.predict_prior(each.inputs, SAMPLES, key=key)) for name, each in shown.items()}
    conditioned, joint = _given_others(twin, recording, shown["fit"], _units(cells, recording), fold)
    start = 0
    for cell, fit in own:
        count = len(recording.units(cell.area))
        mine = slice(start, start + count)
        start += count
        for split in SPLITS:
            baseline, rows = mean_response(recording, cell.area, fold.train), fold.held_out(split)
            fit.keep(fold, split, baseline, {name: array[:, mine] for name, array in prior.items()}, folds)
            for name, array in (("conditioned", conditioned[:, mine]), ("joint", joint)):
                blank = np.full(array.shape, np.nan)
                fit.extras[split].setdefault(name, blank)[rows] = array[rows]


def _given_others(
    twin: LatentTwin, recording: Recording, items: Items, units: np.ndarray, fold: Fold
) -> tuple[np.ndarray, np.ndarray]:
    """Expected responses (rows, units, repeats) of each half of the units given the other, and joint bits per unit.

    The bits are divided by the units that were recorded in a frame. Every second unit is in one half, so that both
    halves have units of every area. Held-out trials only.
    """
    responses = recording.fit.responses[:, units]
    rows, repeats = len(responses), responses.shape[2]
    found, joint = np.full((rows, len(units), repeats), np.nan), np.full((rows, repeats), np.nan)
    held = items.among(np.concatenate([fold.select, fold.report]))
    part = Items(items.inputs[held], items.rows[held.numpy()])
    first = torch.arange(len(units)) % 2 == 0
    for repeat in range(repeats):
        trials = part.gathered(responses[:, :, repeat])
        for given in (first, ~first):
            expected = twin.predict_conditioned(part.inputs, trials, given, recording.name).to(trials.device)
            expected = torch.where(trials.isnan(), torch.nan, expected)
            found[: part.count, (~given).numpy(), repeat] = part.scattered(expected)[:, (~given).numpy()]
        bits = twin.log_likelihood(part.inputs, trials, LIKELIHOOD, key=recording.name)
        seen = (~trials.isnan()).sum(dim=2).to(bits)
        joint[: part.count, repeat] = part.scattered((bits / seen)[..., None])[:, 0]
    return found, joint
