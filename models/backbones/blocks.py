"""Running a chain of blocks no deeper than needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor


def run_blocks(stages: Sequence[Callable[[Tensor], Tensor]], start: Tensor, blocks: Sequence[int]) -> list[Tensor]:
    """The outputs of the requested blocks, in the requested order, of a chain that starts from `start`.

    Output of block i = stages[i](output of block i - 1). A block requested twice is computed once. Raises
    ValueError for a block that does not exist; negative numbers are not counted from the end.
    """
    for block in blocks:
        if not 0 <= block < len(stages):
            raise ValueError(f"block {block} does not exist: blocks are 0 to {len(stages) - 1}")
    outputs: dict[int, Tensor] = {}
    value = start
    for index in range(max(blocks, default=-1) + 1):
        value = stages[index](value)
        if index in blocks:
            outputs[index] = value
    return [outputs[block] for block in blocks]


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` looks like (stimuli, 3, height, width)."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (stimuli, 3, height, width), not {tuple(images.shape)}")
