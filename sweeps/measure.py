"""From cells to rows: fit, score on both splits, and say what it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metrics import bootstrap_correlation, group_weights
from sweeps.cells import Cell, components_of
from sweeps.fitting import CellFit, fit_cells
from sweeps.identity import canonical
from sweeps.provenance import describe_error, provenance
from sweeps.schema import cell_configuration
from sweeps.scores import SCORES, unavailable
from sweeps.scores.view import CellView
from sweeps.splits import is_folded
from sweeps.workshop import Recent, Workshop

REPLICATES = 1000
"""Bootstrap replicates of the report prediction, on resamples shared by all cells of a recording."""

PREFIX = {"select": "select", "report": "score"}


@dataclass(frozen=True)
class Scored:
    """Scores of a cell on both splits, bootstrap replicates, and the errors of scores that raised."""

    scores: dict[str, float]
    replicates: np.ndarray
    error: str | None


class Bench:
    """Turns jobs into rows in one worker process."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self._weights = Recent(4)

    def rows(
        self, cells: Sequence[Cell], attempt: int, also: Sequence[str] = ()
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of the tables `cells` and `bootstraps` for cells that are fitted in one go.

        `also` names scores beyond the sweep's that earlier rows of these cells held. A cell that raises becomes a
        `failed` row with its error, a score that raises is NaN with its error in a `done` row; nothing is raised
        from here.
        """
        start = time.perf_counter()
        names = [name for name in SCORES if name in (*self.workshop.context.scores, *also)]
        try:
            fits = fit_cells(self.workshop, cells)
            scored = [self._scored(cell, fit, names) for cell, fit in zip(cells, fits, strict=True)]
        except Exception as error:
            seconds = (time.perf_counter() - start) / len(cells)
            return [self._row(cell, attempt, seconds, names, describe_error(error), "failed") for cell in cells], []
        seconds = (time.perf_counter() - start) / len(cells)
        rows = [
            self._row(cell, attempt, seconds, names, each.error, "done") | each.scores | fit.facts | self._sizes(cell)
            for cell, fit, each in zip(cells, fits, scored, strict=True)
        ]
        draws = [
            {"cell_id": row["cell_id"], "replicates": each.replicates, "attempt": attempt, "finished": row["finished"]}
            for row, each in zip(rows, scored, strict=True)
        ]
        return rows, draws

    def _scored(self, cell: Cell, fit: CellFit, names: Sequence[str]) -> Scored:
        scores: dict[str, float] = {}
        errors: dict[str, str] = {}
        for split, prefix in PREFIX.items():
            view = self._view(cell, fit, split)
            for name in names:
                try:
                    found = SCORES[name].load()(view) if len(view.rows) else unavailable(name)
                except Exception as error:
                    errors[name] = describe_error(error)
                    found = unavailable(name)
                scores |= {f"{prefix}.{column}": float(value) for column, value in found.items()}
        text = "; ".join(f"{name}: {error}" for name, error in errors.items()) or None
        return Scored(scores, self._replicates(self._view(cell, fit, "report")), text)

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
            seed=cell.random_seed(),
            common_units=min(len(recording.units(area)) for area in recording.area_names()),
            remember=self.workshop.brain.get,
            transferred=fit.transferred.get(split),
        )

    def _replicates(self, view: CellView) -> np.ndarray:
        """Bootstrap replicates of `score.prediction`: units that are predicted as constant count as 0 here too."""
        groups = view.recording.groups[view.rows]
        key = (view.recording.fingerprint, groups.tobytes())
        weights = self._weights.get(key, lambda: group_weights(groups, REPLICATES, seed=view.split_seed))
        varied = np.nanstd(view.observed, axis=0) > 0
        predicted = np.nanstd(view.predicted, axis=0) > 0
        draws = np.asarray(bootstrap_correlation(view.predicted, view.observed, groups, weights), dtype=np.float32)
        return draws * np.float32((varied & predicted).sum() / max(1, varied.sum()))

    def _row(
        self, cell: Cell, attempt: int, seconds: float, names: Sequence[str], error: str | None, status: str
    ) -> dict[str, Any]:
        context = self.workshop.context
        return {
            "cell_id": cell.cell_id,
            "status": status,
            "error": error,
            "recording": cell.recording,
            "area": cell.area,
            "depth": cell.depth,
            **cell_configuration(cell.configuration()),
            "score_keys": " ".join(sorted(context.score_keys[name] for name in names)),
            "seconds": seconds,
            "attempt": attempt,
            "data_fingerprint": context.fingerprints[cell.recording],
            "split": canonical(context.split),
            "components": components_of(cell.backbone, cell.readout),
            **provenance(context.commit, str(self.workshop.device)),
        }

    def _sizes(self, cell: Cell) -> dict[str, Any]:
        recording = self.workshop.recording(cell.recording)
        return {
            "units": len(recording.units(cell.area)),
            "stimuli": len(recording.groups),
            "groups": len(np.unique(recording.groups)),
            "outer_folds": len(self.workshop.folds(recording, cell.seed)) if is_folded(recording.groups) else 0,
        }
