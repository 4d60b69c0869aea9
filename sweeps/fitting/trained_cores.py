"""Cores that are trained together with their readouts, many twins at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from models.backbones import BACKBONES
from models.training.assembly import ReadoutPlan, assemble
from models.training.gradient_fit import FitSettings, ReadoutData, predict
from models.training.stacked.fit_many import TwinFit, fit_twins
from models.training.stacked.grouping import free
from models.twin import Twin
from sweeps.experiment.cells import Cell, cell_key
from sweeps.experiment.depths import resolve
from sweeps.features.worker_data import Workshop
from sweeps.fitting.cell_fit import SPLITS, CellFit, empty_fit, mean_response
from sweeps.fitting.leakage import kept_apart
from sweeps.fitting.successive_halving import Halving
from sweeps.fitting.trained_inputs import Items, all_items, places, still_frames
from sweeps.recordings.recording import Recording
from sweeps.recordings.splits import Fold

PRICES = ("smoothness", "temporal_smoothness")
"""Parameters of cores that are weights of penalties: twins of one stack can differ in them."""

Shown = dict[tuple[str, int], dict[str, Items]]
"""What twins are shown, by recording and the frames for which a picture is held still."""


def fit_trained_twins(
    workshop: Workshop, jobs: Sequence[Sequence[Cell]], halving: Halving | None = None, path: str = "auto"
) -> Iterator[list[tuple[int, list[CellFit] | Exception]]]:
    """Cores trained together with a readout per cell, once per outer fold: (number, fits) of jobs, as they are done.

    A job is the cells of one twin. Twins that are alike are trained as stacks where that is faster, `path` as in
    `models.training.stacked.fit_many.fit_twins`; the error of one is its outcome alone.
    """
    shared: Shown = {}
    opened = [_Job(workshop, cells, shared) for cells in jobs]
    turns = [(number, turn) for number, job in enumerate(opened) for turn in range(job.turns)]
    wanted = [opened[number].wanted(turn, halving) for number, turn in turns]
    for outcomes in fit_twins(wanted, path):
        done = []
        for place, outcome in outcomes:
            number, turn = turns[place]
            job = opened[number]
            job.waiting.discard(turn)
            if isinstance(outcome, Exception):
                job.error = job.error or outcome
            else:
                job.pruned |= outcome.pruned
            if not job.waiting:
                twins = [wanted[at] for at, (owner, _) in enumerate(turns) if owner == number]
                done.append((number, job.error or job.fits(twins)))
        if done:
            yield done


class _Job:
    """The cells of one twin, and what a fit of it needs."""

    def __init__(self, workshop: Workshop, cells: Sequence[Cell], shared: Shown) -> None:
        self.workshop, self.cells, self.items = workshop, cells, shared
        self.recordings = {cell.recording: workshop.recording(cell.recording) for cell in cells}
        self.folds = {name: workshop.folds(each, cells[0].seed) for name, each in self.recordings.items()}
        self.turns = max(len(each) for each in self.folds.values())
        self.waiting = set(range(self.turns))
        self.error: Exception | None = None
        self.pruned = False

    def now(self, turn: int) -> dict[str, Fold]:
        """The fold of each recording; those with fewer folds repeat their last one."""
        return {name: each[min(turn, len(each) - 1)] for name, each in self.folds.items()}

    def shown(self, name: str) -> dict[str, Items]:
        """Everything that the twin is shown of a recording; held once for all twins that are shown the same."""
        key = name, still_frames(self.cells[0].backbone)
        if key not in self.items:
            self.items[key] = all_items(self.workshop, self.cells[0], self.recordings[name])
        return self.items[key]

    def wanted(self, turn: int, halving: Halving | None = None) -> TwinFit:
        """The twin of an outer fold, to be fitted; halving compares all twins."""
        first, items = self.cells[0], {name: self.shown(name)["fit"] for name in self.recordings}
        rows = kept_apart(items, {name: each.groups for name, each in self.recordings.items()}, self.now(turn))
        data = {name: _data(self.cells, each, items[name], *rows[name]) for name, each in self.recordings.items()}
        settings = FitSettings.of(first.seed, first.readout, first.backbone)
        twins = [
            _assembled(self.workshop, self.cells, self.recordings, data) for _ in range(1 + first.readout["refit"])
        ]
        kind = free(first.backbone, PRICES), first.readout["name"]
        judge = halving.judge(f"twins/{turn}", first.cell_id) if halving else None
        return TwinFit(twins[0], data, settings, kind, twins[1] if len(twins) > 1 else None, judge)

    def fits(self, fitted: Sequence[TwinFit]) -> list[CellFit]:
        """Predictions of the twins of all outer folds."""
        found = {}
        for cell in self.cells:
            recording, key = self.recordings[cell.recording], cell_key(cell)
            folds = self.folds[cell.recording]
            found[key] = empty_fit(recording, len(recording.units(cell.area)))
            found[key].pruned = self.pruned
            shown = self.shown(cell.recording)
            for fold, each in zip(folds, fitted, strict=False):
                for split, twin in zip(SPLITS, (each.select_twin or each.twin, each.twin), strict=True):
                    predicted = {name: _predicted(twin, key, items) for name, items in shown.items()}
                    baseline = mean_response(recording, cell.area, fold.fitted_on(split, cell.readout["refit"]))
                    found[key].keep(fold, split, baseline, predicted, len(folds))
        return list(found.values())


def _predicted(twin: Twin, key: str, items: Items) -> np.ndarray:
    found = predict(twin, items.inputs, [key], behaviour=items.behaviour, pupil=items.pupil)[key]
    return items.scattered(found)


def trained_twins(workshop: Workshop, cells: Sequence[Cell]) -> Iterator[Twin]:
    """The twin of every outer fold that gives the report predictions; raises what its fit raises."""
    job = _Job(workshop, cells, {})
    for turn in range(job.turns):
        wanted = job.wanted(turn)
        (((_, outcome),),) = fit_twins([wanted])
        if isinstance(outcome, Exception):
            raise outcome
        yield wanted.twin


def _data(
    cells: Sequence[Cell], recording: Recording, items: Items, train: np.ndarray, select: np.ndarray
) -> ReadoutData:
    responses = {
        cell_key(cell): items.gathered(recording.fit.average[:, recording.units(cell.area)])
        for cell in cells
        if cell.recording == recording.name
    }
    chosen = items.among(train), items.among(select)
    return ReadoutData(items.inputs, responses, *chosen, items.behaviour, items.pupil)


def _assembled(
    workshop: Workshop, cells: Sequence[Cell], recordings: Mapping[str, Recording], data: Mapping[str, ReadoutData]
) -> Twin:
    first = cells[0]
    core = BACKBONES[first.backbone["name"]].load()(first.backbone, first.seed)
    coordinates = {}
    for cell in cells:
        recording = recordings[cell.recording]
        place = places(recording, recording.units(cell.area))
        if place is not None:
            coordinates[cell_key(cell)] = place
    depths = {cell_key(cell): resolve(cell.blocks, 0) for cell in cells}
    twin = assemble(
        core,
        ReadoutPlan(first.readout["name"], first.readout, depths, coordinates),
        data,
        first.seed,
        behaviour=bool(first.backbone.get("behaviour")),
        gaze=bool(first.backbone.get("gaze")),
    )
    return twin.to(workshop.device)
