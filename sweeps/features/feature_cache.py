"""Features of (backbone, stimuli): computed once per node, kept on disk by content hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import sentences
from models.backbones import BACKBONES
from models.inputs.tensors import BATCH, as_images
from models.readouts.gaussian import shrink
from sweeps.experiment.plugins import code_of
from sweeps.features.block_features import BlockFeatures
from sweeps.features.shown_stimuli import ShownStimuli
from sweeps.features.story_features import text_maps
from sweeps.hashing import content_id
from sweeps.io.disk_cache import DiskCache, warn_once
from sweeps.io.files import OWN_MODE, locked, replacing
from sweeps.io.guards.private_folder import is_believed

SHARD = 256
"""Stimuli in one shard: what one process computes while others compute the next."""

IN_USE_SECONDS = 600.0
"""Maps of a backbone that were used within these seconds are never removed."""


class FeatureCache:
    """Feature maps on disk, shared by every process of a node; `limit` bytes, those used longest ago go first."""

    def __init__(self, folder: Path, limit: float, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self.disk = DiskCache(folder / "features", limit, IN_USE_SECONDS)

    def maps(self, block: BlockFeatures, stimuli: ShownStimuli, depths: Sequence[int]) -> np.ndarray:
        """Feature map (stimuli, channels, h, w) float32 of one block, maps averaged to at most `pool` x `pool`.

        What is missing is computed for all `depths` in one pass; processes of one node share the shards: each first
        computes those that no other process is at, then waits for the others. Stimuli are pictures, or texts for a
        backbone that sees texts, whose map has one row and one column. A damaged file is computed again; where nothing
        can be written, as on a full disk, the map is computed for this call alone.
        """
        shards = _Shards(self, block, stimuli, depths)
        maps: dict[int, np.ndarray] = {}
        for wait in (False, True):
            for index in [index for index in range(shards.count) if index not in maps]:
                shard = shards.read(index, wait)
                if shard is not None:
                    maps[index] = shard
        return np.concatenate([maps[index] for index in range(shards.count)])

    def map_sizes(self, block: BlockFeatures, stimuli: ShownStimuli, results: DiskCache) -> np.ndarray:
        """Channels, rows and columns (blocks, 3) of the maps of every block of a backbone, kept in `results`."""
        identity, code = block.component.identity(block.backbone), code_of(block.backbone["name"])
        geometry = block.recording.geometry
        shown = "texts" if block.component.sees == "texts" or geometry is None else geometry.key()
        key = ["map sizes", identity, block.seed_in_use, shown, block.pool, *code]
        return results.get(key, lambda: {"sizes": self._measured(block, stimuli)})["sizes"]

    def _measured(self, block: BlockFeatures, stimuli: ShownStimuli) -> np.ndarray:
        depths = range(block.component.block_count(block.backbone))
        one = ["a word"] if block.component.sees == "texts" else stimuli.load(slice(0, 1))
        maps = self.forward(self.network(block.backbone, block.seed), one, list(depths), block.pool)
        return np.array([array.shape[1:] for array in maps])

    def network(self, backbone: Mapping[str, Any], seed: int) -> torch.nn.Module:
        """A frozen backbone on this node's device, in evaluation mode; one that learns has learned, once per node."""
        component = BACKBONES[backbone["name"]]
        parameters = {key: value for key, value in backbone.items() if key != "name"}
        network: torch.nn.Module = component.load()(parameters, seed)
        network = network.to(self.device)
        if component.learns:
            self._learn(
                network, content_id(["learned", component.identity(backbone), seed, *code_of(backbone["name"])])
            )
        return network.eval().requires_grad_(False)

    def _learn(self, network: torch.nn.Module, key: str) -> None:
        """Let a network learn, or give it what another process of this node has learned with the same settings."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save

        path = self.folder / "learned" / f"{key}.safetensors"
        with ExitStack() as stack:
            with suppress(OSError):
                stack.enter_context(locked(path.with_suffix(".lock")))
            if is_believed(path):
                with suppress(SafetensorError):  # damaged: learn again
                    network.load_state_dict(load_file(path))
                    return
            network.learn()  # type: ignore[operator]
            try:
                with replacing(path, mode=OWN_MODE) as file:
                    file.write(save({name: value.contiguous() for name, value in network.state_dict().items()}))
            except OSError as error:  # nothing can be written: every process learns anew
                warn_once(f"{path.parent} cannot be written ({error}): what a network has learned is not saved")

    def sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Sentence embeddings (texts, 384), computed once per node: the encoder takes seconds to import and load."""
        key = ["sentences", sentences.VERSION, version(sentences.WHEEL), list(texts)]
        return self.disk.get(key, lambda: {"vectors": sentences.embed(texts)})["vectors"]

    @torch.inference_mode()
    def forward(self, network: torch.nn.Module, shown: Any, depths: Sequence[int], pool: int) -> list[np.ndarray]:
        """Maps (rows, channels, h, w) of some blocks to what is shown."""
        parts: list[list[Tensor]] = [[] for _ in depths]
        for start in range(0, len(shown), BATCH):
            for part, maps in zip(parts, self._blocks(network, shown[start : start + BATCH], depths), strict=True):
                part.append(shrink(maps, pool).cpu())
        return [torch.cat(part).numpy() for part in parts]

    def _blocks(self, network: torch.nn.Module, shown: Any, depths: Sequence[int]) -> list[Tensor]:
        if isinstance(shown, np.ndarray):
            return list(network.forward_blocks(as_images(shown, self.device), depths))  # type: ignore[operator]
        return [vectors[:, :, None, None] for vectors in network.forward_texts(shown, depths)]  # type: ignore[operator]


