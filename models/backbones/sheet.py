"""A sheet of spiking neurons that wired itself up on pictures of its own: single-sheet STDP, a design of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.backbones.blocks import check_images, run_blocks
from models.spiking_sheet.encoding import draws, input_rates, poisson_spikes
from models.spiking_sheet.layers import hop_counts
from models.spiking_sheet.learning import Learner, Sheet, young_sheet
from models.spiking_sheet.natural import dead_leaves
from models.spiking_sheet.neurons import BATCH, exactly, lateral_kernel, simulate
from models.spiking_sheet.settings import SheetSettings
from models.spiking_sheet.wiring import Wiring

PICTURE = 64
"""Side in pixels of the pictures that a sheet learns from."""


class SheetBackbone(nn.Module):
    """Spike counts of a sheet; block k holds the neurons k + 1 hops from the input, the last block all the rest.

    A reference design of ours, put together from known parts: leaky integrate-and-fire neurons at the places of
    a grid, on- and off-centre inputs under a patch at one edge, pair-wise STDP with bounds and fixed sums of
    weights, thresholds that hold a rate, a fixed lateral kernel, and synapses that grow and are pruned by weight
    and length within limits on both degrees (`models.spiking_sheet`). Nothing tells a neuron which layer it is in. The
    list of ingredients follows the abstract of Bertens and Lee 2022 (NeurIPS 35), whose equations and constants
    are not public; every rule and number here is ours, so this is no reproduction of their model.

    The sheet learns on its first use, or by `learn`, from pictures that it draws from `seed`, as it does
    everything else; until then its buffers are empty. `state_dict` holds the seed and all that was learned, in
    shapes that depend on the parameters alone. With `rule: fixed` wiring and weights stay as they were drawn;
    thresholds adapt all the same, so that the neurons fire.

    A map is (stimuli, neurons x bins, 1, 1): the counts of each neuron of the block in each of `bins` equal parts
    of the presentation, neuron by neuron. A block without neurons has one channel of zeros. Neurons drive each
    other in loops, so all of them are simulated whatever block is requested. Every picture meets the same input
    draws, so what it gives does not depend on the batch. No gradient flows to the images.
    Raises ValueError where learning would take more than `budget` simulated seconds.
    """

    positions: Tensor
    excitatory: Tensor
    sources: Tensor
    weights: Tensor
    threshold: Tensor
    hops: Tensor
    seed: Tensor
    learned: Tensor

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        self.settings = settings = SheetSettings.of(parameters)
        self.layers, self.bins = (int(parameters[key]) for key in ("layers", "bins"))
        self.budget = float(parameters["budget"])
        self._afford(settings.pictures)
        if self.bins > settings.shown:
            raise ValueError(f"{self.bins} bins, but a presentation has {settings.shown} steps of {settings.step:g} ms")
        self.register_buffer("seed", torch.tensor(seed))
        self.register_buffer("learned", torch.tensor(False))
        self.register_buffer("positions", torch.zeros(settings.neurons + settings.inputs, 2, dtype=torch.float64))
        self.register_buffer("excitatory", torch.zeros(settings.neurons, dtype=torch.bool))
        self.register_buffer("sources", torch.full((settings.neurons, settings.in_degree), -1))
        self.register_buffer("weights", torch.zeros(settings.neurons, settings.in_degree))
        self.register_buffer("threshold", torch.zeros(settings.neurons))
        self.register_buffer("hops", torch.zeros(settings.neurons, dtype=torch.long))
        self.eval()

    @property
    def wiring(self) -> Wiring:
        """The plastic synapses as they are now."""
        return Wiring(self.sources, self.weights)

    def learn(self) -> None:
        """Learn from `pictures` dead-leaves pictures drawn from the seed; nothing is done if it has learned."""
        if not self.learned:
            self.fit(dead_leaves(self.settings.pictures, PICTURE, int(self.seed)))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Learn from images (stimuli, 3, h, w) in [0, 1], in their order, beginning with a newly drawn sheet.

        Without labels, and in place of what was learned before. Weights are kept to multiples of 2^-14.
        """
        check_images(images)
        self._afford(len(images))
        sheet = young_sheet(self.settings, self.stream(0))
        Learner(sheet, self.settings, self.stream(1)).learn(input_rates(images.cpu(), self.settings.pixels))
        self._keep(sheet)

    @torch.no_grad()
    def spikes(self, images: Tensor) -> Tensor:
        """Spikes (steps, neurons, stimuli), as booleans, while each image (stimuli, 3, h, w) is shown to rest."""
        self.learn()
        settings = self.settings
        rates = input_rates(images, settings.pixels)
        shown = poisson_spikes(rates, draws(settings.shown, settings.inputs, self.stream(2)), settings.step)
        places = self.positions[: settings.neurons]
        lateral = lateral_kernel(places, self.excitatory, settings.excitation, settings.inhibition)
        delays = self.wiring.delays(self.positions, settings.step)
        return simulate(self.wiring, self.threshold, lateral, delays, shown, settings.step)

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Counts of the neurons of the requested blocks (see the class and `models.backbones`)."""
        check_images(images)
        run_blocks([lambda image: image] * self.layers, images, blocks)  # refuses blocks that do not exist
        if not len(blocks):
            return []
        counts = torch.cat([self._counts(part) for part in images.split(BATCH)])
        return [self._block(counts, block) for block in blocks]

    def members(self, block: int) -> Tensor:
        """The neurons of a block, in the order of the sheet: block + 1 hops away, or more in the last block."""
        deep = self.hops > block if block == self.layers - 1 else self.hops == block + 1
        return deep.nonzero()[:, 0]

    def _counts(self, images: Tensor) -> Tensor:
        """Spike counts (stimuli, neurons, bins), float32."""
        parts = self.spikes(images).tensor_split(self.bins)
        return torch.stack([part.sum(dim=0).T for part in parts], dim=2).float()

    def _block(self, counts: Tensor, block: int) -> Tensor:
        """Map (stimuli, channels, 1, 1) of a block from the counts of all neurons."""
        members = counts[:, self.members(block)].flatten(1)
        return (members if members.shape[1] else counts.new_zeros(len(counts), 1))[:, :, None, None]

    def stream(self, use: int) -> torch.Generator:
        """A generator for one use: 0 draws the sheet, 1 is for learning, 2 for the spikes of what is looked at."""
        drawn = np.random.SeedSequence([int(self.seed), use]).generate_state(1)
        return torch.Generator().manual_seed(int(drawn[0]))

    def _afford(self, pictures: int) -> None:
        """Raise ValueError if learning from so many pictures goes beyond the budget."""
        seconds = self.settings.learning_seconds(pictures)
        if seconds > self.budget:
            raise ValueError(
                f"learning from {pictures} pictures takes {seconds:g} simulated seconds, the budget is "
                f"{self.budget:g}: show fewer pictures or shorter ones, or raise `budget`"
            )

    def _keep(self, sheet: Sheet) -> None:
        """Copy what was learned into the buffers."""
        self.positions.copy_(sheet.positions)
        self.excitatory.copy_(sheet.excitatory)
        self.sources.copy_(sheet.wiring.sources)
        self.weights.copy_(exactly(sheet.wiring.weights))
        self.threshold.copy_(sheet.threshold)
        self.hops.copy_(hop_counts(Wiring(sheet.wiring.sources, exactly(sheet.wiring.weights))))
        self.learned.fill_(True)
