"""What one worker process keeps between packs: recordings, probes, features, kernels, decompositions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from models.backbones import BACKBONES
from models.ridge import Decomposition, decompose_features, decompose_kernel
from sweeps.context import Context
from sweeps.errors import InputError, Refusal
from sweeps.experiment import Split
from sweeps.features import FeatureCache
from sweeps.fits import FitCache
from sweeps.identity import content_id, digest_bytes
from sweeps.probes import Probe, open_probe
from sweeps.recordings import open_recording
from sweeps.recordings.images import Geometry
from sweeps.recordings.recording import Recording
from sweeps.splits import Fold, split_groups


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

    Pictures are uint8 (rows, height, width, 3); texts are a list.
    """

    key: str
    count: int
    load: Callable[[slice], Any]


@dataclass(frozen=True)
class Kernels:
    """Kernels of one block between the `fit` stimuli and everything that is shown to the twin.

    Features are centred on their mean over the `fit` stimuli. `fit` (stimuli, stimuli); `shown` maps a name
    such as "probe.objects" to (rows, stimuli); `features` (stimuli, features) float32.
    """

    fit: Tensor
    shown: Mapping[str, Tensor]
    features: Tensor
    key: str
    centre: Tensor = field(repr=False)


class Workshop:
    """Opens what packs need, once per process; every method is a pure function of its arguments."""

    def __init__(self, context: Context) -> None:
        self.context = replace(context, cache=str(Path(context.cache).expanduser()))
        self.split = Split(**context.split)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.cache = FeatureCache(Path(self.context.cache), context.cache_gb * 1e9, self.device)
        self.fits = FitCache(Path(self.context.cache), context.fits_gb * 1e9)
        self._recordings = Recent(64)
        self._probes = Recent(4)
        self._kernels = Recent(2)
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
        return split_groups(recording.groups, self.split.report, self.split.select, self.split.seed, seed)

    def embed(self, captions: tuple[str, ...]) -> np.ndarray:
        """Sentence embeddings (captions, 384), kept."""
        from models.sentences import embed

        return self._embeddings.get(captions, lambda: embed(captions))

    def shown(self, recording: Recording, sees: str = "images") -> dict[str, Shown]:
        """What a twin is shown, by name: "fit", "recorded.ROLE", "probe.KIND"; texts for one that `sees` texts."""
        return self._texts(recording) if sees == "texts" else self._pictures_of(recording)

    def _pictures_of(self, recording: Recording) -> dict[str, Shown]:
        stimuli: dict[str, Shown] = {}
        for role, held in recording.sets.items():
            if held.images is not None:
                stimuli[_shown_name(role)] = Shown(held.key, len(held.table), held.images)
        geometry = recording.geometry
        for kind in self.context.probes if stimuli else ():
            probe = self.probe(kind)
            if probe is not None and geometry is not None:
                shown = replace(geometry, crop=1.0)  # probes are shown whole
                key = digest_bytes([probe.fingerprint.encode(), shown.key().encode()])
                stimuli[f"probe.{kind}"] = Shown(key, len(probe), self._probe_pictures(probe, shown))
        return stimuli

    def _texts(self, recording: Recording) -> dict[str, Shown]:
        """Captions of the recording's stimuli and of the captioned probe."""
        tables = {_shown_name(role): held.table for role, held in recording.sets.items()}
        probe = self.probe("captions")
        if probe is not None:
            tables["probe.captions"] = probe.table
        return {name: _captions(table) for name, table in tables.items() if "caption" in table}

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
            return recording.features[backbone["set"]][:, :, None, None]
        component = BACKBONES[backbone["name"]]
        held = self.shown(recording, component.sees)[name]
        blocks = range(component.block_count(backbone))
        depths = [each for each in self.context.depths.get(backbone["name"], [depth]) if each in blocks]
        depths = depths if depth in depths else [depth]
        return self.cache.maps(backbone, seed, held.key, held.count, held.load, depths, depth, pool)

    def kernels(self, recording: Recording, backbone: Mapping[str, Any], seed: int, depth: int, pool: int) -> Kernels:
        """Kernels of one block, kept for the cells that share it."""
        used = BACKBONES[backbone["name"]].seed_in_use(backbone, seed)
        key = repr((recording.fingerprint, sorted(backbone.items()), used, depth, pool))
        return self._kernels.get(key, lambda: self._make_kernels(recording, backbone, seed, depth, pool, key))

    def _make_kernels(
        self, recording: Recording, backbone: Mapping[str, Any], seed: int, depth: int, pool: int, key: str
    ) -> Kernels:
        fit = self._flat(recording, "fit", backbone, seed, depth, pool)
        centre = fit.mean(dim=0)
        fit -= centre
        pictures = backbone["name"] != "features"
        names = [name for name in self.shown(recording) if name != "fit"] if pictures else []
        shown = {
            name: ((self._flat(recording, name, backbone, seed, depth, pool) - centre) @ fit.T).double()
            for name in names
        }
        return Kernels((fit @ fit.T).double(), shown, fit, key, centre)

    def _flat(
        self, recording: Recording, name: str, backbone: Mapping[str, Any], seed: int, depth: int, pool: int
    ) -> Tensor:
        maps = self.maps(recording, name, backbone, seed, depth, pool)
        flat = torch.from_numpy(np.ascontiguousarray(maps.reshape(len(maps), -1)))
        if backbone["name"] != "features":
            flat = flat.float()
        return flat.to(self.device)

    def decomposition(self, kernels: Kernels, rows: np.ndarray) -> Decomposition:
        """The decomposition of the kernel among some stimuli, shared by units, alphas, seeds and areas."""
        return self._decompositions.get((kernels.key, rows_key(rows)), lambda: self._decompose(kernels, rows))

    @staticmethod
    def _decompose(kernels: Kernels, rows: np.ndarray) -> Decomposition:
        index = torch.from_numpy(rows).to(kernels.fit.device)
        if 2 * kernels.features.shape[1] < len(rows):
            return decompose_features(kernels.features[index])
        return decompose_kernel(kernels.fit[index][:, index])


def rows_key(rows: np.ndarray) -> bytes:
    """Equal for equal stimulus indices."""
    return np.ascontiguousarray(rows, dtype=np.int64).tobytes()


def _shown_name(role: str) -> str:
    return "fit" if role == "fit" else f"recorded.{role}"


def _captions(table: pd.DataFrame) -> Shown:
    texts = table["caption"].tolist()
    return Shown(content_id(["captions", texts]), len(texts), lambda rows: texts[rows])
