"""From cells to rows: fit, score on both splits, and say what it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from metrics import bootstrap_correlation, group_weights
from sweeps.cells import Cell
from sweeps.fitting import CellFit, fit_cells
from sweeps.provenance import describe_error, provenance
from sweeps.schema import cell_configuration
from sweeps.scores import SCORES, unavailable
from sweeps.scores.view import CellView
from sweeps.splits import is_folded
from sweeps.workshop import Recent, Workshop

REPLICATES = 1000
"""Bootstrap replicates of the report prediction, on resamples shared by all cells of a recording."""

PREFIX = {"select": "select", "report": "score"}


class Bench:
    """Turns jobs into rows in one worker process."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self._weights = Recent(4)

    def rows(self, cells: Sequence[Cell], attempt: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of the tables `cells` and `bootstraps` for cells that are fitted in one go.

        A cell that raises becomes a `failed` row with its error; nothing is raised from here.
        """
        start = time.perf_counter()
        try:
            fits = fit_cells(self.workshop, cells)
            scored = [self._scores(cell, fit) for cell, fit in zip(cells, fits, strict=True)]
        except Exception as error:
            seconds = (time.perf_counter() - start) / len(cells)
            return [self._row(cell, attempt, seconds, error=error) for cell in cells], []
        seconds = (time.perf_counter() - start) / len(cells)
        rows = [
            self._row(cell, attempt, seconds, {**scores, **fit.facts})
            for cell, fit, (scores, _) in zip(cells, fits, scored, strict=True)
        ]
        return rows, [
            {"cell_id": cell.cell_id, "replicates": held} for cell, (_, held) in zip(cells, scored, strict=True)
        ]

    def _scores(self, cell: Cell, fit: CellFit) -> tuple[dict[str, float], np.ndarray]:
        scores: dict[str, float] = {}
        for split in PREFIX:
            view = self._view(cell, fit, split)
            for name in self.workshop.context.scores:
                found = SCORES[name].load()(view) if len(view.rows) else unavailable(name)
                scores |= {f"{PREFIX[split]}.{column}": float(value) for column, value in found.items()}
        return scores, self._replicates(self._view(cell, fit, "report"))

    def _view(self, cell: Cell, fit: CellFit, split: str) -> CellView:
        recording = self.workshop.recording(cell.recording)
        held_out = fit.held_out[split]
        rows = np.flatnonzero(np.isfinite(held_out).any(axis=1))
        tables = {}
        for kind in self.workshop.context.probes:
            probe = self.workshop.probe(kind)
            if probe is not None:
                tables[kind] = probe.table
        return CellView(
            split=split,
            split_seed=self.workshop.split.seed,
            recording=recording,
            units=recording.units(cell.area),
            rows=rows,
            predicted=held_out[rows],
            shown=fit.shown[split],
            tables=tables,
            embed=self.workshop.embed,
            seed=int(cell.cell_id[:12], 16),
            common_units=min(len(recording.units(area)) for area in recording.area_names()),
            remember=self.workshop.brain.get,
            transferred=fit.transferred.get(split),
        )

    def _replicates(self, view: CellView) -> np.ndarray:
        groups = view.recording.groups[view.rows]
        key = (view.recording.fingerprint, groups.tobytes())
        weights = self._weights.get(key, lambda: group_weights(groups, REPLICATES, seed=view.split_seed))
        return np.asarray(bootstrap_correlation(view.predicted, view.observed, groups, weights), dtype=np.float32)

    def _row(
        self,
        cell: Cell,
        attempt: int,
        seconds: float,
        values: dict[str, float] | None = None,
        error: Exception | None = None,
    ) -> dict[str, Any]:
        context = self.workshop.context
        row = {
            "cell_id": cell.cell_id,
            "status": "failed" if error else "done",
            "error": describe_error(error) if error else None,
            "recording": cell.recording,
            "area": cell.area,
            "depth": cell.depth,
            **cell_configuration(cell.configuration()),
            "score_keys": context.score_keys,
            "seconds": seconds,
            "attempt": attempt,
            "data_fingerprint": context.fingerprints[cell.recording],
            **provenance(context.commit, str(self.workshop.device)),
            **(values or {}),
        }
        if not error:
            row |= self._sizes(cell)
        return row

    def _sizes(self, cell: Cell) -> dict[str, Any]:
        recording = self.workshop.recording(cell.recording)
        return {
            "units": len(recording.units(cell.area)),
            "stimuli": len(recording.groups),
            "groups": len(np.unique(recording.groups)),
            "outer_folds": len(self.workshop.folds(recording, cell.seed)) if is_folded(recording.groups) else 0,
        }
