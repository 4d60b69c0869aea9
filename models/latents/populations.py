"""What belongs to the units of one recording in a twin with latent factors: readouts, loadings, statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.latents.recognition import EMBEDDED
from models.objectives.likelihoods import CAP, fit_gamma_shape
from models.readouts.gaussian import START_SPREAD
from models.readouts.initial_positions import response_statistics
from models.readouts.positions import CoordinatePositions, standardized
from models.readouts.sampling import sample

TAPS, WIDTH = 11, 5
"""Frames and channels of the convolution that may mix a unit's features before they are weighed."""

START_LOADING = 0.1
"""Standard deviation of the loadings at the start, over the root of the number of latents."""

SILENT = 1e-3
"""The least mean response that a unit is taken to have, so that its rate can start to grow."""


@dataclass(frozen=True)
class PopulationSpec:
    """The units of one recording: the depth that each reads, and where each lies in cortex, (units, 2 or 3)."""

    depths: Sequence[int]
    coordinates: Tensor | None = None


class ClipReadout(nn.Module):
    """Drives of units that read one block: `outputs` weighted sums of the features at a unit's position, per frame.

        drive(t) = w . map_t(position) + b;  position = mean + Sigma eps in training (eps ~ N(0, I) for every unit
        and frame), else mean; both held within [-1, 1]^2

    Sigma is a full 2 x 2 matrix. Positions are free or, given `coordinates` (units, d), `CoordinatePositions`. With
    `mixing` the features (frames x channels) first pass
    a convolution of 11 frames x 5 channels, one map for each output, that keeps their size and looks ahead in
    time: it is not causal. Source: Schmidt et al., as released, which have no bias.
    """

    def __init__(
        self,
        channels: int,
        units: int,
        outputs: int,
        generator: torch.Generator,
        coordinates: Tensor | None = None,
        mixing: bool = False,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.places = None if coordinates is None else CoordinatePositions(coordinates, _seed(generator))
        free = torch.rand(units, 2, generator=generator) * 0.2 - 0.1
        self.mean = nn.Parameter(free) if coordinates is None else None
        self.covariance = nn.Parameter(START_SPREAD * torch.eye(2).repeat(units, 1, 1))
        start = torch.randn(units, outputs, channels, generator=generator) * 0.1 / channels**0.5
        self.weights = nn.Parameter(start)
        self.bias = nn.Parameter(torch.zeros(units, outputs))
        taps = torch.zeros(outputs, 1, TAPS, WIDTH)
        taps[:, :, TAPS // 2, WIDTH // 2] = 1.0  # the features themselves
        self.taps = nn.Parameter(taps) if mixing else None

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (clips, channels, frames, h, w) -> drives (clips, frames, units, outputs)."""
        images = maps.transpose(1, 2).flatten(0, 1)
        features = sample(images, self.positions(len(images))).unflatten(0, (len(maps), -1))
        if self.taps is None:
            return torch.einsum("btcu,uoc->btuo", features, self.weights) + self.bias
        return torch.einsum("btcuo,uoc->btuo", self.mixed(features), self.weights) + self.bias

    def mixed(self, features: Tensor) -> Tensor:
        """Features (clips, frames, channels, units) -> one set for each output (clips, frames, channels, units, o)."""
        assert self.taps is not None
        sheets = features.permute(0, 3, 1, 2).flatten(0, 1)[:, None]
        mixed = nn.functional.conv2d(sheets, self.taps, padding="same").unflatten(0, (len(features), -1))
        return mixed.permute(0, 3, 4, 1, 2)

    def positions(self, images: int) -> Tensor:
        """Where each unit looks, ([images,] units, 2): see the class."""
        mean = self.centres()
        if not self.training:
            return mean.clamp(-1.0, 1.0)
        noise = torch.randn(images, *mean.shape, generator=self.generator).to(mean)
        return (mean + torch.einsum("uij,nuj->nui", self.covariance, noise)).clamp(-1.0, 1.0)

    def centres(self) -> Tensor:
        """Mean positions (units, 2), x and y."""
        return cast(Tensor, self.mean) if self.places is None else self.places()

    def start(self, positions: Tensor) -> None:
        """Look at these positions (units, 2) first; those from coordinates come as near to them as they can."""
        if self.places is None:
            cast(Tensor, self.mean).data.copy_(positions)
        else:
            self.places.fit(positions)


class PlacedLoadings(nn.Module):
    """Loadings from cortical coordinates, z-scored: W2 ELU(W1 z + b1) + b2, (units, d) -> (units, latents).

    Six hidden units, weights as `nn.Linear` draws them. Source: Schmidt et al., as released (3-6-12).
    """

    coordinates: Tensor

    def __init__(self, coordinates: Tensor, latents: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("coordinates", standardized(coordinates))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.network = nn.Sequential(nn.Linear(coordinates.shape[1], 6), nn.ELU(), nn.Linear(6, latents))

    def forward(self) -> Tensor:
        """Loadings of every unit."""
        return self.network(self.coordinates)


class Population(nn.Module):
    """Units of one recording: a `ClipReadout` per depth, loadings of the latents, and what is fixed before a fit.

    Buffers: `scale`, so that drives of 0 are the stimulus-free model; `centre` and `spread`, with which responses are
    z-scored before they are embedded for the recognition network. Loadings (units, outputs, latents) are free, or
    per output a perceptron of the cortical coordinates (3-6-latents, ELU). With `shape` `fixed` the gamma shapes stay
    what `fit_gamma_shape` finds in all responses, as released; that takes what stimulus and latents do for noise and
    is too small where they do much, so `learned` fits them on from there, a choice of ours.
    """

    scale: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self, spec: PopulationSpec, channels: Mapping[int, int], parameters: Mapping[str, Any], seed: int
    ) -> None:
        super().__init__()
        self.units, self.outputs = len(spec.depths), 2 if parameters["likelihood"] == "zero-inflated-gamma" else 1
        self.rho, self.latents = float(parameters["rho"]), int(parameters["latents"])
        self.depths = sorted(set(spec.depths))
        generator = torch.Generator().manual_seed(seed)
        places = _coordinates(spec, parameters["position"] == "coordinates", "positions")
        members = [
            [unit for unit, depth in enumerate(spec.depths) if depth == read_depth] for read_depth in self.depths
        ]
        self.members = [torch.tensor(units) for units in members]
        self.readouts = nn.ModuleList(
            ClipReadout(
                channels[depth],
                len(rows),
                self.outputs,
                generator,
                None if places is None else places[rows],
                bool(parameters["mixing"]),
            )
            for depth, rows in zip(self.depths, self.members, strict=True)
        )
        self._add_loadings(_coordinates(spec, parameters["loadings"] == "position", "loadings"), generator)
        self._add_embedding(generator)
        learned = self.outputs == 2 and parameters["shape"] == "learned"
        self.log_k = nn.Parameter(torch.zeros(self.units), requires_grad=learned)
        for name, value in (("scale", 1.0), ("centre", 0.0), ("spread", 1.0)):
            self.register_buffer(name, torch.full((self.units,), value))

    def _add_loadings(self, coordinates: Tensor | None, generator: torch.Generator) -> None:
        size, latents = (self.units, self.outputs, self.latents), self.latents
        start = torch.randn(size, generator=generator) * START_LOADING / max(latents, 1) ** 0.5
        self.free = nn.Parameter(start) if coordinates is None and latents else None
        self.placed = None
        if coordinates is not None and latents:
            self.placed = nn.ModuleList(
                PlacedLoadings(coordinates, latents, _seed(generator)) for _ in range(self.outputs)
            )

    def _add_embedding(self, generator: torch.Generator) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_seed(generator))
            self.embedding = nn.Linear(self.units, EMBEDDED) if self.latents else None

    def shapes(self) -> Tensor:
        """k of every unit's gamma, at most `CAP`: (units,)."""
        return self.log_k.exp().clamp(max=CAP)

    def loadings(self) -> Tensor:
        """u and v (Poisson: u alone) of every unit: (units, outputs, latents)."""
        if self.placed is not None:
            return torch.stack([net() for net in self.placed], dim=1)
        return self.scale.new_zeros(self.units, self.outputs, 0) if self.free is None else self.free

    def drives(self, maps: Mapping[int, Tensor]) -> Tensor:
        """Stimulus drives (clips, frames, units, outputs) from the map of every depth (clips, c, frames, h, w).

        Maps of unpadded cores differ in length: all are cut to the shortest, at their ends.
        """
        frames = min(maps[depth].shape[2] for depth in self.depths)
        parts = [
            readout(maps[depth][:, :, maps[depth].shape[2] - frames :])
            for depth, readout in zip(self.depths, self.readouts, strict=True)
        ]
        order = torch.cat(self.members).argsort().to(parts[0].device)
        return torch.cat(parts, dim=2)[:, :, order]

    def embedded(self, responses: Tensor, visible: Tensor, share: float) -> Tensor:
        """Embedding (clips, frames, 42) of the visible entries of responses (clips, frames, units).

        Entries are z-scored, hidden and missing ones 0, and all divided by `share`, the share that is visible.
        """
        assert self.embedding is not None
        scored = torch.where(visible & ~responses.isnan(), (responses - self.centre) / self.spread, 0.0)
        return self.embedding(scored / share)

    @torch.no_grad()
    def initialize(self, responses: Tensor) -> None:
        """Set buffers, shapes and biases from train responses (rows, units), NaN = missing: see the class.

        Drives of 0 plus the bias are then the best model without stimulus and latents: q = share of responses above
        rho, k and theta those of a gamma fitted to them; for Poisson the mean response. A unit that is never above
        rho, or silent, counts as one of 0.001.
        """
        centre, spread = response_statistics(responses)
        self.centre.copy_(centre.nan_to_num(nan=0.0))
        self.spread.copy_(spread)
        if self.outputs == 1:
            self.scale.copy_(self.centre.clamp(min=SILENT))
            return
        above = responses > self.rho
        self.log_k.copy_(fit_gamma_shape(responses, self.rho).log())
        excess = torch.where(above, responses - self.rho, torch.nan).nanmean(dim=0)
        self.scale.copy_(excess.nan_to_num(nan=SILENT) / self.shapes())
        share = above.sum(dim=0) / (~responses.isnan()).sum(dim=0).clamp(min=1)
        for rows, readout in zip(self.members, self.readouts, strict=True):
            cast(ClipReadout, readout).bias[:, 0] = torch.logit(share[rows].clamp(0.01, 0.99))


def _seed(generator: torch.Generator) -> int:
    """A new seed, drawn from a generator."""
    return int(torch.randint(2**31, (), generator=generator))


def _coordinates(spec: PopulationSpec, needed: bool, what: str) -> Tensor | None:
    """The coordinates if they are needed; a ValueError where the recording has none."""
    if needed and spec.coordinates is None:
        raise ValueError(f"{what} from cortical coordinates need coordinates of the units; this recording has none")
    return spec.coordinates if needed else None
