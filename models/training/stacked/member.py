"""One twin of a stack."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch

from models.training.data import ReadoutData
from models.training.settings import FitSettings
from models.twin import Twin


@dataclass
class Member:
    """One twin of a stack: its recordings (see `prepared`), its settings and its own draws of orders.

    `same_order` is equal for members that see the same rows in every step.
    """

    twin: Twin
    recordings: Sequence[ReadoutData]
    settings: FitSettings
    kind: Hashable = None
    order: torch.Generator = field(init=False)
    windows: torch.Generator = field(init=False)
    same_order: int = field(init=False)

    def __post_init__(self) -> None:
        self.order, self.windows = (torch.Generator().manual_seed(self.settings.seed) for _ in range(2))
        rows = tuple(recording.train.cpu().numpy().tobytes() for recording in self.recordings)
        settings = self.settings
        self.same_order = hash((settings.seed, settings.batch, settings.together, settings.frames, rows))

    def again(self) -> Member:
        """Make the same member before its first draw of an order."""
        return Member(self.twin, self.recordings, self.settings, self.kind)

    def loss(self) -> str:
        """Give the name of the loss of its readouts."""
        return str(self.twin.readout(self.twin.keys[0]).given["loss"])