class _Shards:
    """The map of one block in shards of stimuli: from disk, else computed, together with the other `depths`."""

    def __init__(
        self, features: FeatureCache, block: BlockFeatures, stimuli: ShownStimuli, depths: Sequence[int]
    ) -> None:
        self.features, self.block, self.stimuli, self.depths = features, block, stimuli, depths
        self.size = stimuli.count if stimuli.role else SHARD
        self.count = len(range(0, stimuli.count, self.size))
        identity, code = block.component.identity(block.backbone), code_of(block.backbone["name"])
        self.group = content_id(["maps", identity, block.seed_in_use, stimuli.key, block.pool, SHARD, *code])
        self.writable = True

    @cached_property
    def network(self) -> torch.nn.Module:
        """The backbone, made when the first shard is missing."""
        return self.features.network(self.block.backbone, self.block.seed)

    def read(self, index: int, wait: bool) -> np.ndarray | None:
        """One shard; None when not waiting and another process computes it."""
        maps = self._load(index)
        if maps is not None:
            return maps
        with self.features.disk.lock(f"{self.group}/{index:05d}", wait) as acquired:
            if not acquired:
                return None
            maps = self._load(index)
            return self._compute(index) if maps is None else maps

    def _load(self, index: int) -> np.ndarray | None:
        entry = self.features.disk.load(self._name(self.block.depth, index))
        return None if entry is None else entry.arrays["maps"]

    def _compute(self, index: int) -> np.ndarray:
        """The shard of the block; those of other depths that are missing, too, as long as they can be written."""
        others = [depth for depth in self.depths if depth != self.block.depth] if self.writable else []
        missing = [depth for depth in others if not self.features.disk.exists(self._name(depth, index))]
        depths = sorted({self.block.depth, *missing})
        maps = dict(zip(depths, self._forward(index, depths), strict=True))
        for depth, array in maps.items():
            self.writable = self.writable and self.features.disk.save(self._name(depth, index), {"maps": array})
        return maps[self.block.depth]

    def _forward(self, index: int, depths: Sequence[int]) -> list[np.ndarray]:
        block, stimuli = self.block, self.stimuli
        if stimuli.role:
            return text_maps(block.recording, self.network, depths, block.backbone, stimuli.role)
        rows = slice(index * self.size, min((index + 1) * self.size, stimuli.count))
        return self.features.forward(self.network, stimuli.load(rows), depths, block.pool)

    def _name(self, depth: int, index: int) -> str:
        return f"{self.group}/block-{depth:03d}.{index:05d}"
