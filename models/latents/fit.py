"""Fitting a twin with latent factors to single trials: masked responses, an evidence bound, best state kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.inputs.tensors import as_float
from models.latents.data import LatentData, LatentTraining, check_latent_data, prepare
from models.latents.populations import PopulationSpec
from models.latents.recognition import divergence, hidden_entries
from models.latents.twin import CLIPS, LatentTwin
from models.training.state_copy import BestState

DECAY = 0.3
"""What the learning rate is multiplied by where there was no gain for `patience` epochs."""


@dataclass
class LatentFit:
    """A fitted twin, in evaluation mode, with its losses in nats per entry: of each epoch, on train and select.

    The train loss is what was minimised without the core's regularizer; the select loss is -ln p of the hidden
    entries at the posterior mean, under the same masks in every epoch. `stages` holds the number of epochs of each
    stage (the twin without latents first, if `pretrained`), `best_epoch` counts over all stages.
    """

    twin: LatentTwin
    train: list[float] = field(default_factory=list)
    select: list[float] = field(default_factory=list)
    stages: list[int] = field(default_factory=list)
    best_epoch: int = -1


def fit_latent(
    core: nn.Module | None,
    data: Mapping[str, LatentData],
    parameters: Mapping[str, Any],
    training: LatentTraining,
    seed: int,
) -> LatentFit:
    """Fit a `LatentTwin` to all recordings; the core is trained in place and belongs to the twin afterwards.

    Minimises, for every batch of one recording,

        ( -1/S sum_s sum_hidden ln p(y | x, z_s) + kl_weight * divergence ) / hidden entries + core.regularizer()

    with S = `samples` of the posterior given the entries that are not hidden; each is hidden with probability
    `mask_rate` (see `hidden_entries`) and the visible ones are divided by 1 - `mask_rate`. With `pretrained` a first
    stage fits the stimulus part alone to all observed entries, and so does the only stage if `latents` is 0. Each
    stage stops after `patience` epochs without a lower select loss, or goes back to its best state with a learning
    rate 0.3 times as large, `decays` times at most. Deterministic on a CPU given the seed.

    The divergence is paid once for a frame, the likelihood is of the hidden entries alone: below some tens of units
    what the visible ones tell of the hidden ones is worth less than it costs, the posterior becomes the prior and the
    loadings 0. A smaller `kl_weight` helps there, at the price of a posterior that is wider than the prior.

    Raises ValueError for responses that do not fit the clips or are negative and where there are none in the train
    trials, FloatingPointError when the loss is not finite. A unit without any learns nothing.
    """
    for name, recording in data.items():
        check_latent_data(name, recording)
    specs = {name: PopulationSpec(tuple(recording.depths), recording.coordinates) for name, recording in data.items()}
    features = next(iter(data.values())).clips.shape[1]
    twin = LatentTwin(core, specs, parameters, seed, features)
    fit = LatentFit(twin.to(twin.device))
    prepare(twin, data)
    stages = ([False] if parameters["pretrained"] or not twin.latents else []) + ([True] if twin.latents else [])
    for latent in stages:
        _Stage(twin, data, parameters, training, seed, latent).run(fit)
    return fit


class _Stage:
    """One stage of a fit: the stimulus part alone, or everything."""

    def __init__(
        self,
        twin: LatentTwin,
        data: Mapping[str, LatentData],
        parameters: Mapping[str, Any],
        training: LatentTraining,
        seed: int,
        latent: bool,
    ) -> None:
        self.twin, self.data, self.parameters, self.training = twin, data, parameters, training
        self.seed, self.latent = seed, latent
        self.generator = torch.Generator().manual_seed(seed)

    def run(self, fit: LatentFit) -> None:
        """Train until the end of patience, decays or epochs; leave the twin in its best state."""
        training, best, before = self.training, BestState(self.twin), len(fit.train)
        rate, decays, since = training.learning_rate, 0, -1
        optimizer = self._optimizer(rate)
        for epoch in range(training.epochs):
            _set_rate(optimizer, rate * min(1.0, (epoch + 1) / max(training.warmup, 1)))
            fit.train.append(self._train_epoch(optimizer))
            fit.select.append(self.select_loss())
            _check_finite(fit, rate)
            best.offer(fit.select[-1], epoch)
            if epoch - max(best.epoch, since) >= training.patience:
                if decays == training.decays:
                    break
                best.restore()
                rate, decays, since = rate * DECAY, decays + 1, epoch
                optimizer = self._optimizer(rate)
        best.restore()
        fit.best_epoch = before + best.epoch
        fit.stages.append(len(fit.train) - before)

    def _optimizer(self, rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.twin.parameters(), lr=rate, weight_decay=self.training.weight_decay)

    def _train_epoch(self, optimizer: torch.optim.Optimizer) -> float:
        """One step per batch; returns the mean loss of the steps, without the regularizer."""
        self.twin.train()
        losses = []
        for key, trials in self._batches():
            clips, responses = self.data[key].crops(trials, self.training.frames, self.generator)
            optimizer.zero_grad(set_to_none=True)
            loss = self.loss(key, clips, responses)
            (loss + self.twin.regularizer()).backward()
            optimizer.step()
            losses.append(loss.detach())
        self.twin.eval()
        return float(torch.stack(losses).mean())

    def _batches(self) -> Iterator[tuple[str, Tensor]]:
        """(recording, train trials) for one epoch: every trial once, batches of all recordings shuffled together."""
        batches = []
        for key, data in self.data.items():
            order = data.train[torch.randperm(len(data.train), generator=self.generator)]
            batches += [(key, part) for part in order.tensor_split(-(-len(order) // self.training.batch))]
        for index in torch.randperm(len(batches), generator=self.generator).tolist():
            yield batches[index]

    def loss(self, key: str, clips: Tensor, responses: Tensor) -> Tensor:
        """What a batch of a recording contributes: see `fit_latent`; clips in float32, in nats per entry."""
        twin, population = self.twin, self.twin.population(key)
        clips, responses = clips.to(population.scale), responses.to(population.scale)
        drives = population.drives(twin.maps(clips, population))
        cut = responses.shape[1] - drives.shape[1]
        observed = ~responses.isnan()
        if not self.latent:
            logs = twin.log_density(responses[:, cut:], twin.outcome(drives, population), population)
            return -torch.where(observed[:, cut:], logs, 0.0).sum() / observed[:, cut:].sum().clamp(min=1)
        hidden = self.hidden(observed, self.generator)
        mean, spread = twin.posterior(responses, ~hidden, 1.0 - self.parameters["mask_rate"], key)
        mean, spread, hidden = mean[:, cut:], spread[:, cut:], hidden[:, cut:]
        latents = mean + spread * self._noise(mean)
        logs = twin.log_density(responses[:, cut:], twin.outcome(drives, population, latents), population)
        likelihood = torch.where(hidden, logs, 0.0).sum() / len(latents)
        cost = divergence(mean, spread, self.parameters["kl"], twin.memory)
        cost = (cost * _going_on(observed[:, cut:])).sum()
        return (self.parameters["kl_weight"] * cost - likelihood) / hidden.sum().clamp(min=1)

    def hidden(self, observed: Tensor, generator: torch.Generator) -> Tensor:
        """The entries that are hidden from the recognition network, and fitted."""
        return hidden_entries(observed, self.parameters["mask_rate"], self.parameters["mask"], generator)

    def _noise(self, mean: Tensor) -> Tensor:
        return torch.randn(int(self.parameters["samples"]), *mean.shape, generator=self.generator).to(mean)

    @torch.no_grad()
    def select_loss(self) -> float:
        """-ln p per hidden entry (stimulus part alone: per observed entry) of the select trials, in whole clips."""
        twin, masks = self.twin, torch.Generator().manual_seed(self.seed)
        total, entries = 0.0, 0
        for key, data in self.data.items():
            population = twin.population(key)
            for trials in data.select.split(CLIPS):
                clips = as_float(data.stimulus(trials)).to(population.scale)
                responses = data.responses[trials].to(population.scale)
                drives = population.drives(twin.maps(clips, population))
                scored, latents = ~responses.isnan(), None
                if self.latent:
                    scored = self.hidden(scored, masks)
                    latents = twin.posterior(responses, ~scored, 1.0 - self.parameters["mask_rate"], key)[0]
                    latents = latents[:, latents.shape[1] - drives.shape[1] :]
                cut = responses.shape[1] - drives.shape[1]
                logs = twin.log_density(responses[:, cut:], twin.outcome(drives, population, latents), population)
                total -= float(torch.where(scored[:, cut:], logs, 0.0).sum())
                entries += int(scored[:, cut:].sum())
        return total / max(entries, 1)


def _going_on(observed: Tensor) -> Tensor:
    """1 up to the last frame of a clip in which anything was observed, then 0: (clips, frames)."""
    later = observed.any(dim=2).flip(1).cumsum(dim=1).flip(1)
    return (later > 0).to(torch.float32)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _check_finite(fit: LatentFit, rate: float) -> None:
    """Raise FloatingPointError if the last losses are not finite."""
    if not torch.isfinite(torch.tensor([fit.train[-1], fit.select[-1]])).all():
        raise FloatingPointError(
            f"loss {fit.train[-1]} (train), {fit.select[-1]} (select) in epoch {len(fit.train) - 1} "
            f"at learning rate {rate:g}"
        )
