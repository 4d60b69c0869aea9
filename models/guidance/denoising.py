"""One noise level of a diffusion model: what its network's output says about the clean picture and the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

KINDS = ("epsilon", "v_prediction", "sample")
"""What the networks of diffusion models predict: the noise, alpha noise - sigma clean, or the clean picture."""


@dataclass(frozen=True)
class Level:
    """Noisy latents x = alpha clean + sigma noise, with alpha^2 + sigma^2 = 1.

    alpha = sqrt(abar_t) and sigma = sqrt(1 - abar_t), abar the cumulative product of a scheduler; `kind` is what the
    network predicts, one of KINDS.
    """

    alpha: float
    sigma: float
    kind: str = "epsilon"

    @classmethod
    def at(cls, scheduler: Any, time: Tensor | int) -> Level:
        """The level of a diffusers scheduler at one of its timesteps."""
        share = float(scheduler.alphas_cumprod[int(time)])
        return cls(share**0.5, (1.0 - share) ** 0.5, scheduler.config.prediction_type)

    def clean(self, noisy: Tensor, output: Tensor) -> Tensor:
        """The one-step (Euler) estimate of the clean latents: x0 = (x - sigma noise) / alpha."""
        if self.kind == "sample":
            return output
        if self.kind == "v_prediction":
            return self.alpha * noisy - self.sigma * output
        return (noisy - self.sigma * output) / self.alpha

    def noise(self, noisy: Tensor, output: Tensor) -> Tensor:
        """The noise: (x - alpha x0) / sigma."""
        if self.kind == "sample":
            return (noisy - self.alpha * output) / self.sigma
        if self.kind == "v_prediction":
            return self.sigma * noisy + self.alpha * output
        return output

    def blended(self, clean: Tensor, noisy: Tensor) -> Tensor:
        """z = f x0 + (1 - f) x with f = sigma: x0 where all is noise, x itself where none is left."""
        return self.sigma * clean + (1.0 - self.sigma) * noisy

    def renoised(self, clean: Tensor, noise: Tensor) -> Tensor:
        """alpha clean + sigma noise."""
        return self.alpha * clean + self.sigma * noise

    def corrected(self, output: Tensor, change: Tensor) -> Tensor:
        """The output whose noise is that of `output` plus `change`, at the same noisy latents.

        A change d of the noise moves x0 by -sigma d / alpha, and so v = alpha noise - sigma x0 by d / alpha.
        """
        if self.kind == "sample":
            return output - (self.sigma / self.alpha) * change
        return output + (change / self.alpha if self.kind == "v_prediction" else change)
