"""What one worker process keeps between packs: recordings, probes, features, kernels, decompositions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from models.backbones import BACKBONES
from models.inputs.geometry import Geometry
from models.linear.ridge import Decomposition, decompose_features, decompose_kernel
from sweeps.errors import InputError, Refusal
from sweeps.experiment.schema import Split
from sweeps.experiment.worker_context import WorkerContext
from sweeps.features.feature_cache import FeatureCache
from sweeps.features.kernels import Columns, Kernels, centred_kernels, columns_of, feature_sets, lags_of
from sweeps.features.story_features import text_maps
from sweeps.fitting.cell_fit import FitCache
from sweeps.fitting.successive_halving import Ask, Halving
from sweeps.hashing import content_id, digest_bytes
from sweeps.io.disk_cache import Kept
from sweeps.probes import SHOWN, Probe, open_probe
from sweeps.recordings import open_recording
from sweeps.recordings.recording import Recording
from sweeps.recordings.splits import Fold, split_groups


class Recent:
    """The results of the last few distinct calls."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The held value of `key`, made if it is not there; the least recently used one is dropped."""
        if key not in self.held:
            value = make()
            while len(self.held) >= self.size:
                self.held.popitem(last=False)
            self.held[key] = value
        self.held.move_to_end(key)
        return self.held[key]


@dataclass(frozen=True)
class Shown:
    """Stimuli that a twin is shown: identity of their content, their number, and how to load a slice of them.

    Pictures are uint8 (rows, height, width, 3); texts are a list. `role` is set where the rows hang together, as the
    samples of a story do: they are then read whole.
    """

    key: str
    count: int
    load: Callable[[slice], Any]
    role: str | None = None


