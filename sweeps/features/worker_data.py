"""What one worker process keeps between packs: recordings, probes, features, kernels, decompositions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.inputs.geometry import Geometry
from models.linear.ridge import Decomposition, decompose_features, decompose_kernel
from sweeps.errors import InputError, Refusal
from sweeps.experiment.worker_context import WorkerContext
from sweeps.features.block_features import BlockFeatures
from sweeps.features.feature_cache import FeatureCache
from sweeps.features.kernels import Columns, Kernels, centred_kernels, columns_of, feature_sets, lags_of
from sweeps.features.shown_stimuli import ShownStimuli, shown_pictures, shown_texts
from sweeps.io.disk_cache import DiskCache
from sweeps.io.guards.private_folder import cache_folder
from sweeps.io.lru_cache import LRUCache
from sweeps.probes import Probe, open_probe
from sweeps.recordings import open_recording
from sweeps.recordings.recording import Recording
from sweeps.recordings.shared_splits import SharedGroups
from sweeps.recordings.split_rows import confirm_fold, folds_of
from sweeps.recordings.split_settings import Split
from sweeps.recordings.splits import Fold

RESULTS_BYTES = 200e6
"""Limit of results of scores that take long and depend on little, some thousand of them."""


class WorkerData:
    """Opens what packs need, once per process; every method is a pure function of its arguments."""

    def __init__(self, context: WorkerContext) -> None:
        folder = cache_folder(context.cache, context.shared_cache)
        self.context = replace(context, cache=str(folder))
        self.split = Split(**context.split)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.features = FeatureCache(folder, context.cache_gb * 1e9, self.device)
        self.results = DiskCache(folder / "kept", RESULTS_BYTES)
        self._recordings = LRUCache(64)
        self._probes = LRUCache(4)
        self._folds = LRUCache(64)
        self._kernels = LRUCache(2)
        self.bands = LRUCache(2)
        self.standardised = LRUCache(4)
        self._decompositions = LRUCache(8)
        self.readouts = LRUCache(32)
        self.networks = LRUCache(2)
        self.of_recordings = LRUCache(256)
        self._embeddings = LRUCache(4)
        self._pictures = LRUCache(2)

    def recording(self, name: str) -> Recording:
        """A recording by name; InputError when this node sees other contents than the driver."""
        return self._recordings.get(name, lambda: self._open(name))

    def _open(self, name: str) -> Recording:
        for raw in self.context.recordings:
            try:
                recording = open_recording(raw, self.context.base, Path(self.context.cache), name)
            except InputError as error:
                if "://" in f"{self.context.base}{raw.get('path', '')}":
                    raise  # an object store may answer at the next try
                raise Refusal(str(error)) from error
            if recording is not None:
                self.context.check_contents(recording.name, recording.fingerprint)
                return recording
        raise InputError("no such recording", key="recordings", value=name)

    def probe(self, kind: str) -> Probe | None:
        """A probe of the sweep, or None."""
        if kind not in self.context.probes:
            return None
        probe: Probe = self._probes.get(kind, lambda: open_probe(kind, self.context.probes[kind], self.context.base))
        return probe

    def folds(self, recording: Recording, seed: int) -> list[Fold]:
        """Train, select and report stimuli of a recording under a trial's seed."""
        key = (recording.name, recording.fingerprint, seed)
        folds: list[Fold] = self._folds.get(
            key, lambda: folds_of(recording.split_basis, self.split, seed, self.shared(recording.name))
        )
        return folds

    def shared(self, name: str) -> SharedGroups | None:
        """The groups that a recording shares with others of the experiment, where that decides its split."""
        shared = self.context.shared.get(name)
        return None if shared is None else SharedGroups(tuple(shared[0]), shared[1])

    def embed(self, captions: tuple[str, ...]) -> np.ndarray:
        """Sentence embeddings (captions, 384)."""
        return self._embeddings.get(captions, lambda: self.features.sentences(captions))

    def shown(self, recording: Recording, sees: str = "images") -> dict[str, ShownStimuli]:
        """What a twin is shown, by name: "fit", "recorded.ROLE", "probe.KIND"; texts for one that `sees` texts."""
        if sees == "texts":
            return shown_texts(recording, self.probe("captions"))
        return shown_pictures(recording, self.context.probes, self.probe, self._probe_pictures)

    def shown_keys(self, recording: Recording, sees: str = "images") -> dict[str, str]:
        """Keys of what a twin is shown beside the stimuli of the fit, by name."""
        return {name: stimuli.key for name, stimuli in self.shown(recording, sees).items() if name != "fit"}

    def _probe_pictures(self, probe: Probe, geometry: Geometry) -> Callable[[slice], np.ndarray]:
        key = (probe.fingerprint, geometry.key())
        return lambda rows: self._pictures.get(key, lambda: probe.images(geometry))[rows]

    def maps(self, block: BlockFeatures, name: str) -> np.ndarray:
        """Feature maps (stimuli, channels, h, w) of one block for what is shown under `name`."""
        if block.recorded:
            names = feature_sets(block.recording, block.backbone["set"])
            return np.concatenate([block.recording.features[one] for one in names], axis=1)[:, :, None, None]
        stimuli = self.shown(block.recording, block.component.sees)[name]
        return self.features.maps(block, stimuli, self._depths_in_one_pass(block))

    def narrowest_maps(self, block: BlockFeatures) -> tuple[int, int]:
        """The smallest numbers of channels, and of channels x positions, of any block of a block's backbone.

        Measured once per node, by one stimulus: the same whatever depths a sweep reads.
        """
        if block.recorded:
            channels = self.maps(block, "fit").shape[1]
            return channels, channels
        shown = self.shown(block.recording, block.component.sees)["fit"]
        sizes = self.features.map_sizes(block, shown, self.results)
        return int(sizes[:, 0].min()), int(sizes.prod(axis=1).min())

    def _depths_in_one_pass(self, block: BlockFeatures) -> list[int]:
        """The blocks of its backbone that the sweep may read; for any other block itself alone."""
        blocks = range(block.component.block_count(block.backbone))
        depths = [depth for depth in self.context.depths.get(block.backbone["name"], []) if depth in blocks]
        return depths if block.depth in depths else [block.depth]

    def kernels(self, block: BlockFeatures) -> Kernels:
        """Kernels of one block, shared by the cells that read it."""
        lags = lags_of(block.recording, block.delays, self.device)
        load = partial(self._flat, block)
        return self._kernels.get(block.key, lambda: centred_kernels(load, self._beside(block), block.key, lags))

    def columns(self, block: BlockFeatures, size: int, projection_seed: int) -> Columns:
        """Features of one block that are z-scored later, projected to `size` columns unless that is 0."""
        key = f"{block.key} {size} {projection_seed}"
        lags = lags_of(block.recording, block.delays, self.device)
        return columns_of(partial(self._flat, block), self._beside(block), key, lags, size, projection_seed)

    def _beside(self, block: BlockFeatures) -> list[str]:
        """Names of what a twin is shown beside the stimuli of the fit."""
        return [] if block.recorded else list(self.shown_keys(block.recording, block.component.sees))

    def _flat(self, block: BlockFeatures, name: str) -> Tensor:
        maps = self.maps(block, name)
        flat = torch.from_numpy(np.ascontiguousarray(maps.reshape(len(maps), -1)))
        return (flat if block.recorded else flat.float()).to(self.device)

    def decomposition(self, bands: Sequence[Kernels], kernel: Tensor, rows: np.ndarray) -> Decomposition:
        """The decomposition of the `kernel` of bands together among some stimuli; shared by units, alphas and seeds."""
        key = (tuple(band.key for band in bands), rows_key(rows))
        return self._decompositions.get(key, lambda: self._decompose(bands, kernel, rows))

    @staticmethod
    def _decompose(bands: Sequence[Kernels], kernel: Tensor, rows: np.ndarray) -> Decomposition:
        features, lags = bands[0].features, bands[0].lags
        width = features.shape[1] * (len(lags.earlier) if lags else 1)
        if len(bands) > 1 or 2 * width >= len(rows):
            return decompose_kernel(kernel)
        index = torch.from_numpy(rows).to(features.device)
        return decompose_features((lags.of_features(features) if lags else features)[index])


class ConfirmData(WorkerData):
    """Opens the same, but the report set of every recording is what is kept to confirm."""

    def folds(self, recording: Recording, seed: int) -> list[Fold]:
        """One fold, whose report predictions are those of the confirm set."""
        return [confirm_fold(super().folds(recording, seed))]


def rows_key(rows: np.ndarray) -> bytes:
    """Equal for equal stimulus indices."""
    return np.ascontiguousarray(rows, dtype=np.int64).tobytes()
