"""Delayed copies of features (a finite impulse response) in terms of kernels: nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Lags:
    """Where each row's features were 1 to D samples earlier: `earlier` (delays, rows), -1 before the start of its run.

    The kernel of features delayed by d is K[earlier_d, earlier_d], and that of all copies side by side their sum:

        K'(i, j) = sum_d K(i - d, j - d),    0 where i - d or j - d lies before the run of i or j

    Features are taken as centred: zeros, their mean, move in at the start of a run. What is shown beside the rows,
    a picture, is taken as held for as long as the readout looks back: K'(x, j) = sum_d K(x, j - d).
    """

    earlier: Tensor

    @classmethod
    def within(cls, runs: np.ndarray, delays: int, device: torch.device | None = None) -> Lags:
        """Lags of 1 to `delays` samples within runs (rows,) of labels.

        Raises ValueError for a run in two pieces, and where no run is longer than one sample.
        """
        starts = np.flatnonzero(np.concatenate([[True], runs[1:] != runs[:-1]]))
        lengths = np.diff(np.append(starts, len(runs)))
        if len(starts) != len(np.unique(runs)):
            raise ValueError(
                f"delays need runs of consecutive samples; got {len(starts)} stretches of {len(np.unique(runs))} runs"
            )
        if lengths.max() < 2:
            raise ValueError(f"delays need runs of consecutive samples; the longest of {len(starts)} runs has one")
        first = np.repeat(starts, lengths)
        rows = np.arange(len(runs)) - np.arange(1, delays + 1)[:, None]
        return cls(torch.from_numpy(np.where(rows >= first, rows, -1)).to(device))

    def of_kernel(self, kernel: Tensor) -> Tensor:
        """Compute the delayed kernel among the rows (rows, rows) of the one without delays."""
        return sum((_moved(_moved(kernel, rows).T, rows).T for rows in self.earlier), torch.zeros_like(kernel))

    def of_shown(self, kernel: Tensor) -> Tensor:
        """Compute the same between still pictures and the rows: (shown, rows)."""
        return sum((_moved(kernel.T, rows).T for rows in self.earlier), torch.zeros_like(kernel))

    def of_features(self, features: Tensor) -> Tensor:
        """Compute the delayed features themselves (rows, delays * features), ordered by delay, then feature."""
        return torch.cat([_moved(features, rows) for rows in self.earlier], dim=1)

    def of_dual(self, dual: Tensor) -> Tensor:
        """Compute dual coefficients (rows, units) without delays for still pictures: sum_d moved back."""
        moved = torch.zeros_like(dual)
        for rows in self.earlier:
            inside = rows >= 0
            moved.index_add_(0, rows[inside], dual[inside])
        return moved


def _moved(values: Tensor, earlier: Tensor) -> Tensor:
    """Rows of `values` at the earlier places, zeros before the start of a run."""
    moved = values[earlier.clamp(min=0)]
    moved[earlier < 0] = 0.0
    return moved
