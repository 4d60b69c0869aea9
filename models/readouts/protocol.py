"""The base classes of readouts that are fitted by gradient descent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.objectives.loss import Outcome
from models.objectives.losses import LOSSES
from models.objectives.regularizers import channel_lasso, group_lasso, l1
from models.readouts.sampling import Maps, Shape, as_list
from models.registry import UnknownName


class Readout(nn.Module, ABC):
    """Responses of `units` units from one map, or from the maps of several blocks that are read together.

        response = scale * mean(link(drive)) + offset

    link and mean are those of the loss, `parameters["loss"]`; a readout adds what the drive is. `shapes` are
    those of the maps, (channels, h, w) each, before they are pooled; `beside` is the number of other features,
    such as behaviour, that are read beside those of the map; `coordinates` (units, d) are the units' places in
    the brain, which only some readouts use. Everything is drawn from `seed` alone. `scale` and `offset` are set,
    not learned. With `bias: false` the bias is not learned either, and stays at what `initialize` makes it.
    """

    scale: Tensor
    offset: Tensor
    gamma: Tensor
    bias: Tensor
    places = False
    """Whether units look at a place, which `place` sets before training."""

    penalties: tuple[str, ...] = ()
    """Parameters that weigh penalties: buffers `penalty_NAME`, so that twins of one stack can differ in them."""

    def __init__(
        self,
        shapes: Sequence[Shape],
        units: int,
        parameters: Mapping[str, Any],
        seed: int,
        beside: int = 0,
        coordinates: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not shapes:
            raise ValueError("a readout needs the shape of at least one map, shapes is empty")
        self.shapes, self.units, self.beside = [(int(c), int(h), int(w)) for c, h, w in shapes], units, beside
        self.given = dict(parameters)
        try:
            self.loss = LOSSES[parameters["loss"]]
        except UnknownName as error:
            raise ValueError(f"unknown loss {parameters['loss']!r}; known: {', '.join(LOSSES)}") from error
        self.outputs = self.loss.outputs
        self.pool: int | None = parameters.get("pool")
        self.generator = torch.Generator().manual_seed(seed)
        self.register_buffer("scale", torch.ones(units))
        self.register_buffer("offset", torch.zeros(units))
        self.register_buffer("gamma", torch.ones(units))
        start = torch.zeros(units, self.outputs)
        for name in self.penalties:
            self.register_buffer(f"penalty_{name}", torch.tensor(float(parameters[name])), persistent=False)
        if parameters["bias"]:
            self.bias = nn.Parameter(start)
        else:
            self.register_buffer("bias", start)
        self.build(seed, coordinates)

    @abstractmethod
    def build(self, seed: int, coordinates: Tensor | None) -> None:
        """Make the parts of the readout that its drive needs; the last step of the constructor."""

    def forward(self, maps: Maps, shift: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        """Map maps (stimuli, channels, h, w), shift (stimuli, 2), beside (stimuli, k) to responses (stimuli, units)."""
        return self.response(self.outcome(maps, shift, beside))

    def response(self, outcome: Outcome) -> Tensor:
        """Compute the expected responses, in the recording's own unit, from output parameters."""
        return self.scale * self.loss.mean(outcome, self.gamma) + self.offset

    def outcome(self, maps: Maps, shift: Tensor | None = None, beside: Tensor | None = None) -> Outcome:
        """Compute the output parameters that the loss takes: link(drive), each (stimuli, units), in deviations."""
        return self.loss.link(self.drives(as_list(maps), shift, self.checked(beside)))

    def drive(self, maps: Maps, shift: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        """Compute what comes before the link, (stimuli, units), or (stimuli, units, outputs) with several outputs."""
        drives = self.drives(as_list(maps), shift, self.checked(beside))
        return drives[..., 0] if self.outputs == 1 else drives

    @abstractmethod
    def drives(self, maps: list[Tensor], shift: Tensor | None, beside: Tensor | None) -> Tensor:
        """Compute drives (stimuli, units, outputs)."""

    @abstractmethod
    def penalty(self) -> Tensor:
        """Give the regularization that is added to the loss: means over the units, each times its weight."""

    @abstractmethod
    def statistics(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Compute (centre, spread) of every map over train stimuli, for (map - centre) / spread."""

    @abstractmethod
    def absorb(self, statistics: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Make a readout fitted on (map - centre) / spread read the maps themselves."""

    def penalty_weight(self, name: str) -> Tensor:
        """Give the weight of a penalty, a scalar."""
        return self.get_buffer(f"penalty_{name}")

    def place(self, positions: Tensor) -> None:
        """Let the units look at positions (units, 2) first; readouts without places have no use for them."""

    @torch.no_grad()
    def initialize(
        self,
        mean_response: Tensor,
        scale: Tensor | None = None,
        gamma: Tensor | None = None,
        active: Tensor | None = None,
    ) -> None:
        """Set the bias so that a unit without drive answers its mean response; all arguments (units,).

        bias = link^{-1}(mean / scale); under a link that is a rate, a mean below 0.001 scales counts as that much.
        `scale` and `gamma`, the shape k of the gamma, are kept where they are not given. `active`, the share of
        responses that are not "zero", serves the zero-inflated gamma; a half without it.
        """
        for buffer, values in ((self.scale, scale), (self.gamma, gamma)):
            if values is not None:
                buffer.copy_(values)
        level = mean_response.to(self.scale) / self.scale
        share = torch.full_like(level, 0.5) if active is None else active.to(level)
        self.bias.copy_(self.loss.start(level, share, self.gamma))

    @torch.no_grad()
    def calibrate(self, gain: Tensor, offset: Tensor) -> None:
        """Make every response gain * response + offset from now on; both (units,)."""
        self.scale.mul_(gain)
        self.offset.mul_(gain).add_(offset)

    def checked(self, beside: Tensor | None) -> Tensor | None:
        """Return `beside`, if it has the width that the readout was made for; a ValueError otherwise."""
        width = 0 if beside is None else beside.shape[-1]
        if width != self.beside:
            raise ValueError(f"the readout was made for {self.beside} features beside the map, got {width}")
        return beside


class LinearReadout(Readout):
    """A readout whose drive is linear in features that it takes at a place of its own for each unit.

        drive = weights . [features of all maps; beside] + bias

    `l1` and `group` weigh `models.objectives.regularizers.l1` and, as `group_over` says, `group_lasso` over the
    channels of each block of one unit ("channels") or `channel_lasso` over all units ("units").
    """

    places = True
    penalties: tuple[str, ...] = ("l1", "group")

    def draw_weights(self) -> nn.Parameter:
        """Draw the weights (units, outputs, channels of all maps + beside): normal, 0.1 / sqrt(features)."""
        features = sum(shape[0] for shape in self.shapes) + self.beside
        start = torch.randn(self.units, self.outputs, features, generator=self.generator) * 0.1 / features**0.5
        return nn.Parameter(start)

    weights: nn.Parameter

    @abstractmethod
    def looks(self, maps: list[Tensor], shift: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Return the maps (stimuli, channels, h, w) as they are read, and where or how units look at each of them."""

    @abstractmethod
    def features_of(self, map: Tensor, where: Tensor) -> Tensor:
        """Compute features (stimuli, channels, units) of one map, as `looks` gives it."""

    @abstractmethod
    def read_planes(self, planes: Tensor, where: Tensor) -> Tensor:
        """Read every unit's own planes (units, outputs, stimuli, h, w) at its place: (stimuli, units, outputs)."""

    @abstractmethod
    def planes_first(self, map: Tensor) -> bool:
        """Tell whether it costs less to weigh the channels of the whole map than to take features and weigh those."""

    @abstractmethod
    def constants(self, levels: list[Tensor]) -> Tensor:
        """Compute features (channels of all maps, units) of constant maps, given their levels (channels,) each."""

    def drives(self, maps: list[Tensor], shift: Tensor | None, beside: Tensor | None) -> Tensor:
        """See `Readout`."""
        drives, start = self.bias, 0
        for map, where in self.looks(maps, shift):
            weights = self.weights[..., start : start + map.shape[1]]
            drives = drives + self._drive(map, where, weights)
            start += map.shape[1]
        if beside is not None:
            drives = drives + torch.einsum("nk,uok->nuo", beside, self.weights[..., start:])
        return drives

    def _drive(self, map: Tensor, where: Tensor, weights: Tensor) -> Tensor:
        """weights . features of one map (stimuli, units, outputs), in the order that costs less."""
        if self.planes_first(map):
            planes = weights.flatten(0, 1) @ map.transpose(0, 1).flatten(1)  # one product for all of a stack
            return self.read_planes(planes.reshape(*weights.shape[:2], len(map), *map.shape[2:]), where)
        features = self.features_of(map, where)
        return torch.stack([(features * weight).sum(dim=1) for weight in weights.permute(1, 2, 0)], dim=2)

    def penalty(self) -> Tensor:
        """See the class."""
        given, flat = self.given, self.weights.flatten(1)
        total = self.penalty_weight("l1") * l1(flat)
        if given["group"]:
            groups = [shape[0] for shape in self.shapes] + ([self.beside] if self.beside else [])
            lasso = channel_lasso(flat) if given["group_over"] == "units" else group_lasso(flat, groups * self.outputs)
            total = total + self.penalty_weight("group") * lasso
        return total

    def statistics(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Compute mean and deviation of every channel (channels, 1, 1) over stimuli and positions of pooled maps."""
        return [tuple(statistic[:, None, None] for statistic in channel_statistics(values)) for values in maps]  # type: ignore[misc]

    @torch.no_grad()
    def absorb(self, statistics: Sequence[tuple[Tensor, Tensor]]) -> None:
        """See `Readout`; exact, because a constant map gives the same features at every place."""
        spread = torch.cat([spread.flatten() for _, spread in statistics])
        self.weights[..., : len(spread)].div_(spread)
        constant = self.constants([centre.flatten() for centre, _ in statistics])
        self.bias.sub_(torch.einsum("cu,uoc->uo", constant, self.weights[..., : len(spread)]))


def channel_statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation (channels,) over stimuli and positions; 1 for a constant channel."""
    spread, centre = torch.std_mean(maps, dim=(0, 2, 3), correction=0)
    return centre, torch.where(spread > 1e-6 * centre.abs().clamp(min=1e-6), spread, 1.0)
