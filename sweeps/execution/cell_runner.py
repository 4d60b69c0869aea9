"""From cells to rows: fit, score on both splits, and note what it took."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sweeps.experiment.cells import Cell
from sweeps.experiment.earlier_scores import NOTHING_EARLIER, EarlierScores
from sweeps.features.block_features import BlockFeatures
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.cell_fit import CellFit, FitCache
from sweeps.fitting.fit_cells import fits_of
from sweeps.fitting.predictors import Predictor, frozen_network, has_predictor, is_linear, predictors_of
from sweeps.fitting.successive_halving import Decide, SuccessiveHalving
from sweeps.hashing import canonical
from sweeps.io.filesystem import join
from sweeps.io.lru_cache import LRUCache
from sweeps.scores import SCORES, cell_columns
from sweeps.scores.fold_statistics import FoldStatistics, fold_statistics
from sweeps.scores.interval import draws
from sweeps.scores.view import CellView
from sweeps.storage.columns import Outcome, bootstrap_row, cell_row, fold_row
from sweeps.storage.provenance import describe_error, joined_errors, joined_plugins, provenance
from sweeps.storage.retry import EnvironmentProblem, is_environment, is_missing

Rows = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Rows of the tables `cells` and `bootstraps`."""

PREFIX = {"select": "select", "report": "score"}
"""Splits and how their columns begin; the report comes last."""


@dataclass(frozen=True)
class CellScores:
    """Scores of a cell on both splits, and the errors of scores that raised.

    Beside them `draws` where `interval` is new, and `folds` where `prediction` is, of a recording of outer folds.
    """

    scores: dict[str, float]
    draws: dict[str, np.ndarray] | None
    error: str | None
    folds: FoldStatistics | None = None


@dataclass(frozen=True)
class Attempt:
    """One attempt at a cell: how often it was tried before, the seconds it took, and what earlier rows hold of it."""

    number: int
    seconds: float
    earlier: EarlierScores


