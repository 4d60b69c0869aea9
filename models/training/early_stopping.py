"""How long a fit goes on and how fast it learns: the schedule of learning rates, early stopping, pruning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch

from models.training.settings import FitSettings
from models.training.state_copy import BestState, StateCopy

DECAY = 0.3
"""Factor of the learning rate at every plateau, as in "Anatomically inspired digital twins" (NeurIPS 2025)."""


@dataclass
class FitHistory:
    """Mean loss of each epoch on the train rows (as trained, noise and all) and on the select rows.

    Losses are of responses divided by each unit's deviation, without penalties. `best_epoch` (from 0) is the
    one whose state the twin now has; `stopped_early`: patience ended the fit, not the last epoch; `pruned`: a `Pruner`
    did. `rates` are the learning rates of the epochs that led to that state, in order, `start` is where they began.
    """

    train: list[float] = field(default_factory=list)
    select: list[float] = field(default_factory=list)
    best_epoch: int = -1
    stopped_early: bool = False
    pruned: bool = False
    rates: list[float] = field(default_factory=list)
    start: StateCopy | None = None


class Schedule:
    """The learning rate of every epoch, and the rates that led to the present and to the best state."""

    def __init__(self, settings: FitSettings) -> None:
        self.settings, self.decays, self.since = settings, 0, -1
        self.path: list[float] = []
        self.best: list[float] = []

    def rate(self, epoch: int) -> float:
        """Compute learning_rate * min(1, (epoch + 1) / warmup) * 0.3^decays, and note it."""
        rise = min(1.0, (epoch + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        self.path.append(self.settings.learning_rate * rise * DECAY**self.decays)
        return self.path[-1]

    def improved(self, epoch: int) -> None:
        """Note that the state after this epoch is the best."""
        self.since, self.best = epoch, list(self.path)

    def ends(self, epoch: int, best: BestState) -> bool:
        """Tell whether patience is over for good; if a decay is left, go back to the best state instead."""
        if epoch - self.since < self.settings.patience:
            return False
        if self.decays == self.settings.decays:
            return True
        best.restore()
        self.decays, self.since, self.path = self.decays + 1, epoch, list(self.best)
        return False


class Pruner(Protocol):
    """Decides half-way whether a fit is worth going on with, as in successive halving."""

    def due(self, epochs: int) -> bool:
        """Tell whether it decides after this many epochs."""
        ...

    def stays(self, epochs: int, score: float) -> bool:
        """Tell whether a fit goes on that has this mean correlation on the select rows after this many epochs."""
        ...


class EarlyStopping:
    """The course of one fit: its learning rates, its losses, which state is the best, and when it is over."""

    def __init__(self, settings: FitSettings, best: BestState, start: StateCopy, pruner: Pruner | None = None) -> None:
        self.settings, self.best, self.pruner = settings, best, pruner
        self.history, self.schedule = FitHistory(start=start), Schedule(settings)

    def rate(self, epoch: int) -> float:
        """Give the learning rate of this epoch."""
        return self.schedule.rate(epoch)

    def goes_on(self, epoch: int, train: float, select: float) -> bool:
        """Note an epoch's losses and tell whether another one follows; otherwise the best state is back.

        Raises FloatingPointError for losses that are not finite.
        """
        history = self.history
        history.train.append(train)
        history.select.append(select)
        if not (math.isfinite(train) and math.isfinite(select)):
            rate = self.schedule.path[-1]
            raise FloatingPointError(
                f"loss {train} (train), {select} (select) in epoch {epoch} at learning rate {rate:g}"
            )
        if self.best.offer(select, epoch):
            self.schedule.improved(epoch)
        history.stopped_early = self.schedule.ends(epoch, self.best)
        if not history.stopped_early and epoch + 1 < self.settings.epochs:
            return True
        self._end()
        return False

    def needs_score(self, epoch: int) -> bool:
        """Tell whether the pruner decides after an epoch that did not end the fit."""
        return self.pruner is not None and self.pruner.due(epoch + 1)

    def survives(self, epoch: int, score: float) -> bool:
        """Let the pruner decide; where it ends the fit, the best state is back."""
        if self.pruner is None or self.pruner.stays(epoch + 1, score):
            return True
        self.history.pruned = True
        self._end()
        return False

    def _end(self) -> None:
        self.best.restore()
        history = self.history
        history.best_epoch, history.rates = self.best.epoch, self.schedule.best


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the optimizer's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
