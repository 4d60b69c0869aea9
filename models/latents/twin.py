"""A twin for clips whose units share latent factors that the stimulus does not explain."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.inputs.tensors import as_float
from models.latents.populations import Population, PopulationSpec
from models.latents.recognition import Recognition, sample_prior
from models.objectives.likelihoods import (
    poisson_log_density,
    rate_link,
    zero_inflated_gamma_log_density,
    zero_inflated_gamma_mean,
    zig_links,
)
from models.twin import Core

CLIPS = 4
"""Clips whose maps are in memory together when a fitted twin predicts."""

Outcome = tuple[Tensor, ...]
"""Parameters of the response distribution, each (..., clips, frames, units): (q, theta), or (rate,)."""


@dataclass(frozen=True)
class LikelihoodSettings:
    """How a likelihood is computed: samples and their seed, for each unit or jointly, in nats or bits."""

    samples: int = 100
    joint: bool = False
    bits: bool = False
    seed: int = 0


LIKELIHOOD = LikelihoodSettings()


class LatentTwin(nn.Module):
    """A core, or none, and a `Population` for every recording, with a recognition network that they share.

        a_n(t) = w_n . map_t(position_n) + b_n + u_n . z_t    and b_n(t) alike, with v_n
        z_t ~ N(0, I) (see `models.latents.recognition.divergence`)
        zero-inflated gamma: q = 0.99999 sigmoid(a) + 1e-6, theta = scale (ELU(b) + 1 + 1e-6), and k
        Poisson: rate = scale (ELU(a) + 1 + 1e-6)

    Everything is in the recording's own unit: `scale` is the theta (rate) of the model without stimulus, so drives
    start near 0. `parameters` are those of `READOUTS["latent"]`. Without a core the clips are frozen features
    (clips, `features`, frames, h, w), and depths mean nothing. With `latents` = 0 the twin sees the stimulus
    alone. Everything is drawn from `seed`. Clips may be uint8; the float copies are of `CLIPS` clips at a time.

    Source: Schmidt et al. (arXiv 2410.16136), as released, with these differences of ours: biases; a scale; full
    posteriors on request; a latent may have memory; loadings start at small random values, since at exactly 0 only
    the random recognition network breaks the symmetry, and the divergence pulls that to 0 meanwhile.
    """

    def __init__(
        self,
        core: nn.Module | None,
        populations: Mapping[str, PopulationSpec],
        parameters: Mapping[str, Any],
        seed: int,
        features: int = 0,
    ) -> None:
        super().__init__()
        self.core, self.keys = core, tuple(populations)
        self.gamma, self.rho = parameters["likelihood"] == "zero-inflated-gamma", float(parameters["rho"])
        self.latents, self.memory = int(parameters["latents"]), float(parameters["memory"])
        self.generator = torch.Generator().manual_seed(seed)
        self.populations = nn.ModuleList(
            Population(spec, self._channels(spec, features), parameters, seed + index)
            for index, spec in enumerate(populations.values())
        )
        self.recognition = Recognition(self.latents, parameters["posterior"], seed) if self.latents else None

    def _channels(self, spec: PopulationSpec, features: int) -> dict[int, int]:
        """Channels of the map at every depth that the units read."""
        if self.core is None:
            return dict.fromkeys(spec.depths, features)
        return {depth: cast(Any, self.core).channels[depth] for depth in spec.depths}

    @property
    def device(self) -> torch.device:
        """Where the core lies, and everything belongs; without a core, where the populations lie."""
        owner = self.populations if self.core is None else self.core
        return next(owner.parameters()).device

    def population(self, key: str | None = None) -> Population:
        """The population called `key` (None: the only one); a KeyError that lists the known ones otherwise."""
        if key is None and len(self.keys) == 1:
            key = self.keys[0]
        if key not in self.keys:
            raise KeyError(f"unknown recording {key!r}; known: {', '.join(self.keys)}")
        return cast(Population, self.populations[self.keys.index(key)])

    def maps(self, clips: Tensor, population: Population) -> dict[int, Tensor]:
        """The map (clips, channels, frames', h', w') of every depth that the population reads."""
        if self.core is None:
            return dict.fromkeys(population.depths, clips.to(torch.float32))
        maps = cast(Core, self.core).forward_blocks(as_float(clips), population.depths)
        return dict(zip(population.depths, maps, strict=True))

    def outcome(self, drives: Tensor, population: Population, latents: Tensor | None = None) -> Outcome:
        """Distribution parameters from drives (clips, frames, units, outputs) and latents (..., clips, frames, m)."""
        if latents is not None:
            drives = drives + torch.einsum("...m,uom->...uo", latents, population.loadings())
        if not self.gamma:
            return (population.scale * rate_link(drives[..., 0]),)
        q, theta = zig_links(drives)
        return q, population.scale * theta

    def log_density(self, responses: Tensor, outcome: Outcome, population: Population) -> Tensor:
        """ln p of responses (clips, frames, units), in nats; NaN where they are missing."""
        if not self.gamma:
            return poisson_log_density(responses, outcome[0])
        q, theta = outcome
        return zero_inflated_gamma_log_density(responses, q, theta, population.shapes(), self.rho)

    def mean_response(self, outcome: Outcome, population: Population) -> Tensor:
        """Expected responses, in the recording's own unit."""
        if not self.gamma:
            return outcome[0]
        q, theta = outcome
        return zero_inflated_gamma_mean(q, theta, population.shapes(), self.rho)

    def posterior(self, responses: Tensor, visible: Tensor, share: float, key: str | None) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the latents (clips, frames, m) given the visible entries of responses."""
        assert self.recognition is not None
        return self.recognition(self.population(key).embedded(responses, visible, share))

    @torch.no_grad()
    def infer(self, responses: Tensor, given: Tensor | None = None, key: str | None = None) -> tuple[Tensor, Tensor]:
        """Posterior mean and deviation of the latents (clips, frames, m), from the units `given` (None: all).

        responses (clips, frames, units), NaN = missing; given (units,) bool. What is put in is divided by the share
        of units that is given, as entries are in training by the share that is kept; the released code does not.
        """
        population = self.population(key)
        units, responses = population.units, responses.to(population.scale)
        given = torch.ones(units, dtype=torch.bool) if given is None else given
        if given.shape != (units,) or not given.any():
            raise ValueError(f"given must be a mask of {units} units with one at least, not {tuple(given.shape)}")
        if self.recognition is None:
            return (responses.new_zeros(*responses.shape[:2], 0),) * 2
        visible = given.to(responses.device).expand_as(responses)
        return self.posterior(responses, visible, float(given.float().mean()), key)

    @torch.no_grad()
    def predict_prior(
        self, clips: Tensor, samples: int = 100, average: str = "mean", seed: int = 0, key: str | None = None
    ) -> Tensor:
        """Expected responses (clips, frames, units) when nothing but the clip is known, over `samples` of the prior.

        `average`: `mean` takes the mean of the expected responses; `parameters` takes q and theta each on its own
        and then the response they would mean, as the released code does, which is another number where a unit's two
        loadings go together. NaN in the first frames where the core is not padded.
        """
        if average not in ("mean", "parameters"):
            raise ValueError(f"average must be mean or parameters, not {average!r}")
        population, generator = self.population(key), torch.Generator().manual_seed(seed)
        parts = []
        for chunk, drives in self._drives(clips, population):
            total: list[Tensor] = []
            for _ in range(samples if self.latents else 1):
                outcome = self.outcome(drives, population, self._prior(drives, generator))
                values = [self.mean_response(outcome, population)] if average == "mean" else list(outcome)
                total = [a + b for a, b in zip(total, values, strict=True)] if total else values
            means = tuple(summed / (samples if self.latents else 1) for summed in total)
            parts.append(padded(means[0] if average == "mean" else self.mean_response(means, population), chunk))
        return torch.cat(parts)

    @torch.no_grad()
    def predict_conditioned(
        self, clips: Tensor, responses: Tensor, given: Tensor | None = None, key: str | None = None
    ) -> Tensor:
        """Expected responses (clips, frames, units) at the posterior mean given part of the population: see `infer`.

        Only those of units that were not given are predictions; the others were seen. NaN as in `predict_prior`.
        """
        population, mean = self.population(key), self.infer(responses, given, key)[0]
        parts, start = [], 0
        for chunk, drives in self._drives(clips, population):
            latents = mean[start : start + len(chunk), mean.shape[1] - drives.shape[1] :]
            parts.append(padded(self.mean_response(self.outcome(drives, population, latents), population), chunk))
            start += len(chunk)
        return torch.cat(parts)

    @torch.no_grad()
    def log_likelihood(
        self,
        clips: Tensor,
        responses: Tensor,
        settings: LikelihoodSettings = LIKELIHOOD,
        given: Tensor | None = None,
        key: str | None = None,
    ) -> Tensor:
        """Compute the log-likelihood of single trials, averaged over samples of the latents, in nats or bits.

        per unit: mean over observed entries of ln (1/S) sum_s p(y_n(t) | z_s(t)), (units,);
        joint: ln (1/S) sum_s prod_n p(y_n(t) | z_s(t)) over observed units, (clips, frames). Only the joint one can
        credit variability that units share; with few samples it is too low. Samples are of the prior or, with
        `given` units (see `infer`), of the posterior, and then it is of the other units alone, NaN for those given.
        NaN also for units and frames without an observed entry, and where the core lost the first frames.
        """
        population, generator = self.population(key), torch.Generator().manual_seed(settings.seed)
        inferred = None if given is None else self.infer(responses, given, key)
        scored = responses.to(population.scale)
        scored = scored if given is None else scored.masked_fill(given.to(scored.device), torch.nan)
        parts, start = [], 0
        for chunk, drives in self._drives(clips, population):
            rows = slice(start, start + len(chunk))
            observed = scored[rows, scored.shape[1] - drives.shape[1] :]
            draw = self._sampler(drives, generator, inferred, rows)
            logs = [self._logs(observed, drives, population, draw(), settings.joint) for _ in range(settings.samples)]
            parts.append(padded(torch.stack(logs).logsumexp(dim=0) - math.log(settings.samples), chunk))
            start += len(chunk)
        values = torch.cat(parts) / (math.log(2.0) if settings.bits else 1.0)
        return values if settings.joint else values.flatten(0, 1).nanmean(dim=0)

    def _logs(self, observed: Tensor, drives: Tensor, population: Population, latents: Tensor, joint: bool) -> Tensor:
        """ln p of every entry or, jointly, of every frame; NaN where nothing was observed."""
        logs = self.log_density(observed, self.outcome(drives, population, latents), population)
        if not joint:
            return logs
        return torch.where(observed.isnan().all(dim=2), torch.nan, logs.nansum(dim=2))

    def _sampler(
        self, drives: Tensor, generator: torch.Generator, inferred: tuple[Tensor, Tensor] | None, rows: slice
    ) -> Callable[[], Tensor]:
        """Draws latents of some clips, from the prior or around what was inferred."""
        if inferred is None:
            return lambda: self._prior(drives, generator)
        mean, spread = (values[rows, values.shape[1] - drives.shape[1] :] for values in inferred)
        return lambda: mean + spread * torch.randn(mean.shape, generator=generator).to(mean)

    def _prior(self, drives: Tensor, generator: torch.Generator) -> Tensor:
        return sample_prior((*drives.shape[:2], self.latents), self.memory, generator).to(drives)

    def _drives(self, clips: Tensor, population: Population) -> Iterator[tuple[Tensor, Tensor]]:
        """(clips, their stimulus drives), a few clips at a time, in evaluation mode, on the twin's device."""
        self.eval()
        for chunk in clips.split(CLIPS):
            yield chunk, population.drives(self.maps(chunk.to(population.scale.device), population))

    def regularizer(self) -> Tensor | float:
        """Give the core's regularization, to be added to the loss; nothing without a core."""
        return 0.0 if self.core is None else cast(Core, self.core).regularizer()


def padded(values: Tensor, clips: Tensor) -> Tensor:
    """Values (clips, frames', ...) with NaN in front, so that they have the frames of the clips."""
    missing = clips.shape[2] - values.shape[1]
    return torch.cat([values.new_full((len(values), missing, *values.shape[2:]), torch.nan), values], dim=1)