class CellRunner:
    """Turns jobs into rows in one worker process.

    `decide` is what successive halving asks (see `sweeps.fitting.successive_halving`); it is this process's own without
    it.
    """

    def __init__(self, worker: WorkerData, decide: Decide | None = None) -> None:
        self.worker = worker
        self.halving = SuccessiveHalving.of(worker.context.halving, decide)
        self.fits = FitCache(Path(worker.context.cache), worker.context.fits_gb * 1e9, " ".join(worker.context.plugins))
        self._predictors = LRUCache(1)
        self._fold_rows: list[dict[str, Any]] = []

    def rows(
        self,
        jobs: Sequence[Sequence[Cell]],
        attempt: int,
        earlier: Mapping[str, EarlierScores] = MappingProxyType({}),
    ) -> Iterator[Rows]:
        """Give rows of the tables `cells` and `bootstraps` for jobs (cells that belong together), as they are done.

        `earlier` is, by cell_id, what rows that lack a score already have: only what is missing is computed. A cell
        that raises becomes a `failed` row with its error, or, where it was done before, a `done` row that lacks the new
        scores; a score that raises is NaN with its error in a `done` row. EnvironmentProblem is raised where a disk, a
        store, data that were there before or Ray kept a job from its rows; those after it are not tried.
        """
        start = time.perf_counter()
        again = [job for job in jobs if any(cell.cell_id in earlier for cell in job)]  # done before: never ended now
        fresh = [job for job in jobs if not any(cell.cell_id in earlier for cell in job)]
        for chosen, halving in ((again, None), (fresh, self.halving)):
            for done in fits_of(self.worker, chosen, self.fits, halving):
                shared = (time.perf_counter() - start) / sum(len(chosen[number]) for number, _ in done)
                for number, fits in done:
                    cells = chosen[number]
                    attempts = [Attempt(attempt, shared, earlier.get(cell.cell_id, NOTHING_EARLIER)) for cell in cells]
                    yield self._rows(cells, fits, attempts)
                start = time.perf_counter()

    def _rows(self, cells: Sequence[Cell], fits: list[CellFit] | Exception, attempts: Sequence[Attempt]) -> Rows:
        """Make the rows of a job; `attempts` hold the seconds that its fits took a cell."""
        start = time.perf_counter()
        try:
            scores = self._scores_of(cells, fits, attempts)
        except Exception as error:
            if self._is_environment(error):
                raise EnvironmentProblem(describe_error(error)) from error
            attempts = self._timed(attempts, start)
            text = describe_error(error)
            failed = zip(cells, attempts, strict=True)
            return [self._failed(cell, attempt, text) for cell, attempt in failed], []
        assert not isinstance(fits, Exception)
        attempts = self._timed(attempts, start)
        parts = zip(cells, fits, attempts, scores, strict=True)
        rows = [self._done(cell, fit, attempt, result) for cell, fit, attempt, result in parts]
        pairs = list(zip(rows, scores, strict=True))
        by_fold = ((row, result.folds) for row, result in pairs if result.folds is not None)
        self._fold_rows += [fold_row(row, folds.select, folds.sums) for row, folds in by_fold]
        return rows, [bootstrap_row(row, **result.draws) for row, result in pairs if result.draws is not None]

    def _is_environment(self, error: Exception) -> bool:
        """Whether neither the cell nor its data are to blame; data that the driver has read may be away by now."""
        paths = (join(self.worker.context.base, str(raw.get("path", ""))) for raw in self.worker.context.recordings)
        return is_environment(error) or is_missing(error, [path.partition("://")[2] or path for path in paths if path])

    def take_folds(self) -> list[dict[str, Any]]:
        """Give rows of the table `folds` beside the rows that were given so far, each once."""
        rows, self._fold_rows = self._fold_rows, []
        return rows

    def _scores_of(
        self, cells: Sequence[Cell], fits: list[CellFit] | Exception, attempts: Sequence[Attempt]
    ) -> list[CellScores]:
        if isinstance(fits, Exception):
            raise fits
        wanted = self.worker.context.scores
        parts = zip(cells, fits, attempts, strict=True)
        return [self._scored(cells, cell, fit, attempt.earlier.missing(wanted)) for cell, fit, attempt in parts]

    @staticmethod
    def _timed(attempts: Sequence[Attempt], start: float) -> list[Attempt]:
        """Add, to each of them, its share of the seconds since `start`."""
        share = (time.perf_counter() - start) / len(attempts)
        return [replace(attempt, seconds=attempt.seconds + share) for attempt in attempts]

    def score(self, cell: Cell, fit: CellFit, names: Sequence[str]) -> dict[str, float]:
        """Give score columns of a fit in the place of a cell's own; the first score that raises is an error."""
        result = self._scored([cell], cell, fit, names)
        if result.error:
            raise RuntimeError(result.error)
        return result.scores

    def _done(self, cell: Cell, fit: CellFit, attempt: Attempt, result: CellScores) -> dict[str, Any]:
        values = {**result.scores, **fit.facts, **self._sizes(cell)}
        return self._row(cell, attempt, "pruned" if fit.pruned else "done", result.error, values)

    def _failed(self, cell: Cell, attempt: Attempt, error: str) -> dict[str, Any]:
        if not attempt.earlier.done:
            return self._row(cell, attempt, "failed", error, {})
        blank = dict.fromkeys(cell_columns(attempt.earlier.missing(self.worker.context.scores)), math.nan)
        return self._row(cell, attempt, "done", error, {**blank, **self._sizes(cell)})

    def _row(
        self, cell: Cell, attempt: Attempt, status: str, error: str | None, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        context, earlier = self.worker.context, attempt.earlier
        outcome = Outcome(
            status,
            joined_errors(earlier.error, error),
            attempt.number,
            context.splits[cell.recording],
            [*(context.score_keys[name] for name in earlier.with_wanted(context.scores)), *earlier.foreign_keys],
            canonical(context.halving) if status == "pruned" else None,
        )
        origin = {
            "data_fingerprint": context.fingerprints[cell.recording],
            "seconds": attempt.seconds + (earlier.seconds or 0.0),
            "plugins": joined_plugins(" ".join(context.plugins), earlier.plugins),
            **provenance(context.commit, str(self.worker.device)),
        }
        return cell_row(cell, outcome, origin, {**earlier.facts, **earlier.numbers, **values})

    def _scored(self, together: Sequence[Cell], cell: Cell, fit: CellFit, names: Sequence[str]) -> CellScores:
        """Scores of a cell that is fitted `together` with others."""
        scores: dict[str, float] = {}
        errors: dict[str, str] = {}
        views = {split: self._view(together, cell, fit, split) for split in PREFIX}
        for split, view in views.items():
            for name in names:
                try:
                    columns = SCORES[name].computed(view) if len(view.rows) else SCORES[name].unavailable()
                except Exception as error:
                    if self._is_environment(error):
                        raise
                    errors[name] = describe_error(error)
                    columns = SCORES[name].unavailable()
                scores |= {f"{PREFIX[split]}.{column}": float(value) for column, value in columns.items()}
        text = "; ".join(f"{name}: {error}" for name, error in errors.items()) or None
        wanted = "interval" in names and "interval" not in errors and len(views["report"].rows)
        folds = self.worker.folds(self.worker.recording(cell.recording), cell.seed)
        folded = "prediction" in names and len(folds) > 1
        by_fold = fold_statistics(views["select"], views["report"], folds) if folded else None
        return CellScores(scores, draws(views["report"]) if wanted else None, text, by_fold)

    def _view(self, together: Sequence[Cell], cell: Cell, fit: CellFit, split: str) -> CellView:
        recording = self.worker.recording(cell.recording)
        held_out = fit.held_out[split]
        units = recording.units(cell.area)
        sees = self._sees(cell)
        recorded = np.isfinite(recording.fit.average[:, units]).any(axis=1)
        rows = np.flatnonzero(np.isfinite(held_out).any(axis=1) & recorded)
        opened = {kind: self.worker.probe(kind) for kind in self.worker.context.probes}
        probes = {kind: probe for kind, probe in opened.items() if probe is not None}
        return CellView(
            split=split,
            split_seed=self.worker.split.seed,
            recording=recording,
            units=units,
            rows=rows,
            predicted=held_out[rows],
            baseline=fit.baseline[split][rows],
            shown=fit.shown[split],
            tables={kind: probe.table for kind, probe in probes.items()},
            embed=self.worker.embed,
            cell_id=cell.cell_id,
            seed=cell.random_seed(),
            common_units=min(len(recording.units(area)) for area in recording.area_names()),
            remember=self.worker.of_recordings.get,
            transferred=fit.transferred.get(split),
            linear=is_linear(cell.readout),
            predictor=(lambda: self._predictor(together, cell))
            if self._sees(cell) and has_predictor(cell.readout)
            else None,
            maps=None if cell.twin else (lambda: self._maps(cell, rows)),
            narrowest=None if cell.twin else (lambda: self.worker.narrowest_maps(self._block(cell))),
            extras={name: values[rows] for name, values in fit.extras[split].items()},
            network=(lambda: frozen_network(self.worker, cell)) if sees and not cell.twin else None,
            backbone_key=cell.network_key(),
            keep=self.worker.results.get,
            probes=probes,
        )

    def _sees(self, cell: Cell) -> bool:
        """Whether a cell's twin can be shown pictures."""
        recording = self.worker.recording(cell.recording)
        return recording.geometry is not None and cell.backbone_component.sees in ("images", "clips")

    def _predictor(self, together: Sequence[Cell], cell: Cell) -> Predictor:
        key = tuple(member.cell_id for member in together)
        predictors: list[Predictor] = self._predictors.get(key, lambda: predictors_of(self.worker, together))
        return predictors[list(together).index(cell)]

    def _maps(self, cell: Cell, rows: np.ndarray) -> np.ndarray:
        return self.worker.maps(self._block(cell), "fit")[rows]

    def _block(self, cell: Cell) -> BlockFeatures:
        recording, pool = self.worker.recording(cell.recording), cell.readout.get("pool", 1)
        return BlockFeatures(recording, cell.backbone, cell.seed, cell.depth, pool)

    def _sizes(self, cell: Cell) -> dict[str, Any]:
        recording = self.worker.recording(cell.recording)
        key = ("groups", recording.fingerprint)
        groups = self.worker.of_recordings.get(key, lambda: len(np.unique(recording.groups)))
        folds = len(self.worker.folds(recording, cell.seed))
        return {
            "units": len(recording.units(cell.area)),
            "stimuli": len(recording.groups),
            "groups": groups,
            "outer_folds": folds if folds > 1 else 0,
        }
