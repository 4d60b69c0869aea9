"""From cells to rows: fit, score on both splits, and say what it took."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sweeps.experiment.cells import Cell, components_of
from sweeps.experiment.depths import depth_text
from sweeps.features.block_features import BlockFeatures
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.cell_fit import CellFit, FitCache
from sweeps.fitting.fit_cells import fits_of
from sweeps.fitting.predictors import Predictor, frozen_network, has_predictor, is_linear, predictors_of
from sweeps.fitting.successive_halving import Decide, SuccessiveHalving
from sweeps.hashing import canonical
from sweeps.io.lru_cache import LRUCache
from sweeps.scores import SCORES, cell_columns, in_order
from sweeps.scores.interval import replicates
from sweeps.scores.view import CellView
from sweeps.storage.columns import cell_configuration
from sweeps.storage.provenance import describe_error, joined_errors, provenance

Rows = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Rows of the tables `cells` and `bootstraps`."""

PREFIX = {"select": "select", "report": "score"}


@dataclass(frozen=True)
class Asked:
    """Scores that a row will hold: those still `missing`, and what it has already (`done`: was done before)."""

    names: list[str]
    missing: list[str]
    done: bool = False
    numbers: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None

    @classmethod
    def of(cls, wanted: Sequence[str], earlier: Mapping[str, Any] | None) -> Asked:
        """What is asked of a cell: the sweep's scores, and those that an earlier row holds."""
        if earlier is None:
            names = in_order(wanted)
            return cls(names, names)
        names = in_order([*wanted, *earlier["names"]])
        if earlier["again"]:
            return cls(names, names, seconds=earlier["seconds"] or 0.0)
        missing = [name for name in names if name not in earlier["names"]]
        numbers, facts, error = earlier["numbers"], earlier["facts"], earlier["error"]
        return cls(names, missing, True, numbers, facts, earlier["seconds"] or 0.0, error)


@dataclass(frozen=True)
class Scored:
    """Scores of a cell on both splits, the errors of scores that raised, and replicates where `interval` is new."""

    scores: dict[str, float]
    replicates: np.ndarray | None
    error: str | None


