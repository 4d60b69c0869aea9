"""Cores that are trained together with their readouts, many twins at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from models.training.assembly import ReadoutPlan, assemble
from models.training.gradient_fit import FitSettings, ReadoutData, predict
from models.training.stacked.fit_many import TwinFit, fit_twins
from models.training.stacked.grouping import free
from models.twin import Twin
from sweeps.experiment.cells import Cell, cell_key
from sweeps.experiment.depths import resolve
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.cell_fit import SPLITS, CellFit, empty_fit, mean_response
from sweeps.fitting.leakage import rows_without_leakage
from sweeps.fitting.successive_halving import SuccessiveHalving
from sweeps.fitting.twin_inputs import TwinInputs, all_twin_inputs, coordinates_of, still_frames
from sweeps.recordings.recording import Recording
from sweeps.recordings.splits import Fold

PENALTIES = ("smoothness", "temporal_smoothness")
"""Parameters of cores that are weights of penalties: twins of one stack can differ in them."""

InputsByRecording = dict[tuple[str, int], dict[str, TwinInputs]]
"""What twins are shown, by recording and the frames for which a picture is held still."""


def fit_trained_twins(
    worker: WorkerData, jobs: Sequence[Sequence[Cell]], halving: SuccessiveHalving | None = None, path: str = "auto"
) -> Iterator[list[tuple[int, list[CellFit] | Exception]]]:
    """Cores trained together with a readout per cell, once per outer fold: (number, fits) of jobs, as they are done.

    A job is the cells of one twin. Twins that are alike are trained as stacks where that is faster, `path` as in
    `models.training.stacked.fit_many.fit_twins`; the error of one is its outcome alone.
    """
    shared: InputsByRecording = {}
    twins = [_TwinJob(worker, cells, shared) for cells in jobs]
    turns = [(number, turn) for number, job in enumerate(twins) for turn in range(job.turns)]
    requests = [twins[number].request(turn, halving) for number, turn in turns]
    for outcomes in fit_twins(requests, path):
        done = []
        for index, outcome in outcomes:
            number, turn = turns[index]
            job = twins[number]
            job.pending.discard(turn)
            if isinstance(outcome, Exception):
                job.error = job.error or outcome
            else:
                job.pruned |= outcome.pruned
            if not job.pending:
                fitted = [requests[at] for at, (owner, _) in enumerate(turns) if owner == number]
                done.append((number, job.error or job.fits(fitted)))
        if done:
            yield done


class _TwinJob:
    """The cells of one twin, and what a fit of it needs."""

    def __init__(self, worker: WorkerData, cells: Sequence[Cell], shared: InputsByRecording) -> None:
        self.worker, self.cells, self.shared = worker, cells, shared
        self.recordings = {cell.recording: worker.recording(cell.recording) for cell in cells}
        self.folds = {name: worker.folds(one, cells[0].seed) for name, one in self.recordings.items()}
        self.turns = max(len(folds) for folds in self.folds.values())
        self.pending = set(range(self.turns))
        self.error: Exception | None = None
        self.pruned = False

    def folds_of(self, turn: int) -> dict[str, Fold]:
        """The fold of each recording; those with fewer folds repeat their last one."""
        return {name: folds[min(turn, len(folds) - 1)] for name, folds in self.folds.items()}

    def shown(self, name: str) -> dict[str, TwinInputs]:
        """Everything that the twin is shown of a recording; in memory once for all twins that are shown the same."""
        key = name, still_frames(self.cells[0])
        if key not in self.shared:
            self.shared[key] = all_twin_inputs(self.worker, self.cells[0], self.recordings[name])
        return self.shared[key]

    def request(self, turn: int, halving: SuccessiveHalving | None = None) -> TwinFit:
        """The twin of an outer fold, to be fitted; halving compares all twins."""
        first, inputs = self.cells[0], {name: self.shown(name)["fit"] for name in self.recordings}
        groups = {name: one.groups for name, one in self.recordings.items()}
        rows = rows_without_leakage(inputs, groups, self.folds_of(turn))
        data = {name: _data(self.cells, one, inputs[name], *rows[name]) for name, one in self.recordings.items()}
        settings = FitSettings.of(first.seed, first.readout, first.backbone)
        twins = [_assembled(self.worker, self.cells, self.recordings, data) for _ in range(1 + first.readout["refit"])]
        kind = free(first.backbone, PENALTIES), first.readout["name"]
        pruner = halving.pruner(f"twins/{turn}", first.cell_id) if halving else None
        return TwinFit(twins[0], data, settings, kind, twins[1] if len(twins) > 1 else None, pruner)

    def fits(self, fitted: Sequence[TwinFit]) -> list[CellFit]:
        """Predictions of the twins of all outer folds."""
        return [self._fit_of(cell, fitted) for cell in self.cells]

    def _fit_of(self, cell: Cell, fitted: Sequence[TwinFit]) -> CellFit:
        recording, folds = self.recordings[cell.recording], self.folds[cell.recording]
        fit = empty_fit(recording, len(recording.units(cell.area)))
        fit.pruned = self.pruned
        shown = self.shown(cell.recording)
        for fold, request in zip(folds, fitted, strict=False):
            for split, twin in zip(SPLITS, (request.select_twin or request.twin, request.twin), strict=True):
                predicted = {name: _predicted(twin, cell_key(cell), inputs) for name, inputs in shown.items()}
                baseline = mean_response(recording, cell.area, fold.fitted_on(split, cell.readout["refit"]))
                fit.add_fold(fold, split, baseline, predicted, len(folds))
        return fit


def _predicted(twin: Twin, key: str, inputs: TwinInputs) -> np.ndarray:
    responses = predict(twin, inputs.stimuli, [key], behaviour=inputs.behaviour, pupil=inputs.pupil)[key]
    return inputs.scattered(responses)


def trained_twins(worker: WorkerData, cells: Sequence[Cell]) -> Iterator[Twin]:
    """The twin of every outer fold that gives the report predictions; raises what its fit raises."""
    job = _TwinJob(worker, cells, {})
    for turn in range(job.turns):
        request = job.request(turn)
        (((_, outcome),),) = fit_twins([request])
        if isinstance(outcome, Exception):
            raise outcome
        yield request.twin


def _data(
    cells: Sequence[Cell], recording: Recording, inputs: TwinInputs, train: np.ndarray, select: np.ndarray
) -> ReadoutData:
    responses = {
        cell_key(cell): inputs.gathered(recording.fit.average[:, recording.units(cell.area)])
        for cell in cells
        if cell.recording == recording.name
    }
    chosen = inputs.among(train), inputs.among(select)
    return ReadoutData(inputs.stimuli, responses, *chosen, inputs.behaviour, inputs.pupil)


def _assembled(
    worker: WorkerData, cells: Sequence[Cell], recordings: Mapping[str, Recording], data: Mapping[str, ReadoutData]
) -> Twin:
    first = cells[0]
    core = first.backbone_component.load()(first.backbone, first.seed)
    coordinates = {}
    for cell in cells:
        recording = recordings[cell.recording]
        of_units = coordinates_of(recording, recording.units(cell.area))
        if of_units is not None:
            coordinates[cell_key(cell)] = of_units
    depths = {cell_key(cell): resolve(cell.blocks, 0) for cell in cells}
    twin = assemble(
        core,
        ReadoutPlan(first.readout["name"], first.readout, depths, coordinates),
        data,
        first.seed,
        behaviour=bool(first.backbone.get("behaviour")),
        gaze=bool(first.backbone.get("gaze")),
    )
    return twin.to(worker.device)
