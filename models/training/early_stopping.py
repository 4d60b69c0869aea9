"""How long a fit goes on and how fast it learns, what it remembers, and how it goes back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from models.training.settings import FitSettings

DECAY = 0.3
"""Factor of the learning rate at every plateau, as in "Anatomically inspired digital twins" (NeurIPS 2025)."""


@dataclass
class FitHistory:
    """Mean loss of each epoch on the train rows (as trained, noise and all) and on the select rows.

    Losses are of responses divided by each unit's deviation, without penalties. `best_epoch` (from 0) is the
    one whose state the twin now has; `stopped_early` says that patience ended the fit, not the last epoch, and
    `pruned` that a `Judge` did.
    `rates` are the learning rates of the epochs that led to that state, in order, `start` is where they began.
    """

    train: list[float] = field(default_factory=list)
    select: list[float] = field(default_factory=list)
    best_epoch: int = -1
    stopped_early: bool = False
    pruned: bool = False
    rates: list[float] = field(default_factory=list)
    start: Snapshot | None = None


class Snapshot:
    """A copy of a module's state, and of that of its random generators (`generator` of any part of it)."""

    def __init__(self, module: nn.Module) -> None:
        self.state = copied(module)
        self.draws = {name: generator.get_state() for name, generator in _generators(module).items()}

    def restore(self, module: nn.Module) -> None:
        """Put both back, into this or an equal module."""
        module.load_state_dict(self.state)
        for name, generator in _generators(module).items():
            generator.set_state(self.draws[name])


class BestState:
    """A copy of the state with the lowest loss so far, and its epoch."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.loss, self.epoch = module, float("inf"), -1
        self.state: dict[str, Tensor] = {}

    def offer(self, loss: float, epoch: int) -> bool:
        """Copy the module's state if `loss` is lower than any before, and say so."""
        if loss < self.loss:
            self.loss, self.epoch, self.state = loss, epoch, self.copy()
            return True
        return False

    def copy(self) -> dict[str, Tensor]:
        """A copy of the present state."""
        return copied(self.module)

    def restore(self) -> None:
        """Put the best state back into the module."""
        self.module.load_state_dict(self.state)


class Schedule:
    """The learning rate of every epoch, and the path of rates that led to the present and to the best state."""

    def __init__(self, settings: FitSettings) -> None:
        self.settings, self.decays, self.since = settings, 0, -1
        self.path: list[float] = []
        self.best: list[float] = []

    def rate(self, epoch: int) -> float:
        """learning_rate * min(1, (epoch + 1) / warmup) * 0.3^decays, and a step on the path."""
        rise = min(1.0, (epoch + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        self.path.append(self.settings.learning_rate * rise * DECAY**self.decays)
        return self.path[-1]

    def gained(self, epoch: int) -> None:
        """The state after this epoch is the best."""
        self.since, self.best = epoch, list(self.path)

    def ends(self, epoch: int, best: BestState) -> bool:
        """Whether patience is over for good; if a decay is left, the best state comes back instead."""
        if epoch - self.since < self.settings.patience:
            return False
        if self.decays == self.settings.decays:
            return True
        best.restore()
        self.decays, self.since, self.path = self.decays + 1, epoch, list(self.best)
        return False


class Judge(Protocol):
    """Decides half-way whether a fit is worth going on with, as in successive halving."""

    def due(self, epochs: int) -> bool:
        """Whether to ask after this many epochs."""
        ...

    def stays(self, epochs: int, score: float) -> bool:
        """Whether a fit goes on that has this mean correlation on the select rows after this many epochs."""
        ...


class Course:
    """How one fit goes: its learning rates, its losses, which state is the best, and when it is over."""

    def __init__(self, settings: FitSettings, best: BestState, start: Snapshot, judge: Judge | None = None) -> None:
        self.settings, self.best, self.judge = settings, best, judge
        self.history, self.schedule = FitHistory(start=start), Schedule(settings)

    def rate(self, epoch: int) -> float:
        """The learning rate of this epoch."""
        return self.schedule.rate(epoch)

    def goes_on(self, epoch: int, train: float, select: float) -> bool:
        """Take note of an epoch's losses; the best state is back where the fit is over.

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
            self.schedule.gained(epoch)
        history.stopped_early = self.schedule.ends(epoch, self.best)
        if not history.stopped_early and epoch + 1 < self.settings.epochs:
            return True
        self._end()
        return False

    def judged(self, epoch: int) -> bool:
        """Whether the judge is to be asked after an epoch that did not end the fit."""
        return self.judge is not None and self.judge.due(epoch + 1)

    def stays(self, epoch: int, score: float) -> bool:
        """Ask the judge; the best state is back where the fit is over."""
        if self.judge is None or self.judge.stays(epoch + 1, score):
            return True
        self.history.pruned = True
        self._end()
        return False

    def _end(self) -> None:
        self.best.restore()
        history = self.history
        history.best_epoch, history.rates = self.best.epoch, self.schedule.best


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the optimizer learn at this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def copied(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the module's state."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _generators(module: nn.Module) -> dict[str, torch.Generator]:
    found = {name: getattr(part, "generator", None) for name, part in module.named_modules()}
    return {name: generator for name, generator in found.items() if isinstance(generator, torch.Generator)}
