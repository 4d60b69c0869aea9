"""Which way of fitting is the faster, and how many twins there is memory for: found by trying a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from models.machine import available_bytes, core_count
from models.training.data import steps
from models.training.stacked.grouping import structure
from models.training.stacked.member import Member
from models.training.stacked.stacked_training_loop import StackedTrainingLoop
from models.training.state_copy import StateCopy
from models.training.training_loop import TrainingLoop

T = TypeVar("T")

MOST = 64
"""Members of a stack at most: beyond it nothing is gained."""

MEMORY = 0.5
"""Share of the free memory that a stack may fill, as far as its need is foreseen."""

CLEARLY, HOPELESS = 0.9, 2.0
"""A stack is taken if a step of it takes clearly less for each member than alone. If the first, which warms up, takes
so many times as long, there is no second."""

COPIES = 6
"""A member's parameters, their gradients, two moments, the best state, and one to spare."""


@dataclass(frozen=True)
class Cost:
    """What one step of one twin takes alone: seconds, and bytes that are held until its end."""

    seconds: float
    bytes: float


_COSTS: dict[Hashable, Cost] = {}
_PAYS: dict[Hashable, bool] = {}


def room(member: Member, count: int) -> int:
    """Count how many of `count` members like this one make a stack."""
    fitting = int(MEMORY * free_bytes(_device(member)) / max(_cost(member).bytes, 1.0))
    return max(1, min(MOST, count, fitting))


def pays(members: Sequence[Member]) -> bool:
    """Tell whether a stack of these members is faster than one after the other; tried once for a structure and size."""
    shared = len({member.same_order for member in members}) == 1
    key = _key(members[0]), len(members).bit_length(), shared
    if key not in _PAYS:
        alone = _cost(members[0]).seconds
        _PAYS[key] = _stacked_seconds(members, HOPELESS * alone) < CLEARLY * alone
    return _PAYS[key]


def forget() -> None:
    """Try everything again: for benchmarks and tests."""
    _COSTS.clear()
    _PAYS.clear()


def free_bytes(device: torch.device) -> float:
    """Estimate the memory that a process may fill: what is free on a GPU, its share of what is available otherwise."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return available_bytes() / core_count()


def out_of_memory(error: Exception) -> bool:
    """Tell whether an error means that memory is short, of a GPU or of the machine."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "not enough memory" in str(error) or "can't allocate memory" in str(error)


def _cost(member: Member) -> Cost:
    key = _key(member)
    if key not in _COSTS:
        _COSTS[key] = _undone([member], lambda: _tried(member.again()))
    return _COSTS[key]


def _tried(member: Member) -> Cost:
    """Two steps of a twin alone; the first is for its bytes."""
    loop = TrainingLoop(member.twin, member.recordings, member.settings)
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    member.twin.train()
    queue = list(islice(steps(member.recordings, member.settings, member.order), 2))
    with saved_tensors_hooks(note, lambda tensor: tensor):
        loop.step(queue[0])
    seconds = _seconds(lambda: loop.step(queue[-1]), _device(member))
    parameters = sum(parameter.numel() * parameter.element_size() for parameter in member.twin.parameters())
    return Cost(seconds, 2.0 * sum(saved.values()) + COPIES * parameters)


def _stacked_seconds(members: Sequence[Member], hopeless: float) -> float:
    """Seconds of a step of a stack for each member that takes part in it, the better of two."""

    def tried() -> float:
        """Time two steps of a stack of copies, or one where it is hopeless already."""
        loop = StackedTrainingLoop([member.again() for member in members])
        seconds = float("inf")
        for turns, batches in islice(loop.turns(), 2):
            step = lambda: loop.step(turns, batches, [1e-3] * len(members))  # noqa: B023, E731
            seconds = min(seconds, _seconds(step, loop.device) / len(turns))
            if seconds > hopeless:
                break
        return seconds

    return _undone(members, tried)


def _undone(members: Sequence[Member], action: Callable[[], T]) -> T:
    """Run an action and give its result; twins and their draws are afterwards what they were."""
    before = [StateCopy(member.twin) for member in members]
    try:
        return action()
    finally:
        for copy, member in zip(before, members, strict=True):
            copy.restore(member.twin)


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _device(member: Member) -> torch.device:
    return next(member.twin.parameters()).device


def _key(member: Member) -> Hashable:
    return member.kind, structure(member), _device(member).type
