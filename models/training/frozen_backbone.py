"""Gradient readouts of the maps of frozen backbones, one or many at once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from models.readouts import READOUTS
from models.readouts.protocol import Readout
from models.readouts.sampling import pooled
from models.training.data import ReadoutData
from models.training.early_stopping import Pruner
from models.training.settings import FitSettings
from models.training.stacked.fit_many import FitResult, TwinFit, fit_twins
from models.twin import Twin

KEY = "area"
"""Of the one readout of such a twin."""

Statistics = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FrozenFit:
    """A readout to be fitted: of `responses` (stimuli, units) from maps (stimuli, channels, h, w), one or several.

    `name` and `parameters` are those of `models.readouts.READOUTS`; `train` and `select` are stimulus numbers, NaN
    marks a response that was not observed, `coordinates` (units, d) are the units' places in the brain. With `refit`
    it is fitted a second time, on train and select rows. A `pruner` may end the fit half-way.
    """

    name: str
    maps: Sequence[Tensor]
    responses: Tensor
    train: Tensor
    select: Tensor
    parameters: Mapping[str, Any]
    seed: int
    coordinates: Tensor | None = None
    refit: bool = False
    pruner: Pruner | None = None


class Fitted(NamedTuple):
    """The readouts of a `FrozenFit` without and with the second fit (the same one without it); see `FitHistory`."""

    select: Readout
    report: Readout
    pruned: bool


def fit_frozen_many(fits: Sequence[FrozenFit], path: str = "auto") -> Iterator[list[tuple[int, Fitted | Exception]]]:
    """Fit many readouts; yield (number, readouts) of those that are done together, as they are.

    Maps are averaged to at most `pool` a side and z-scored over train stimuli, per channel and positions, or per
    entry for the mlp; the readouts, in evaluation mode, take maps as they were given, averaged or not. Those that
    read maps of one shape are fitted as stacks, `path` as in `fit_twins`; an error is the result of one readout alone.
    """
    data = _Data()
    twins, statistics = [], []
    for fit in fits:
        first, second = _new_readout(fit), _new_readout(fit) if fit.refit else None
        recording, used = data.of(fit, first)
        statistics.append(used)
        select_twin = None if second is None else Twin(None, {KEY: second})
        settings = FitSettings.of(fit.seed, fit.parameters)
        twin = Twin(None, {KEY: first})
        twins.append(TwinFit(twin, {"maps": recording}, settings, fit.name, select_twin, fit.pruner))
    for results in fit_twins(twins, path):
        yield [(turn, _reading(twins[turn], statistics[turn], result)) for turn, result in results]


def _reading(fit: TwinFit, statistics: Statistics, result: FitResult) -> Fitted | Exception:
    """Return the readouts of a fit, which read the maps themselves from now on."""
    if isinstance(result, Exception):
        return result
    readouts = [twin.readout(KEY) for twin in (fit.select_twin, fit.twin) if twin is not None]
    for readout in readouts:
        readout.absorb(statistics)
    return Fitted(readouts[0], readouts[-1], result.pruned)


def _new_readout(fit: FrozenFit) -> Readout:
    """Make a readout as it is drawn, where the maps are."""
    shapes = [tuple(map.shape[1:]) for map in fit.maps]
    make, units = READOUTS[fit.name].load(), fit.responses.shape[1]
    readout: Readout = make(shapes, units, fit.parameters, fit.seed, 0, fit.coordinates)
    return readout.to(fit.maps[0].device)


class _Data:
    """What readouts are fitted to; the same objects for those that read the same, so that a stack shares them."""

    def __init__(self) -> None:
        self.small: dict[Hashable, list[Tensor]] = {}
        self.maps: dict[Hashable, tuple[list[Tensor], Statistics]] = {}
        self.rows: dict[bytes, Tensor] = {}

    def of(self, fit: FrozenFit, readout: Readout) -> tuple[ReadoutData, Statistics]:
        """Prepare the data of a readout, its maps z-scored, and the statistics they were z-scored with."""
        train, select = self._same(fit.train), self._same(fit.select)
        source = *(id(map) for map in fit.maps), fit.parameters["pool"]
        key = *source, id(train), type(readout)
        if key not in self.maps:
            if source not in self.small:
                self.small[source] = pooled(fit.maps, fit.parameters["pool"])
            small = self.small[source]
            statistics = readout.statistics([feature_map[train.to(feature_map.device)] for feature_map in small])
            normal = [
                (feature_map - centre) / spread for feature_map, (centre, spread) in zip(small, statistics, strict=True)
            ]
            self.maps[key] = normal, statistics
        normal, statistics = self.maps[key]
        return ReadoutData(normal, {KEY: fit.responses}, train, select), statistics

    def _same(self, rows: Tensor) -> Tensor:
        return self.rows.setdefault(rows.cpu().numpy().tobytes(), rows)
