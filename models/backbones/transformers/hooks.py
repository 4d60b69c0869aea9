"""Values inside a network that somebody else wrote, computed no further than requested.

The network runs as it is; a hook on each requested module keeps what enters or leaves it, and the one that keeps the
last requested value ends the pass. So no block deeper than the deepest requested is computed, and no layer is run by
code of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Tap:
    """A place in a network: what leaves a module, or the first value that enters it."""

    module: nn.Module
    entering: bool = False


class Enough(Exception):
    """Everything requested has been computed."""


def chain(layers: Iterable[nn.Module]) -> list[Tap]:
    """Taps of a chain of layers: what enters the first, then what leaves each."""
    modules = list(layers)
    return [Tap(modules[0], entering=True), *(Tap(layer) for layer in modules)]


def run_until(call: Callable[[], object], taps: Sequence[Tap], blocks: Sequence[int]) -> dict[int, Any]:
    """Value at the tap of every requested block, of one run of `call` that ends with the last of them.

    Nothing runs where no block is requested. Raises ValueError for a block that does not exist (negative numbers are
    not counted from the end), and RuntimeError where the run ends before all taps were passed.
    """
    for block in blocks:
        if not 0 <= block < len(taps):
            raise ValueError(f"block {block} does not exist: blocks are 0 to {len(taps) - 1}")
    return _run({block: taps[block] for block in blocks}, call) if len(blocks) else {}


def _run(taps: Mapping[int, Tap], call: Callable[[], object]) -> dict[int, Any]:
    values: dict[int, Any] = {}
    with ExitStack() as stack:
        for block, tap in taps.items():
            stack.callback(_hook(tap, partial(_keep, values, len(taps), block)).remove)
        try:
            call()
        except Enough:
            return values
    raise RuntimeError(f"the network never came to blocks {sorted(set(taps) - set(values))}")


def _keep(values: dict[int, Any], enough: int, block: int, value: Any) -> None:
    values[block] = value
    if len(values) == enough:
        raise Enough


def _hook(tap: Tap, keep: Callable[[Any], None]) -> RemovableHandle:
    """A hook that passes on what leaves a module, or the first value that enters it."""
    if not tap.entering:
        return tap.module.register_forward_hook(lambda module, inputs, output: keep(output))

    def entered(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        keep(inputs[0] if inputs else named["hidden_states"])

    return tap.module.register_forward_pre_hook(entered, with_kwargs=True)


def first(value: Any) -> Any:
    """The first of several outputs of a layer, or its only one."""
    return value[0] if isinstance(value, tuple) else value
