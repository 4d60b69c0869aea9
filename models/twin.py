"""A digital twin: a core and, for every area of every recording, a readout at that area's depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from torch import Tensor, nn

from models.readouts.gaussian import GaussianReadout


class Core(Protocol):
    """What a twin and its fit ask of a trained backbone, which is an `nn.Module` besides."""

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """See `models.backbones`."""
        ...

    def regularizer(self) -> Tensor:
        """A scalar that is added to the loss."""
        ...


class Twin(nn.Module):
    """`core` (see `models.backbones`, or None) and readouts by key, each reading the block `depths[key]`.

    A key is any text, such as "recording/area". Without a core the readouts read what `forward` is given: the
    maps of a frozen backbone, all at one depth. Raises ValueError where depths and readouts differ in keys.
    """

    def __init__(
        self,
        core: nn.Module | None,
        readouts: Mapping[str, GaussianReadout],
        depths: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.depths = dict(depths or {})
        if core is not None and set(self.depths) != set(readouts):
            raise ValueError(f"depths are given for {sorted(self.depths)}, readouts for {sorted(readouts)}")
        self.core = core
        self.keys = tuple(readouts)
        self.readouts = nn.ModuleDict({_slot(key): readout for key, readout in readouts.items()})

    def readout(self, key: str) -> GaussianReadout:
        """The readout called `key`; a KeyError that lists the known ones otherwise."""
        if key not in self.keys:
            raise KeyError(f"unknown readout {key!r}; known: {', '.join(self.keys)}")
        return cast(GaussianReadout, self.readouts[_slot(key)])

    def forward(self, inputs: Tensor, keys: Sequence[str]) -> dict[str, Tensor]:
        """Responses (stimuli, units) by key, from images (stimuli, 3, h, w), or from maps without a core.

        Every block is computed once, and none deeper than the deepest that is asked.
        """
        maps = self.maps(inputs, keys)
        return {key: self.readout(key)(maps[key]) for key in keys}

    def maps(self, inputs: Tensor, keys: Sequence[str]) -> dict[str, Tensor]:
        """What each of the readouts `keys` reads: the core's map at its depth, or `inputs` without a core."""
        for key in keys:
            self.readout(key)  # a KeyError that lists the known ones
        if self.core is None:
            return dict.fromkeys(keys, inputs)
        blocks = sorted({self.depths[key] for key in keys})
        maps = cast(Core, self.core).forward_blocks(inputs, blocks)
        return {key: maps[blocks.index(self.depths[key])] for key in keys}

    def regularizer(self) -> Tensor | float:
        """What the core asks to be added to the loss; nothing without a core."""
        return 0.0 if self.core is None else cast(Core, self.core).regularizer()


def _slot(key: str) -> str:
    """A name for `key` that `nn.ModuleDict` accepts: without dots, and none of its own attributes."""
    return "readout " + key.replace("%", "%25").replace(".", "%2E")
