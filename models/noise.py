"""Random numbers that a part of a twin draws while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Drawing:
    """A module that draws noise in training from its own `generator`; a mixin of `nn.Module`.

    Each draw is `law(shape, generator=generator)`, on the CPU, so that a fit is the same on every device. Twins that
    are fitted in one stack (`models.training.stacked`) draw theirs beforehand by `fresh`, and are given them as the
    buffer `noise`; `shape` is that of the last draw, () before it.
    """

    generator: torch.Generator
    noise: Tensor | None

    def expect_noise(self, law: Callable[..., Tensor]) -> None:
        """Say which law draws: `torch.randn` or `torch.rand`. Called once, when the module is made."""
        self.law = law
        self.shape: tuple[int, ...] = ()
        self.register_buffer("noise", None, persistent=False)  # type: ignore[attr-defined]

    def drawn(self, *shape: int) -> Tensor:
        """Fresh noise of a shape whose first axis goes with the items of the batch, or that which was given."""
        if self.noise is not None:
            return self.noise
        self.shape = shape
        return self.fresh(shape)

    def fresh(self, shape: Sequence[int]) -> Tensor:
        """What the next draw of this shape will be."""
        return self.law(*shape, generator=self.generator)
