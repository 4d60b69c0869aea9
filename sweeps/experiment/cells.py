"""Cells and packs: what trials share, and what Ray Tune schedules as one of its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from models.backbones import BACKBONES
from models.component import Component
from models.readouts import READOUTS
from sweeps.experiment.depths import blocks_of, plain, resolve
from sweeps.experiment.plugins import code_of
from sweeps.experiment.space import Configuration
from sweeps.hashing import canonical, content_id
from sweeps.recordings.recording import RecordingFacts
from sweeps.recordings.shared_splits import SharedGroups
from sweeps.recordings.split_rows import split_identity
from sweeps.recordings.split_settings import Split


@dataclass(frozen=True)
class Cell:
    """One (recording, area) readout of one block, or of several that are read together.

    `blocks` are in rising order, `depth` is the deepest. `backbone` and `readout` are resolved ({name, parameters});
    `twin` is empty for frozen backbones and otherwise the depth of every area of the twin that is trained together,
    as the configuration has it.
    """

    cell_id: str
    recording: str
    area: str
    blocks: tuple[int, ...]
    backbone: dict[str, Any]
    readout: dict[str, Any]
    seed: int
    twin: dict[str, Any]

    @property
    def depth(self) -> int:
        """The deepest block that is read."""
        return self.blocks[-1]

    @property
    def backbone_component(self) -> Component:
        """The declaration of the backbone."""
        return BACKBONES[self.backbone["name"]]

    @property
    def readout_component(self) -> Component:
        """The declaration of the readout."""
        return READOUTS[self.readout["name"]]

    def configuration(self) -> Configuration:
        """The part of a trial's configuration that decides this cell."""
        return {
            "backbone": self.backbone,
            "depth": self.twin or {self.area: plain(resolve(self.blocks, 0))},
            "readout": self.readout,
            "seed": self.seed,
        }

    def random_seed(self) -> int:
        """Seed of the random draws in this cell's scores."""
        return int(self.cell_id[:12], 16)

    def together(self) -> str:
        """Cells with the same text are fitted in one go: one cell, or a whole trained twin."""
        if not self.twin:
            return self.cell_id
        return canonical([self.backbone, self.readout, self.seed, self.twin])

    def network_key(self) -> str:
        """Equal for cells that read the same network."""
        seed = self.backbone_component.seed_in_use(self.backbone, self.seed)
        return canonical(
            [self.backbone_component.identity(self.backbone), seed, self.twin, *code_of(self.backbone["name"])]
        )

    def data(self) -> str:
        """Cells with the same text share recording and features, or are of twins that may be trained as a stack."""
        if self.twin:
            return canonical([self.backbone["name"], self.readout["name"]])
        seed = self.backbone_component.seed_in_use(self.backbone, self.seed)
        return canonical([self.recording, self.backbone, seed, self.readout["name"]])


def components_of(backbone: Mapping[str, Any], readout: Mapping[str, Any]) -> str:
    """Names and VERSIONs of what a cell is made with, as a column."""
    names = (backbone["name"], readout["name"])
    versions = (BACKBONES[names[0]].version, READOUTS[names[1]].version)
    return " ".join(f"{name}@{version}" for name, version in zip(names, versions, strict=True))


class Planner:
    """Turns configurations into cells; two configurations that mean the same give the same ids.

    `shared` are groups that recordings share where that decides their splits, by name of the recording.
    """

    def __init__(
        self,
        facts: Sequence[RecordingFacts],
        split: Split,
        shared: Mapping[str, SharedGroups] = MappingProxyType({}),
    ) -> None:
        self.facts = facts
        self.split = split.model_dump()
        self.shared = {name: groups.key for name, groups in shared.items()} if split.is_random else {}
        self.splits = {one.name: split_identity(one.split_basis, split) for one in facts}

    def cells(self, configuration: Configuration) -> list[Cell]:
        """The cells of a configuration, one per (recording, area) that it reads."""
        return [
            self._cell(facts, area, configuration)
            for facts in self.facts
            for area in facts.areas
            if area in configuration["depth"]
        ]

    def _cell(self, facts: RecordingFacts, area: str, configuration: Configuration) -> Cell:
        backbone, readout = configuration["backbone"], configuration["readout"]
        component = BACKBONES[backbone["name"]]
        twin = dict(configuration["depth"]) if component.trained else {}
        identity = {
            "recording": facts.fingerprint,
            "area": area,
            "depth": configuration["depth"][area],
            "backbone": component.identity(backbone),
            "readout": READOUTS[readout["name"]].identity(readout),
            "seed": configuration["seed"],
            "split": self.splits[facts.name],
            "twin": [twin, [one.fingerprint for one in self.facts], *self._splits_of_others()] if twin else [],
        }
        if self.shared and (twin or facts.name in self.shared):
            names = [one.name for one in self.facts] if twin else [facts.name]
            identity["shared"] = [self.shared.get(name, "") for name in names]
        blocks = blocks_of(configuration["depth"][area])
        return Cell(content_id(identity), facts.name, area, blocks, backbone, readout, configuration["seed"], twin)

    def _splits_of_others(self) -> list[Any]:
        """Splits of all recordings that a twin is trained on, where one of them is not its settings' alone."""
        splits = [self.splits[one.name] for one in self.facts]
        return [splits] if any(split != self.split for split in splits) else []

    def split_text(self, recording: str) -> str:
        """The split of a recording as rows hold it."""
        return canonical(self.splits[recording])

    def fingerprint(self, recording: str) -> str:
        """The data fingerprint of a recording."""
        return next(facts.fingerprint for facts in self.facts if facts.name == recording)

    @staticmethod
    def trial_id(cells: Sequence[Cell]) -> str:
        """Identity of a trial: the cells that it joins."""
        return content_id(sorted([cell.recording, cell.area, cell.cell_id] for cell in cells))


def cell_key(cell: Cell) -> str:
    """Name of a cell's readout in its twin."""
    return f"{cell.recording}/{cell.area}"