class Bench:
    """Turns jobs into rows in one worker process.

    `decide` is what successive halving asks (see `sweeps.fitting.successive_halving`); it is this process's own without
    it.
    """

    def __init__(self, workshop: WorkerData, decide: Decide | None = None) -> None:
        self.workshop = workshop
        self.halving = SuccessiveHalving.of(workshop.context.halving, decide)
        self.fits = FitCache(Path(workshop.context.cache), workshop.context.fits_gb * 1e9)
        self._predictors = LRUCache(1)

    def rows(
        self,
        jobs: Sequence[Sequence[Cell]],
        attempt: int,
        earlier: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> Iterator[Rows]:
        """Rows of the tables `cells` and `bootstraps` for jobs (cells that belong together), as they are done.

        `earlier` is what rows that lack a score already have (see Known.earlier): only what is missing is computed. A
        cell that raises becomes a `failed` row with its error, or, where it was done before, a `done` row that lacks
        the new scores; a score that raises is NaN with its error in a `done` row. Nothing is raised from here.
        """
        start = time.perf_counter()
        again = [job for job in jobs if any(cell.cell_id in earlier for cell in job)]  # done before: never ended now
        fresh = [job for job in jobs if not any(cell.cell_id in earlier for cell in job)]
        for chosen, halving in ((again, None), (fresh, self.halving)):
            for done in fits_of(self.workshop, chosen, self.fits, halving):
                shared = (time.perf_counter() - start) / sum(len(chosen[number]) for number, _ in done)
                for number, fits in done:
                    yield self._rows(chosen[number], fits, attempt, earlier, shared)
                start = time.perf_counter()

    def _rows(
        self,
        cells: Sequence[Cell],
        fits: list[CellFit] | Exception,
        attempt: int,
        earlier: Mapping[str, Mapping[str, Any]],
        shared: float,
    ) -> Rows:
        """Rows of a job whose fits took `shared` seconds a cell."""
        start = time.perf_counter()
        asked = [Asked.of(self.workshop.context.scores, earlier.get(cell.cell_id)) for cell in cells]
        try:
            if isinstance(fits, Exception):
                raise fits
            parts = zip(cells, fits, asked, strict=True)
            scored = [self._scored(cells, cell, fit, each.missing) for cell, fit, each in parts]
        except Exception as error:
            seconds = shared + (time.perf_counter() - start) / len(cells)
            text = describe_error(error)
            parts_failed = zip(cells, asked, strict=True)
            return [self._failed(cell, attempt, seconds, each, text) for cell, each in parts_failed], []
        seconds = shared + (time.perf_counter() - start) / len(cells)
        rows = [
            self._row(cell, attempt, seconds, each, found.error, "pruned" if fit.pruned else "done")
            | found.scores
            | fit.facts
            | self._sizes(cell)
            for cell, fit, each, found in zip(cells, fits, asked, scored, strict=True)
        ]
        draws = [
            {"cell_id": row["cell_id"], "replicates": each.replicates, "attempt": attempt, "finished": row["finished"]}
            for row, each in zip(rows, scored, strict=True)
            if each.replicates is not None
        ]
        return rows, draws

    def score(self, cell: Cell, fit: CellFit, names: Sequence[str]) -> dict[str, float]:
        """Score columns of a fit in the place of a cell's own; the first score that raises is an error."""
        found = self._scored([cell], cell, fit, names)
        if found.error:
            raise RuntimeError(found.error)
        return found.scores

    def _failed(self, cell: Cell, attempt: int, seconds: float, asked: Asked, error: str) -> dict[str, Any]:
        if not asked.done:
            return self._row(cell, attempt, seconds, asked, error, "failed")
        blank = dict.fromkeys(cell_columns(asked.missing), math.nan)
        return self._row(cell, attempt, seconds, asked, error, "done") | blank | self._sizes(cell)

    def _scored(self, together: Sequence[Cell], cell: Cell, fit: CellFit, names: Sequence[str]) -> Scored:
        """Scores of a cell that is fitted `together` with others."""
        scores: dict[str, float] = {}
        errors: dict[str, str] = {}
        for split, prefix in PREFIX.items():
            view = self._view(together, cell, fit, split)
            for name in names:
                try:
                    found = SCORES[name].load()(view) if len(view.rows) else SCORES[name].unavailable()
                except Exception as error:
                    errors[name] = describe_error(error)
                    found = SCORES[name].unavailable()
                scores |= {f"{prefix}.{column}": float(value) for column, value in found.items()}
        text = "; ".join(f"{name}: {error}" for name, error in errors.items()) or None
        drawn = replicates(self._view(together, cell, fit, "report")) if "interval" in names else None
        return Scored(scores, drawn, text)

    def _view(self, together: Sequence[Cell], cell: Cell, fit: CellFit, split: str) -> CellView:
        recording = self.workshop.recording(cell.recording)
        held_out = fit.held_out[split]
        units = recording.units(cell.area)
        sees = self._sees(cell)
        recorded = np.isfinite(recording.fit.average[:, units]).any(axis=1)
        rows = np.flatnonzero(np.isfinite(held_out).any(axis=1) & recorded)
        held = {kind: self.workshop.probe(kind) for kind in self.workshop.context.probes}
        probes = {kind: probe for kind, probe in held.items() if probe is not None}
        return CellView(
            split=split,
            split_seed=self.workshop.split.seed,
            recording=recording,
            units=units,
            rows=rows,
            predicted=held_out[rows],
            baseline=fit.baseline[split][rows],
            shown=fit.shown[split],
            tables={kind: probe.table for kind, probe in probes.items()},
            embed=self.workshop.embed,
            cell_id=cell.cell_id,
            seed=cell.random_seed(),
            common_units=min(len(recording.units(area)) for area in recording.area_names()),
            remember=self.workshop.of_recordings.get,
            transferred=fit.transferred.get(split),
            linear=is_linear(cell.readout),
            predictor=(lambda: self._predictor(together, cell))
            if self._sees(cell) and has_predictor(cell.readout)
            else None,
            maps=None if cell.twin else (lambda: self._maps(cell, rows)),
            extras={name: each[rows] for name, each in fit.extras[split].items()},
            network=(lambda: frozen_network(self.workshop, cell)) if sees and not cell.twin else None,
            backbone_key=cell.network_key(),
            keep=self.workshop.results.get,
            probes=probes,
        )

    def _sees(self, cell: Cell) -> bool:
        """Whether a cell's twin can be shown pictures."""
        recording = self.workshop.recording(cell.recording)
        return recording.geometry is not None and cell.backbone_component.sees in ("images", "clips")

    def _predictor(self, together: Sequence[Cell], cell: Cell) -> Predictor:
        key = tuple(each.cell_id for each in together)
        found: list[Predictor] = self._predictors.get(key, lambda: predictors_of(self.workshop, together))
        return found[list(together).index(cell)]

    def _maps(self, cell: Cell, rows: np.ndarray) -> np.ndarray:
        recording, pool = self.workshop.recording(cell.recording), cell.readout.get("pool", 1)
        block = BlockFeatures(recording, cell.backbone, cell.seed, cell.depth, pool)
        return self.workshop.maps(block, "fit")[rows]

    def _row(
        self, cell: Cell, attempt: int, seconds: float, asked: Asked, error: str | None, status: str
    ) -> dict[str, Any]:
        context = self.workshop.context
        return {
            "cell_id": cell.cell_id,
            "status": status,
            "error": joined_errors(asked.error, error),
            "recording": cell.recording,
            "area": cell.area,
            "depth": cell.depth,
            "blocks": depth_text(cell.blocks),
            **cell_configuration(cell.configuration()),
            "score_keys": " ".join(sorted(context.score_keys[name] for name in asked.names)),
            "seconds": seconds + asked.seconds,
            "attempt": attempt,
            "data_fingerprint": context.fingerprints[cell.recording],
            "split": canonical(context.split),
            "halving": canonical(context.halving) if status == "pruned" else None,
            "components": components_of(cell.backbone, cell.readout),
            **provenance(context.commit, str(self.workshop.device)),
            **asked.facts,
            **asked.numbers,
        }

    def _sizes(self, cell: Cell) -> dict[str, Any]:
        recording = self.workshop.recording(cell.recording)
        key = ("groups", recording.fingerprint)
        groups = self.workshop.of_recordings.get(key, lambda: len(np.unique(recording.groups)))
        folds = len(self.workshop.folds(recording, cell.seed))
        return {
            "units": len(recording.units(cell.area)),
            "stimuli": len(recording.groups),
            "groups": groups,
            "outer_folds": folds if folds > 1 else 0,
        }
