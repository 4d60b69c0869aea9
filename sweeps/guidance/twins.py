"""Which twins guide and judge: the best of a finished sweep, area by area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.errors import InputError
from sweeps.experiment.cells import Cell, Planner
from sweeps.experiment.guidance import Guidance
from sweeps.recordings.recording import RecordingFacts
from sweeps.storage.columns import configuration_of


@dataclass(frozen=True)
class Target:
    """An area of a recording that is to be driven, or its contrast with another: A(area) - weight A(against)."""

    recording: str
    area: str
    against: str | None = None
    weight: float = 1.0

    @property
    def areas(self) -> tuple[str, ...]:
        """Areas that the objective reads."""
        return (self.area,) if self.against is None else (self.area, self.against)

    def __str__(self) -> str:
        return "-".join((self.recording, *self.areas))


@dataclass(frozen=True)
class ChosenTwin:
    """A trial that guides or judges: its cells of all recordings, and the report prediction of every area of one."""

    trial_id: str
    cells: tuple[Cell, ...]
    recording: str
    predictions: dict[str, float]

    def cell(self, area: str) -> Cell:
        """Return its cell of an area of the recording."""
        return next(cell for cell in self.cells if (cell.recording, cell.area) == (self.recording, area))

    def together(self, area: str) -> list[Cell]:
        """Return the cells that are fitted in one go with that of an area, in order (see predictors_of)."""
        group = self.cell(area).together()
        return [cell for cell in self.cells if cell.together() == group]


def targets_of(guidance: Guidance, facts: Sequence[RecordingFacts]) -> list[Target]:
    """Return every area and contrast in every recording of pictures that has it; InputError where none has."""
    areas = {recording.name: set(recording.areas) for recording in facts if recording.pictures}
    contrast = guidance.contrast
    wanted: list[tuple[str, str | None, float]] = [(area, None, 1.0) for area in guidance.areas]
    wanted += [(contrast.target, contrast.against, contrast.weight)] if contrast else []
    targets = []
    for area, against, weight in wanted:
        everywhere = [Target(recording, area, against, weight) for recording in areas]
        own = [target for target in everywhere if set(target.areas) <= areas[target.recording]]
        if not own:
            raise InputError(
                "no recording of pictures has this area (both, for a contrast)", key="guidance", value=area
            )
        targets += own
    return targets


def choose_twins(
    guidance: Guidance, target: Target, trials: pd.DataFrame, areas: pd.DataFrame, planner: Planner
) -> list[ChosenTwin]:
    """Choose the guiding twin and those that judge, best first by the area's select prediction, no two of one kind.

    `trials` are done and present, `areas` their rows per area. Of the trials that share the area's cell, the one with
    the best select prediction on all areas stands for it. A backbone that gradients do not pass judges only. Raises
    InputError where no twin sees pictures or none can guide, and where the best one that can predicts an area worse
    than `least_prediction` on the report stimuli.
    """
    ranked = _ranked(target, trials, areas)
    twins = [_twin(target, row, areas, planner) for row in ranked.to_dict("records")]
    guides = [twin for twin in twins if BACKBONES[twin.cell(target.area).backbone["name"]].differentiable]
    if not guides:
        raise InputError("gradients pass no finished twin of this area", key="guidance", value=str(target))
    first: dict[str, ChosenTwin] = {}
    for twin in (guides[0], *twins):
        first.setdefault(_kind(guidance, twin.cell(target.area)), twin)
    guide, *judges = list(first.values())[: guidance.twin_count]
    for area in target.areas:
        _check_predicts(guidance, target, area, guide.predictions[area])
    least = guidance.least_prediction
    return [guide, *(twin for twin in judges if min(twin.predictions[area] for area in target.areas) >= least)]


def _ranked(target: Target, trials: pd.DataFrame, areas: pd.DataFrame) -> pd.DataFrame:
    """Rank one trial per distinct cell of the area, best first; twins that are no function of pictures are left out."""
    if "score.prediction" not in areas or "select.prediction" not in areas:
        raise InputError("guidance needs the score `prediction`", key="scores", allowed=["prediction"])
    own = areas[(areas["recording"] == target.recording) & (areas["area"] == target.area)]
    backbones = [name for name in own["config.backbone"].unique() if _sees_pictures(name)]
    readouts = [name for name in own["config.readout"].unique() if _reads_pictures(name)]
    own = own[own["config.backbone"].isin(backbones) & own["config.readout"].isin(readouts)]
    own = own[own["trial_id"].isin(trials["trial_id"])]
    own = own.dropna(subset=["select.prediction"])
    if own.empty:
        raise InputError("no finished twin of this area is a function of pictures", key="guidance", value=str(target))
    whole = trials.set_index("trial_id")[["select.prediction", "config"]]
    joined = own[["trial_id", "cell_id", "select.prediction"]].join(whole, on="trial_id", rsuffix=".all")
    order = ["select.prediction", "select.prediction.all", "trial_id"]
    return joined.sort_values(order, ascending=[False, False, True]).drop_duplicates("cell_id")


def _sees_pictures(backbone: str) -> bool:
    """Whether a backbone sees pictures; one that is not installed here shows none."""
    component = BACKBONES.installed(backbone)
    return component is not None and component.sees in ("images", "clips")


def _reads_pictures(readout: str) -> bool:
    """Whether a readout gives a function of pictures; one that is not installed here gives none."""
    from sweeps.fitting.predictors import has_predictor

    return readout in READOUTS and has_predictor({"name": readout})


def _twin(target: Target, row: dict[Any, Any], areas: pd.DataFrame, planner: Planner) -> ChosenTwin:
    cells = planner.cells(configuration_of(row))
    if planner.trial_id(cells) != row["trial_id"]:
        problem = "the recordings or the code have changed since this trial: run the sweep again first"
        raise InputError(problem, key="guidance", value=row["trial_id"])
    own = areas[(areas["trial_id"] == row["trial_id"]) & (areas["recording"] == target.recording)]
    predictions = dict(zip(own["area"], own["score.prediction"].astype(float), strict=True))
    return ChosenTwin(row["trial_id"], tuple(cells), target.recording, predictions)


def _check_predicts(guidance: Guidance, target: Target, area: str, prediction: float) -> None:
    if not prediction >= guidance.least_prediction:  # NaN is refused too
        raise InputError(
            f"refused: the best twin predicts {area} with {prediction:.3f} on the report stimuli, below "
            f"least_prediction = {guidance.least_prediction:g}; its pictures would say nothing about that area",
            key="guidance",
            value=str(target),
        )


def _kind(guidance: Guidance, cell: Cell) -> str:
    """Return a text that is equal for twins that may not judge each other's pictures."""
    if guidance.differ == "any":
        return cell.cell_id
    if guidance.differ == "features":
        return f"{cell.network_key()} {cell.blocks}"
    return repr(getattr(cell, guidance.differ))
