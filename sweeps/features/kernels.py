"""Kernels of one block's features: centred, or z-scored on the stimuli of a fit, projected and delayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from models.linear.delays import Lags
from models.linear.projection import SparseProjection
from models.linear.ridge import ROUNDING
from sweeps.recordings.recording import Recording

Load = Callable[[str], Tensor]
"""Features (rows, features) of what is shown under a name: "fit", "probe.objects" and so on."""


@dataclass(frozen=True)
class Scaling:
    """How centred features become those of a kernel: z = (x R' - shift) * factor, R' left out without a projection."""

    projection: SparseProjection | None
    shift: Tensor = field(repr=False)
    factor: Tensor = field(repr=False)

    def of_features(self, features: Tensor) -> Tensor:
        """Features z (rows, columns) of centred features x (rows, features)."""
        projected = self.projection(features) if self.projection else features
        return (projected - self.shift) * self.factor

    def of_weights(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (features, units) on x, and a constant (units,), of weights (columns, units) on z."""
        scaled = self.factor.double()[:, None] * weights
        constant = -self.shift.double() @ scaled
        return (self.projection.back(scaled) if self.projection else scaled), constant


@dataclass(frozen=True)
class Kernels:
    """Kernels of one block between the `fit` stimuli and everything that is shown to the twin.

    Features are centred on their mean over the `fit` stimuli, `centre`. `fit` (stimuli, stimuli); `shown` maps a name
    such as "probe.objects" to (rows, stimuli); `features` (stimuli, features) float32 are what the kernels are of
    before delays (`lags`), and, where there is a `scaling`, after it. `key` tells kernels apart.
    """

    fit: Tensor
    shown: Mapping[str, Tensor]
    features: Tensor
    key: str
    centre: Tensor = field(repr=False)
    lags: Lags | None = None
    scaling: Scaling | None = None

    def against(self, features: Tensor) -> Tensor:
        """The kernel (rows, stimuli) between other features (rows, features), as they come, and the fit stimuli.

        With delays the rows are those of all fit stimuli, in order.
        """
        centred = features - self.centre
        centred = self.scaling.of_features(centred) if self.scaling else centred
        kernel = (centred @ self.features.T).double()
        return self.lags.of_kernel(kernel) if self.lags else kernel

    def weights(self, dual: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Weights (features, units) on centred features, and a constant (units,), of dual coefficients (rows, units).

        Float64. With delays they answer to a picture that is held for as long as the readout looks back.
        """
        index = torch.from_numpy(rows).to(self.features.device)
        if self.lags:
            every = dual.new_zeros(len(self.features), dual.shape[1])
            every[index] = dual
            weights = self.features.double().T @ self.lags.of_dual(every)
        else:
            weights = self.features[index].double().T @ dual
        if self.scaling:
            return self.scaling.of_weights(weights)
        return weights, weights.new_zeros(weights.shape[1])


def centred_kernels(load: Load, names: Sequence[str], key: str, lags: Lags | None) -> Kernels:
    """Kernels of features centred on their mean over the fit stimuli; `names` are shown besides those."""
    fit = load("fit")
    centre = fit.mean(dim=0)
    fit -= centre
    shown = {name: ((load(name) - centre) @ fit.T).double() for name in names}
    kernel = (fit @ fit.T).double()
    if lags:
        kernel, shown = lags.of_kernel(kernel), {name: lags.of_shown(rows) for name, rows in shown.items()}
    return Kernels(kernel, shown, fit, key, centre, lags)


@dataclass(frozen=True)
class Columns:
    """One block's features, centred on their mean over the fit stimuli and projected where there is a `projection`.

    What z-scoring starts from: mean and deviation depend on the stimuli of a fit. `fit` (stimuli, columns); `shown`
    maps a name to (rows, columns).
    """

    fit: Tensor
    shown: Mapping[str, Tensor]
    centre: Tensor = field(repr=False)
    projection: SparseProjection | None
    key: str
    lags: Lags | None

    def standardised(self, rows: np.ndarray, key: str) -> Kernels:
        """Kernels of columns z-scored by the fit stimuli `rows` alone (ddof 0); a column constant there becomes 0.

        The code of Conwell et al. 2021 z-scores over all images, those it then predicts included.
        """
        fitted = self.fit[torch.from_numpy(rows).to(self.fit.device)]
        deviation, shift = torch.std_mean(fitted, dim=0, correction=0)
        size = fitted.square().mean(dim=0).sqrt()
        varies = deviation > max(ROUNDING, torch.finfo(fitted.dtype).eps) * 10 * size
        factor = torch.where(varies, 1.0 / deviation, torch.zeros_like(deviation))
        scaled = {name: (columns - shift) * factor for name, columns in {"fit": self.fit, **self.shown}.items()}
        fit = scaled.pop("fit")
        kernel, shown = (fit @ fit.T).double(), {name: (columns @ fit.T).double() for name, columns in scaled.items()}
        if self.lags:
            kernel, shown = self.lags.of_kernel(kernel), {name: self.lags.of_shown(k) for name, k in shown.items()}
        return Kernels(kernel, shown, fit, key, self.centre, self.lags, Scaling(self.projection, shift, factor))


def columns_of(load: Load, names: Sequence[str], key: str, lags: Lags | None, size: int = 0, seed: int = 0) -> Columns:
    """Columns of a block, projected to `size` of them by `seed` unless that is 0."""
    fit = load("fit")
    centre = fit.mean(dim=0)
    projection = SparseProjection(fit.shape[1], size, seed) if size else None
    columns = {name: _projected(load(name) - centre, projection) for name in ("fit", *names)}
    return Columns(columns.pop("fit"), columns, centre, projection, key, lags)


def _projected(features: Tensor, projection: SparseProjection | None) -> Tensor:
    return projection(features) if projection else features


def lags_of(recording: Recording, delays: int, device: torch.device) -> Lags | None:
    """Delays of 1 to `delays` samples within the recording's runs, or clips, or else groups; None for no delays."""
    table, clips = recording.fit.table, ["clip"] if recording.fit.clips else []
    column = next((name for name in ("run", *clips) if name in table), "group")
    return Lags.within(table[column].to_numpy(dtype=str), delays, device) if delays else None


def feature_sets(recording: Recording, text: str) -> tuple[str, ...]:
    """The recording's feature sets that a text names: one, or several joined by `+`."""
    return (text,) if text in recording.features else tuple(text.split("+"))
