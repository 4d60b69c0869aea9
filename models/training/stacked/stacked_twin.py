"""What a stack computes of each of its members: one function of parameters, buffers and a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.noise import Drawing
from models.readouts.sampling import Maps
from models.training.twin_loss import penalty
from models.twin import Twin, View, blocks_of

Outputs = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], Tensor]
"""By readout: drives (rows, units, outputs), responses in deviations (rows, units), the gamma's shape (units,); then
the penalty."""


class StackedTwin(nn.Module):
    """A twin that stands for every member of a stack, through `torch.func.functional_call`.

    Members may read different blocks with their readouts: `blocks` are then all that any of them reads, by key, and
    the buffer `choice N`, of the N-th key, holds which of them the maps of a member are.
    """

    def __init__(self, twin: Twin, blocks: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.twin = twin
        self.blocks = {key: tuple(numbers) for key, numbers in blocks.items()}
        for key in self.blocks:
            self.register_buffer(self._slot(key), torch.zeros(len(blocks_of(twin.depths[key])), dtype=torch.long))

    def choice(self, key: str, twin: Twin) -> Tensor:
        """Make the buffer `choice` of a member."""
        return torch.tensor([self.blocks[key].index(block) for block in blocks_of(twin.depths[key])])

    def choices(self, twin: Twin) -> dict[str, Tensor]:
        """Make all buffers `choice` of a member, by name."""
        return {self._slot(key): self.choice(key, twin) for key in self.blocks}

    def drawing(self) -> dict[str, Drawing]:
        """List the parts that draw noise, by name."""
        return {name: part for name, part in self.named_modules() if isinstance(part, Drawing)}

    def _slot(self, key: str) -> str:
        return f"choice {list(self.blocks).index(key)}"

    def forward(
        self,
        keys: Sequence[str],
        inputs: list[Tensor],
        responses: Sequence[Tensor],
        behaviour: Tensor | None,
        pupil: Tensor | None,
    ) -> Outputs:
        """Compute drives, targets, gamma's shapes and the penalty of a member for a batch."""
        shown: Maps = inputs[0] if self.twin.core is not None else inputs
        views = self._views(shown, keys, behaviour, pupil)
        drives, targets, gammas = {}, {}, {}
        for key, values in zip(keys, responses, strict=True):
            readout, view = self.twin.readout(key), views[key]
            drives[key] = readout.drives(view.maps, view.shift, readout.checked(view.beside))
            targets[key] = view.flattened(values) / readout.scale
            gammas[key] = readout.gamma
        total = penalty(self.twin, keys) if self.training else torch.zeros((), device=drives[keys[0]].device)
        return drives, targets, gammas, total

    def _views(
        self, inputs: Maps, keys: Sequence[str], behaviour: Tensor | None, pupil: Tensor | None
    ) -> dict[str, View]:
        if not self.blocks:
            return self.twin.views(inputs, keys, behaviour, pupil)
        own = dict(self.twin.depths)
        self.twin.depths.update(self.blocks)
        try:
            views = self.twin.views(inputs, keys, behaviour, pupil)
        finally:
            self.twin.depths.update(own)
        return {key: self._chosen(view, key) for key, view in views.items()}

    def _chosen(self, view: View, key: str) -> View:
        """Choose the maps of a member among those of all blocks that any member reads, which have one shape."""
        maps = torch.stack(view.maps).index_select(0, self.get_buffer(self._slot(key)))
        return replace(view, maps=list(maps.unbind()))
