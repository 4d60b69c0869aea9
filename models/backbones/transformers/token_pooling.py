"""From the tokens of a transformer to one map per picture, or one vector per text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from models.linear.projection import SparseProjection


def pool_tokens(
    tokens: Tensor, grid: tuple[int, int], pooling: str, project: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Tokens (stimuli, leading + h * w, channels) as maps: the patches row by row after any leading tokens.

    patches     map (stimuli, channels, h, w) of the patch tokens
    mean, max   over the patch tokens                           -> (stimuli, channels, 1, 1)
    class       the first of the leading tokens                 -> (stimuli, channels, 1, 1)
    projection  all tokens flattened, then `project`            -> (stimuli, size, 1, 1)

    Raises ValueError for fewer tokens than patches, for `class` where no token leads, and for another word.
    """
    patches = grid[0] * grid[1]
    leading = tokens.shape[1] - patches
    if leading < 0 or not patches:
        raise ValueError(f"{tokens.shape[1]} tokens are no grid of {grid[0]} x {grid[1]} patches")
    if pooling == "patches":
        return tokens[:, leading:].transpose(1, 2).unflatten(2, grid)
    if pooling == "class" and not leading:
        raise ValueError("pooling `class` needs a class token, which this network has not: patches, mean or max")
    return _vectors(tokens, leading, pooling, project)[:, :, None, None]


def _vectors(tokens: Tensor, leading: int, pooling: str, project: Callable[[Tensor], Tensor] | None) -> Tensor:
    """One vector per stimulus (stimuli, columns)."""
    if pooling == "mean":
        return tokens[:, leading:].mean(dim=1)
    if pooling == "max":
        return tokens[:, leading:].amax(dim=1)
    if pooling == "class":
        return tokens[:, 0]
    if pooling == "projection" and project is not None:
        return project(tokens.flatten(1))
    raise ValueError(f"pooling must be patches, mean, max, class, or projection with one given; got {pooling!r}")


def pool_texts(tokens: Tensor, mask: Tensor, token: str) -> Tensor:
    """One vector per text (texts, channels) of its tokens (texts, tokens, channels); `mask` is 0 for padding, else 1.

    `first` and `last` are the first and last token that is no padding, on whichever side that lies; `mean` is over all
    of them. Raises ValueError for a text without tokens and for another word.
    """
    counts = mask.sum(dim=1)
    if bool((counts == 0).any()):
        raise ValueError(f"text {int((counts == 0).nonzero()[0])} of these {len(mask)} has no tokens")
    if token == "mean":
        weights = mask.to(tokens.dtype)
        return (tokens * weights[:, :, None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)
    if token not in ("first", "last"):
        raise ValueError(f"token must be first, last or mean; got {token!r}")
    rank = mask.long().cumsum(dim=1) * mask
    target = counts[:, None] if token == "last" else 1
    return tokens[rank == target]


class Pooler:
    """`pool_tokens` by a backbone's parameters `pooling` and `dimensions`; projections are drawn from `seed` alone.

    Blocks of as many numbers share one projection. A map (stimuli, channels, h, w) is pooled as its positions' tokens.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        self.pooling, self.size, self.seed = str(parameters["pooling"]), int(parameters["dimensions"]), seed
        self.projections: dict[int, SparseProjection] = {}

    def tokens(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (stimuli, leading + h * w, channels) as maps."""
        return pool_tokens(tokens, grid, self.pooling, self._project)

    def maps(self, maps: Tensor) -> Tensor:
        """Maps (stimuli, channels, h, w), pooled."""
        high, wide = maps.shape[-2:]
        return pool_tokens(maps.flatten(2).transpose(1, 2), (high, wide), self.pooling, self._project)

    def _project(self, values: Tensor) -> Tensor:
        features = values.shape[1]
        if features not in self.projections:
            self.projections[features] = SparseProjection(features, self.size, self.seed)
        return self.projections[features](values)
