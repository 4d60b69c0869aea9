"""One epoch of a fit: the optimizer, and the order in which it sees the train rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.training.data import ReadoutData, Step, crop, steps, take
from models.training.early_stopping import set_rate
from models.training.settings import FitSettings
from models.training.twin_loss import batch_loss, penalty
from models.twin import Twin


class TrainingLoop:
    """The optimizer of a fit, and the order in which it sees the train rows."""

    def __init__(self, twin: Twin, recordings: Sequence[ReadoutData], settings: FitSettings) -> None:
        self.twin, self.recordings, self.settings = twin, recordings, settings
        rate, decay = settings.learning_rate, settings.weight_decay
        self.optimizer = torch.optim.AdamW(twin.parameters(), lr=rate, weight_decay=decay)
        self.order, self.windows = (torch.Generator().manual_seed(settings.seed) for _ in range(2))

    def epoch(self, rate: float) -> float:
        """Train for one epoch at this learning rate; return the mean loss of the steps, without penalties."""
        self.twin.train()
        set_rate(self.optimizer, rate)
        losses = [self.step(step) for step in steps(self.recordings, self.settings, self.order)]
        return float(torch.stack(losses).mean())

    def step(self, step: Step) -> Tensor:
        """Take one step of the optimizer on the mean over the step's batches; return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for recording, rows in step:
            window = crop(recording, rows, self.settings, self.windows)
            batch = take(recording, rows, next(self.twin.parameters()).device, **window)
            loss = batch_loss(self.twin, batch, self.settings.balance)
            ((loss + penalty(self.twin, tuple(recording.responses))) / len(step)).backward()
            losses.append(loss.detach())
        self.optimizer.step()
        return torch.stack(losses).mean()
