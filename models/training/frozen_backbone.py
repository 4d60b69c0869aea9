"""Gradient readouts of the maps of frozen backbones, one or many at once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from models.readouts import READOUTS
from models.readouts.protocol import Readout
from models.readouts.sampling import as_list, pooled
from models.training.data import ReadoutData
from models.training.early_stopping import Judge
from models.training.settings import FitSettings
from models.training.stacked.fit_many import Outcome, Wanted, fit_twins
from models.twin import Twin

KEY = "area"
"""Of the one readout of such a twin."""

Statistics = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FrozenFit:
    """A readout that is wanted: of `responses` (stimuli, units) from maps (stimuli, channels, h, w), one or several.

    `name` and `parameters` are those of `models.readouts.READOUTS`; `train` and `select` are stimulus numbers, NaN
    marks a response that was not observed, `coordinates` (units, d) are the units' places in the brain. With `refit`
    it is fitted a second time, on train and select rows. A `judge` may end the fit half-way.
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
    judge: Judge | None = None


class Fitted(NamedTuple):
    """The readouts of a `FrozenFit` without and with the second fit (the same one without it); see `FitHistory`."""

    select: Readout
    report: Readout
    pruned: bool


def fit_frozen(
    name: str,
    maps: Sequence[Tensor],
    responses: Tensor,
    train: Tensor,
    select: Tensor,
    parameters: Mapping[str, Any],
    seed: int,
    coordinates: Tensor | None = None,
    refit: bool = False,
) -> Readout:
    """The readout that a `FrozenFit` of these fields asks for, with `refit` the second one; raises its error."""
    wanted = FrozenFit(name, as_list(maps), responses, train, select, parameters, seed, coordinates, refit)
    (((_, found),),) = fit_frozen_many([wanted])
    if isinstance(found, Exception):
        raise found
    return found.report


def fit_frozen_many(wanted: Sequence[FrozenFit], path: str = "auto") -> Iterator[list[tuple[int, Fitted | Exception]]]:
    """(number, readouts) of those that are done together, as they are.

    Maps are averaged to at most `pool` a side and z-scored over train stimuli, per channel and positions, or per
    entry for the mlp; the readouts, in evaluation mode, take maps as they were given, averaged or not. Those that
    read maps of one shape are fitted as stacks, `path` as in `models.training.stacked.fit_many.fit_twins`; an error is the outcome
    of one readout alone.
    """
    data = _Data()
    twins, statistics = [], []
    for each in wanted:
        first, second = _made(each), _made(each) if each.refit else None
        recording, found = data.of(each, first)
        statistics.append(found)
        kept = None if second is None else Twin(None, {KEY: second})
        settings = FitSettings.of(each.seed, each.parameters)
        twins.append(Wanted(Twin(None, {KEY: first}), {"maps": recording}, settings, each.name, kept, each.judge))
    for outcomes in fit_twins(twins, path):
        yield [(turn, _reading(twins[turn], statistics[turn], outcome)) for turn, outcome in outcomes]


def _reading(fitted: Wanted, statistics: Statistics, outcome: Outcome) -> Fitted | Exception:
    """The readouts of a fit, which read the maps themselves from now on."""
    if isinstance(outcome, Exception):
        return outcome
    readouts = [held.readout(KEY) for held in (fitted.kept, fitted.twin) if held is not None]
    for readout in readouts:
        readout.absorb(statistics)
    return Fitted(readouts[0], readouts[-1], outcome.pruned)


def _made(wanted: FrozenFit) -> Readout:
    """A readout as it is drawn, where the maps are."""
    shapes = [tuple(each.shape[1:]) for each in wanted.maps]
    make, units = READOUTS[wanted.name].load(), wanted.responses.shape[1]
    readout: Readout = make(shapes, units, wanted.parameters, wanted.seed, 0, wanted.coordinates)
    return readout.to(wanted.maps[0].device)


class _Data:
    """What readouts are fitted to; the same objects for those that read the same, so that a stack shares them."""

    def __init__(self) -> None:
        self.small: dict[Hashable, list[Tensor]] = {}
        self.maps: dict[Hashable, tuple[list[Tensor], Statistics]] = {}
        self.rows: dict[bytes, Tensor] = {}

    def of(self, wanted: FrozenFit, readout: Readout) -> tuple[ReadoutData, Statistics]:
        """The data of a readout, its maps z-scored, and what they were z-scored with."""
        train, select = self._same(wanted.train), self._same(wanted.select)
        source = *(id(each) for each in wanted.maps), wanted.parameters["pool"]
        key = *source, id(train), type(readout)
        if key not in self.maps:
            if source not in self.small:
                self.small[source] = pooled(wanted.maps, wanted.parameters["pool"])
            small = self.small[source]
            statistics = readout.statistics([each[train.to(each.device)] for each in small])
            normal = [(each - centre) / spread for each, (centre, spread) in zip(small, statistics, strict=True)]
            self.maps[key] = normal, statistics
        normal, statistics = self.maps[key]
        return ReadoutData(normal, {KEY: wanted.responses}, train, select), statistics

    def _same(self, rows: Tensor) -> Tensor:
        return self.rows.setdefault(rows.cpu().numpy().tobytes(), rows)
