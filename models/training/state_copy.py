"""Copies of a module's state: to go back to where a fit began, or to the best state so far."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StateCopy:
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
        """Copy the module's state if `loss` is lower than any before, and return whether it is."""
        if loss < self.loss:
            self.loss, self.epoch, self.state = loss, epoch, self.copy()
            return True
        return False

    def copy(self) -> dict[str, Tensor]:
        """Copy the present state."""
        return copied(self.module)

    def restore(self) -> None:
        """Put the best state back into the module."""
        self.module.load_state_dict(self.state)


def copied(module: nn.Module) -> dict[str, Tensor]:
    """Copy the module's state."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _generators(module: nn.Module) -> dict[str, torch.Generator]:
    generators = {name: getattr(part, "generator", None) for name, part in module.named_modules()}
    return {name: generator for name, generator in generators.items() if isinstance(generator, torch.Generator)}
