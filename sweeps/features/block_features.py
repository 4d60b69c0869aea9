"""Which features a readout reads: one block of a backbone, shown a recording's stimuli."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.backbones import BACKBONES
from models.component import Component
from sweeps.experiment.cells import Cell
from sweeps.features.kernels import feature_sets
from sweeps.recordings.recording import Recording


@dataclass(frozen=True, eq=False)
class BlockFeatures:
    """One block of a frozen backbone ({name, parameters}) made with a `seed`, and how its maps are read.

    Maps are averaged to at most `pool` x `pool`; `delays` are the samples by which a readout looks back, 0 for none.
    """

    recording: Recording
    backbone: Mapping[str, Any]
    seed: int
    depth: int
    pool: int = 1
    delays: int = 0

    @property
    def component(self) -> Component:
        """The declaration of the backbone."""
        return BACKBONES[self.backbone["name"]]

    @property
    def recorded(self) -> bool:
        """Whether the recording brings the features itself."""
        return self.component.sees == "features"

    @property
    def seed_in_use(self) -> int:
        """The same for all seeds where the backbone does not depend on them."""
        return self.component.seed_in_use(self.backbone, self.seed)

    @property
    def key(self) -> str:
        """Equal for equal features; for the memory of one process."""
        backbone = sorted(self.backbone.items())
        return repr((self.recording.fingerprint, backbone, self.seed_in_use, self.depth, self.pool, self.delays))


def blocks_of_cell(recording: Recording, cell: Cell) -> list[BlockFeatures]:
    """What a cell reads: one for every block, or for every feature set of the recording that it names."""
    how = (int(cell.readout.get("pool", 1)), int(cell.readout.get("delays", 0)))
    if cell.backbone_component.sees != "features":
        return [BlockFeatures(recording, cell.backbone, cell.seed, depth, *how) for depth in cell.blocks]
    backbones = [{**cell.backbone, "set": name} for name in feature_sets(recording, cell.backbone["set"])]
    return [BlockFeatures(recording, backbone, cell.seed, 0, *how) for backbone in backbones]