class Workshop:
    """Opens what packs need, once per process; every method is a pure function of its arguments.

    `ask` is whom successive halving asks (see `sweeps.fitting.successive_halving`); it is this process's own without it.
    """

    def __init__(self, context: WorkerContext, ask: Ask | None = None) -> None:
        self.context = replace(context, cache=str(Path(context.cache).expanduser()))
        self.split = Split(**context.split)
        self.halving = Halving.of(context.halving, ask)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.cache = FeatureCache(Path(self.context.cache), context.cache_gb * 1e9, self.device)
        self.fits = FitCache(Path(self.context.cache), context.fits_gb * 1e9)
        self.kept = Kept(Path(self.context.cache))
        self._recordings = Recent(64)
        self._probes = Recent(4)
        self._folds = Recent(64)
        self._kernels = Recent(2)
        self.bands = Recent(2)
        self.standardised = Recent(4)
        self._decompositions = Recent(8)
        self.readouts = Recent(32)
        self.networks = Recent(2)
        self.brain = Recent(256)
        self._embeddings = Recent(4)
        self._pictures = Recent(2)

    def recording(self, name: str) -> Recording:
        """A recording by name; InputError when this node sees other contents than the driver."""
        return self._recordings.get(name, lambda: self._open(name))

    def _open(self, name: str) -> Recording:
        for raw in self.context.recordings:
            try:
                found = open_recording(raw, self.context.base, Path(self.context.cache), name)
            except InputError as error:
                if "://" in f"{self.context.base}{raw.get('path', '')}":
                    raise  # an object store may answer at the next try
                raise Refusal(str(error)) from None
            if found is not None:
                self._check(found)
                return found
        raise InputError("no such recording", key="recordings", value=name)

    def _check(self, recording: Recording) -> None:
        expected = self.context.fingerprints[recording.name]
        if recording.fingerprint != expected:
            raise Refusal(
                f"this node sees other contents ({recording.fingerprint}) than the driver ({expected}): "
                "put the data where every node sees the same, for example on s3://",
                key="recordings",
                value=recording.name,
            )

    def probe(self, kind: str) -> Probe | None:
        """A probe of the sweep, or None."""
        if kind not in self.context.probes:
            return None
        probe: Probe = self._probes.get(kind, lambda: open_probe(kind, self.context.probes[kind], self.context.base))
        return probe

    def folds(self, recording: Recording, seed: int) -> list[Fold]:
        """Train, select and report stimuli of a recording under a trial's seed."""
        split, key = self.split, (recording.fingerprint, seed)
        found: list[Fold] = self._folds.get(
            key, lambda: split_groups(recording.groups, split.report, split.select, split.seed, seed)
        )
        return found

    def embed(self, captions: tuple[str, ...]) -> np.ndarray:
        """Sentence embeddings (captions, 384), kept."""
        return self._embeddings.get(captions, lambda: self.cache.sentences(captions))

    def shown(self, recording: Recording, sees: str = "images") -> dict[str, Shown]:
        """What a twin is shown, by name: "fit", "recorded.ROLE", "probe.KIND"; texts for one that `sees` texts."""
        return self._texts(recording) if sees == "texts" else self._pictures_of(recording)

    def _pictures_of(self, recording: Recording) -> dict[str, Shown]:
        stimuli: dict[str, Shown] = {}
        for role, held in recording.sets.items():
            if held.images is not None:
                stimuli[_shown_name(role)] = Shown(held.key, len(held.table), held.images)
        geometry = recording.geometry
        for kind in SHOWN if stimuli else ():
            probe = self.probe(kind)
            if probe is not None and geometry is not None:
                shown = replace(geometry, crop=1.0)  # probes are shown whole
                key = digest_bytes([probe.fingerprint.encode(), shown.key().encode()])
                stimuli[f"probe.{kind}"] = Shown(key, len(probe), self._probe_pictures(probe, shown))
        return stimuli

    def _texts(self, recording: Recording) -> dict[str, Shown]:
        """Stories that the recording's samples follow, else captions of its stimuli, and of the captioned probe."""
        found = {}
        for role, held in recording.sets.items():
            if recording.words is not None and {"run", "time"} <= set(held.table):
                key = content_id([recording.fingerprint, "words", role])
                found[_shown_name(role)] = Shown(key, len(held.table), lambda rows: [], role)
            elif "caption" in held.table:
                found[_shown_name(role)] = _captions(held.table)
        probe = self.probe("captions")
        return found if probe is None else {**found, "probe.captions": _captions(probe.table)}

    def shown_keys(self, recording: Recording, sees: str = "images") -> dict[str, str]:
        """Keys of what a twin is shown beside the stimuli of the fit, by name."""
        return {name: held.key for name, held in self.shown(recording, sees).items() if name != "fit"}

    def _probe_pictures(self, probe: Probe, geometry: Geometry) -> Callable[[slice], np.ndarray]:
        key = (probe.fingerprint, geometry.key())
        return lambda rows: self._pictures.get(key, lambda: probe.images(geometry))[rows]

    def maps(
        self, recording: Recording, name: str, backbone: Mapping[str, Any], seed: int, depth: int, pool: int
    ) -> np.ndarray:
        """Feature maps (stimuli, channels, h, w) of one block for what is shown under `name`."""
        if backbone["name"] == "features":
            sets = feature_sets(recording, backbone["set"])
            return np.concatenate([recording.features[each] for each in sets], axis=1)[:, :, None, None]
        component = BACKBONES[backbone["name"]]
        held = self.shown(recording, component.sees)[name]
        blocks = range(component.block_count(backbone))
        depths = [each for each in self.context.depths.get(backbone["name"], [depth]) if each in blocks]
        depths = depths if depth in depths else [depth]
        whole = None
        if held.role is not None:
            role = held.role
            whole = lambda network, blocks: text_maps(recording, network, blocks, backbone, role)  # noqa: E731
        return self.cache.maps(backbone, seed, held.key, held.count, held.load, depths, depth, pool, whole)

    def kernels(
        self, recording: Recording, backbone: Mapping[str, Any], seed: int, depth: int, pool: int, delays: int = 0
    ) -> Kernels:
        """Kernels of one block, kept for the cells that share it."""
        key = self._block_key(recording, backbone, seed, depth, pool, delays)
        lags = lags_of(recording, delays, self.device)
        load = partial(self._flat, recording, backbone, seed, depth, pool)
        return self._kernels.get(key, lambda: centred_kernels(load, self._beside(recording, backbone), key, lags))

    def columns(
        self,
        recording: Recording,
        backbone: Mapping[str, Any],
        seed: int,
        depth: int,
        pool: int,
        delays: int,
        size: int,
        projection_seed: int,
    ) -> Columns:
        """Features of one block that are z-scored later, projected to `size` columns unless that is 0; not kept."""
        key = f"{self._block_key(recording, backbone, seed, depth, pool, delays)} {size} {projection_seed}"
        lags = lags_of(recording, delays, self.device)
        load = partial(self._flat, recording, backbone, seed, depth, pool)
        return columns_of(load, self._beside(recording, backbone), key, lags, size, projection_seed)

    @staticmethod
    def _block_key(
        recording: Recording, backbone: Mapping[str, Any], seed: int, depth: int, pool: int, delays: int
    ) -> str:
        used = BACKBONES[backbone["name"]].seed_in_use(backbone, seed)
        return repr((recording.fingerprint, sorted(backbone.items()), used, depth, pool, delays))

    def _beside(self, recording: Recording, backbone: Mapping[str, Any]) -> list[str]:
        """Names of what a twin is shown beside the stimuli of the fit."""
        if backbone["name"] == "features":
            return []
        return list(self.shown_keys(recording, BACKBONES[backbone["name"]].sees))

    def _flat(
        self, recording: Recording, backbone: Mapping[str, Any], seed: int, depth: int, pool: int, name: str
    ) -> Tensor:
        maps = self.maps(recording, name, backbone, seed, depth, pool)
        flat = torch.from_numpy(np.ascontiguousarray(maps.reshape(len(maps), -1)))
        if backbone["name"] != "features":
            flat = flat.float()
        return flat.to(self.device)

    def decomposition(self, bands: Sequence[Kernels], kernel: Tensor, rows: np.ndarray) -> Decomposition:
        """The decomposition of the `kernel` that bands give together among some stimuli.

        Kept: it is shared by units, alphas, seeds and areas.
        """
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


def rows_key(rows: np.ndarray) -> bytes:
    """Equal for equal stimulus indices."""
    return np.ascontiguousarray(rows, dtype=np.int64).tobytes()


def _shown_name(role: str) -> str:
    return "fit" if role == "fit" else f"recorded.{role}"


def _captions(table: pd.DataFrame) -> Shown:
    texts = table["caption"].tolist()
    return Shown(content_id(["captions", texts]), len(texts), lambda rows: texts[rows])
