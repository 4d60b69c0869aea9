"""Sparse random projection: many features to few columns, distances kept, without a dense matrix."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor


def johnson_lindenstrauss_size(stimuli: int, eps: float = 0.1) -> int:
    """Columns with which random projections keep squared distances between `stimuli` points within 1 - eps and 1 + eps.

        k = floor(4 ln n / (eps^2 / 2 - eps^3 / 3))

    Proven for dense projections, with a probability; sparse ones of features of very different sizes stray further.
    Raises ValueError with fewer than two stimuli, or an eps outside (0, 1).
    Source: Dasgupta and Gupta 2003; scikit-learn's johnson_lindenstrauss_min_dim.

    >>> johnson_lindenstrauss_size(119)
    4096
    """
    if stimuli < 2:
        raise ValueError(f"a projection is sized by at least 2 stimuli; got {stimuli}")
    if not 0 < eps < 1:
        raise ValueError(f"eps must lie between 0 and 1; got {eps}")
    return int(4 * math.log(stimuli) / (eps**2 / 2 - eps**3 / 3))


class SparseProjection:
    """A random matrix R (size, features) that is zero almost everywhere; features x (n, features) -> x R' (n, size).

        R_ij = +-sqrt(1 / (density size)), each with probability density / 2, else 0;  density = 1 / sqrt(features)

    Entries are independent, so E |R x|^2 = |x|^2. `size` may exceed `features`. Drawn by `seed` alone: positions of the
    entries that are not zero as sums of geometric gaps, so nothing of the full size is ever made. Memory: about
    size * sqrt(features) entries. Source: Achlioptas 2003; Li, Hastie and Church 2006.
    """

    def __init__(self, features: int, size: int, seed: int) -> None:
        if features < 1 or size < 1:
            raise ValueError(f"a projection needs at least 1 feature and 1 column; got {features} and {size}")
        self.features, self.size, self.seed = features, size, seed
        self.density = 1.0 / math.sqrt(features)
        random = np.random.default_rng(seed)
        places = _successes(random, features * size, self.density)
        signs = 2.0 * random.integers(0, 2, size=len(places)) - 1.0
        self.rows, self.columns = np.divmod(places, features)
        self.values = signs * math.sqrt(1.0 / (self.density * size))

    def matrix(self, like: Tensor) -> Tensor:
        """R as a sparse tensor (size, features) of the precision of `like`, where that lies."""
        starts = torch.from_numpy(np.searchsorted(self.rows, np.arange(self.size + 1)))
        return _csr(starts, self.columns, self.values, (self.size, self.features), like)

    def __call__(self, features: Tensor) -> Tensor:
        """Projected features (n, size) of features (n, features)."""
        if features.shape[-1] != self.features:
            raise ValueError(f"the projection takes {self.features} features; got {tuple(features.shape)}")
        return (self.matrix(features) @ features.T.contiguous()).T

    def back(self, weights: Tensor) -> Tensor:
        """Weights (features, units) on the features themselves of weights (size, units) on projected ones: R' w."""
        order = np.argsort(self.columns, kind="stable")
        starts = torch.from_numpy(np.searchsorted(self.columns[order], np.arange(self.features + 1)))
        transposed = (self.features, self.size)
        return _csr(starts, self.rows[order], self.values[order], transposed, weights) @ weights.contiguous()


def _successes(random: np.random.Generator, trials: int, probability: float) -> np.ndarray:
    """Places of the successes among independent trials, in rising order."""
    batch = max(1, math.ceil(1.05 * trials * probability))
    parts, last = [], -1
    while last < trials:
        places = last + np.cumsum(random.geometric(probability, size=batch))
        parts.append(places)
        last = int(places[-1])
    places = np.concatenate(parts)
    return places[places < trials]


def _csr(starts: Tensor, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int], like: Tensor) -> Tensor:
    """A sparse matrix by rows; torch's notice that these are in beta is not passed on."""
    entries = torch.from_numpy(values).to(like)
    places = torch.from_numpy(columns).to(like.device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts.to(like.device), places, entries, size=shape, check_invariants=False)
