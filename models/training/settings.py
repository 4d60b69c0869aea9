"""Settings of a fit by gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class FitSettings:
    """How a twin is fitted.

    AdamW's `learning_rate` and `weight_decay` (0: Adam), `epochs` at most, `patience` epochs without gain until
    the end, `batch` stimuli or clips per step (None: all), `seed` of the order. The learning rate rises linearly
    over `warmup` epochs; at the end of patience the best state comes back and the rate is multiplied by 0.3, at
    most `decays` times, before the end. `together`: every step takes one batch of every recording. `frames`:
    length of random crops of clips in training (None, or longer than a clip: all of it). `balance`: "areas" makes
    the loss a mean over areas, whatever their number of units; "none" a mean over entries.
    """

    learning_rate: float = 0.005
    epochs: int = 60
    patience: int = 8
    batch: int | None = 64
    seed: int = 0
    weight_decay: float = 0.0
    warmup: int = 0
    decays: int = 0
    together: bool = False
    frames: int | None = None
    balance: str = "none"

    @classmethod
    def of(cls, seed: int, *parameters: Mapping[str, Any]) -> FitSettings:
        """Take settings from the parameters of components that have their names; later ones count. batch "all" is None.

        >>> FitSettings.of(3, {"epochs": 5, "l1": 0.1}, {"batch": "all"}).epochs
        5
        """
        names = {field.name for field in fields(cls)}
        chosen = {key: value for given in parameters for key, value in given.items() if key in names}
        if chosen.get("batch") == "all":
            chosen["batch"] = None
        return cls(**{**chosen, "seed": seed})
