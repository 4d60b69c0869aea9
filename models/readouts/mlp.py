"""The residual MLP readout: nonlinear in the whole map, all units of an area from one network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.objectives.regularizers import l1
from models.readouts.protocol import Readout
from models.readouts.sampling import pooled, pooled_shape

SLOPE = 0.01
"""Of the leaky ReLU below zero."""


def identity(values: Tensor) -> Tensor:
    """Return the values as they are."""
    return values


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": lambda values: F.leaky_relu(values, SLOPE),
    "gelu": F.gelu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "none": identity,
}
"""Activations by name; "none" makes the linear twin of the same depth."""


class MlpReadout(Readout):
    """Responses of all units from one residual MLP that reads whole maps.

        x = (map - centre) / spread of all maps, each averaged to at most pool x pool and flattened; then beside
        h0 = phi(W1 x), h1 = phi(W2 h0) + h0, h2 = phi(W3 h1) + h1, drive = W4 h2 + bias
        response = scale * mean(link(drive)) + offset,  see `Readout`

    `activation` is phi; "none" is the linear twin. With `bias: false` (the default) no layer has a bias, and that
    of the drive stays at the mean response, as if responses had been centred. `centre` and `spread`, one value per
    entry of a map, are 0 and 1 until `absorb`. Weights are those of `nn.Linear`, drawn from `seed` alone. `l1` is
    the weight of the penalty on W4. A shift is a ValueError: nothing here has a place.

    Source: the encoder pair of the JNE paper (arXiv 2510.13688; there 1024 hidden units, ReLU, no bias, all
    responses z-scored, full-batch AdamW), whose Jacobian has a closed form, see `weights` and `slopes`.
    """

    centre: Tensor
    spread: Tensor
    penalties: tuple[str, ...] = ("l1",)

    def build(self, seed: int, coordinates: Tensor | None) -> None:
        """See `Readout`."""
        self.activation = ACTIVATIONS[self.given["activation"]]
        self.small = [pooled_shape(shape, self.pool) for shape in self.shapes]
        inputs, hidden, bias = sum(c * h * w for c, h, w in self.small), self.given["hidden"], self.given["bias"]
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            sizes = [(inputs + self.beside, hidden), (hidden, hidden), (hidden, hidden)]
            self.layers = nn.ModuleList(nn.Linear(before, after, bias=bias) for before, after in sizes)
            self.last = nn.Linear(hidden, self.units * self.outputs, bias=False)

    def drives(self, maps: list[Tensor], shift: Tensor | None, beside: Tensor | None) -> Tensor:
        """See `Readout`."""
        if shift is not None:
            raise ValueError("the mlp readout reads whole maps and cannot be shifted: use gaussian or factorised")
        return self._forward(self.flat(maps), beside)[0]

    def _forward(self, values: Tensor, beside: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Drives (stimuli, units, outputs) of flat maps, and what every activation was applied to."""
        hidden = (values - self.centre) / self.spread
        hidden = hidden if beside is None else torch.cat([hidden, beside], dim=1)
        before: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            before.append(layer(hidden))
            changed = self.activation(before[-1])
            hidden = changed + hidden if index else changed
        return self.last(hidden).unflatten(1, (self.units, self.outputs)) + self.bias, before

    def flat(self, maps: list[Tensor]) -> Tensor:
        """Flatten all maps, averaged to at most `pool` a side, side by side: (stimuli, features), not yet z-scored."""
        small = pooled(maps, self.pool)
        shapes = [tuple(map.shape[1:]) for map in small]
        if shapes != self.small:
            raise ValueError(f"the readout was made for maps of (channels, h, w) = {self.small}, got {shapes}")
        return torch.cat([map.flatten(1) for map in small], dim=1)

    def penalty(self) -> Tensor:
        """Compute l1 times the mean over units of the sum of |W4|."""
        return self.penalty_weight("l1") * l1(self.last.weight.reshape(self.units, -1))

    def statistics(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Compute mean and deviation (channels, h, w) over stimuli of every entry of pooled maps; 1 for a constant."""
        statistics = []
        for map in maps:
            spread, centre = torch.std_mean(map, dim=0, correction=0)
            varies = spread > 1e-6 * centre.abs().clamp(min=1e-6)
            statistics.append((centre, torch.where(varies, spread, 1.0)))
        return statistics

    @torch.no_grad()
    def absorb(self, statistics: Sequence[tuple[Tensor, Tensor]]) -> None:
        """See `Readout`: maps are z-scored by the readout itself from now on."""
        self.centre.copy_(torch.cat([centre.flatten() for centre, _ in statistics]))
        self.spread.copy_(torch.cat([spread.flatten() for _, spread in statistics]))

    def weights(self) -> list[Tensor]:
        """Weights of a linear link as y = x W: (features, hidden), twice (hidden, hidden), (hidden, units).

        The first is divided by the spread and the last multiplied by the scale: with `slopes` at flat maps they
        make the Jacobian of the responses, by `metrics.nonlinearity.jacobians.residual_mlp_factors`. Raises
        ValueError where features are read beside the map, or where the link is not linear.
        """
        if self.beside or self.given["loss"] not in ("gaussian", "correlation"):
            raise ValueError(f"no closed-form Jacobian: loss {self.given['loss']}, {self.beside} features beside")
        first, *then = (cast(nn.Linear, layer).weight.T for layer in self.layers)
        return [first / self.spread[:, None], *then, self.last.weight.T * self.scale]

    def slopes(self, values: Tensor) -> list[Tensor]:
        """phi' (stimuli, hidden) before each of the three activations, at flat maps (stimuli, features)."""
        with torch.enable_grad():
            before = [drive.detach().requires_grad_() for drive in self._forward(values, None)[1]]
            return [torch.autograd.grad(self.activation(drive).sum(), drive)[0] for drive in before]
