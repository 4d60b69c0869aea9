"""Jacobians a block at a time: the closed form of a residual MLP, autograd for any other torch model.

Nothing here holds samples x features x units. Torch is imported only to differentiate a torch model; arrays
stay in the kind, precision and place of the model, sums over samples are taken in float64.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from metrics._arrays import Array, is_tensor

TILE = 2**22
"""Numbers in one block of a stream unless the caller chooses its sizes: 16 MB in float32, quick to reuse."""

HELD = 2**24
"""Numbers that may be held rather than made a second time: 64 MB in float32."""


class JacobianFactors(Protocol):
    """A model whose Jacobian at sample i is left_i @ right, with one ``right`` for all samples."""

    def jacobian_factors(self, inputs: Array) -> tuple[Array, Array]:
        """left (samples, features, hidden) at these inputs and right (hidden, units)."""
        ...


def residual_mlp_factors(weights: Sequence[Array], slopes: Sequence[Array]) -> tuple[Array, Array]:
    """Closed-form Jacobians of a residual MLP as left_i @ right, without differentiating anything.

    h_1 = phi(x W_1 + b_1), h_k = h_(k-1) + phi(h_(k-1) W_k + b_k), y = h_K W_out + b_out;
    J_i = dy/dx = W_1 D_1 (I + W_2 D_2) ... (I + W_K D_K) W_out with D_k = diag(phi' of layer k at sample i).
    Shapes: weights (features, hidden), then (hidden, hidden) per residual block, then (hidden, units); slopes
    phi' (samples, hidden), one for every weight but the last -> left (samples, features, hidden), the product
    up to the last weight, and right (hidden, units), the last weight. Biases act through the slopes only.
    Edge rule: another number of slopes, or shapes that do not chain, are a ValueError; no residual block is a
    plain two-layer network.
    Source: equation 8 of the JNE paper (arXiv 2510.13688), multiplied out, for any number of blocks.

    >>> left, right = residual_mlp_factors([np.eye(2), 3 * np.eye(2), np.ones((2, 1))], [np.ones((1, 2))] * 2)
    >>> (left[0] @ right).tolist()
    [[4.0], [4.0]]
    """
    layers = [values if is_tensor(values) else np.asarray(values) for values in weights]
    gains = [values if is_tensor(values) else np.asarray(values) for values in slopes]
    if len(layers) < 2 or len(gains) != len(layers) - 1:
        raise ValueError(f"n weights need n - 1 slopes, n at least 2; got {len(layers)} weights, {len(gains)} slopes")
    widths = [layer.shape[-1] for layer in layers[:-1]]
    expected = [(layers[0].shape[0], *widths[:1]), *((widths[0], widths[0]) for _ in widths[1:])]
    shapes = [tuple(layer.shape) for layer in layers[:-1]]
    if shapes != expected or layers[-1].ndim != 2 or layers[-1].shape[0] != widths[0]:
        raise ValueError(f"weights do not chain: {[tuple(layer.shape) for layer in layers]}")
    if any(tuple(gain.shape) != (len(gains[0]), widths[0]) for gain in gains):
        raise ValueError(f"slopes must be (samples, {widths[0]}); got {[tuple(gain.shape) for gain in gains]}")
    left = layers[0] * gains[0][:, None]
    for layer, gain in zip(layers[1:-1], gains[1:], strict=True):
        left = left + _multiply(left, layer) * gain[:, None]
    return left, layers[-1]


@dataclass(frozen=True)
class ResidualJacobian:
    """A residual MLP as ``jne_streaming`` takes it: its weights, and its slopes at given inputs.

    weights: as in ``residual_mlp_factors``. slopes: inputs (samples, features) -> phi' per layer.

    >>> model = ResidualJacobian([np.eye(2), np.ones((2, 1))], lambda x: [1.0 * (x > 0)])
    >>> left, right = model.jacobian_factors(np.array([[1.0, -1.0]]))
    >>> (left[0] @ right).tolist()
    [[1.0], [0.0]]
    """

    weights: Sequence[Array]
    slopes: Callable[[Array], Sequence[Array]]

    def jacobian_factors(self, inputs: Array) -> tuple[Array, Array]:
        """left (samples, features, hidden) and right (hidden, units), see ``residual_mlp_factors``."""
        return residual_mlp_factors(self.weights, self.slopes(inputs))


def _multiply(left: Array, right: Array) -> Array:
    """(samples, features, hidden) @ (hidden, units) as one matrix product."""
    return (left.reshape(-1, left.shape[2]) @ right).reshape(*left.shape[:2], right.shape[1])


def _within(size: int, largest: int) -> int:
    """``size`` kept between 1 and ``largest``."""
    return max(1, min(size, largest))


@dataclass(frozen=True)
class Factored:
    """Blocks of a model with ``jacobian_factors``; ``right`` (hidden, units) is read once."""

    model: JacobianFactors
    inputs: Array
    features: int
    right: Array

    @property
    def example(self) -> Array:
        """An array in the precision of the model."""
        return self.right

    @property
    def units(self) -> int:
        return int(self.right.shape[1])

    def sizes(self, again: bool) -> tuple[int, int]:
        """Samples and units per block; many units where each block of units needs the left factors ``again``."""
        units = _within(HELD // self.features, self.units) if again else 1
        samples = _within(TILE // (self.features * max(units, len(self.right))), len(self.inputs))
        return samples, max(units, _within(TILE // (samples * self.features), self.units))

    def left(self, samples: slice) -> Array:
        """Left factors (samples, features, hidden) of these samples."""
        return detached(self.model.jacobian_factors(self.inputs[samples])[0])

    def times_right(self, left: Array, units: slice) -> Array:
        """(samples, features, hidden) times the columns of these units."""
        return _multiply(left, self.right[:, units])

    def block(self, samples: slice, units: slice) -> Array:
        """Jacobians (samples, features, units) of these samples and units."""
        return self.times_right(self.left(samples), units)


@dataclass(frozen=True)
class Differentiated:
    """Blocks of any torch callable (samples, ...) -> (samples, units) by reverse mode, one backward per unit.

    One backward serves all samples of a block, so the callable must treat every sample by itself: evaluation
    mode, no batch statistics. ``example``: its outputs for one sample.
    """

    model: Callable[[Any], Any]
    inputs: Any
    features: int
    example: Any

    @property
    def units(self) -> int:
        return int(self.example.shape[1])

    def sizes(self, again: bool) -> tuple[int, int]:
        """Samples and units per block; all samples of a block of units can be held wherever one unit's can."""
        samples = _within(TILE // max(self.features, self.units), len(self.inputs))
        rows = len(self.inputs) if len(self.inputs) * self.features <= HELD else samples
        return samples, _within(HELD // (rows * self.features), self.units)

    def block(self, samples: slice, units: slice) -> Any:
        """Jacobians (samples, features, units) of these samples and units, every axis of a sample a feature."""
        import torch

        with torch.enable_grad():
            rows = self.inputs[samples].detach().requires_grad_()
            outputs = self.model(rows)
            columns = [outputs[:, unit].sum() for unit in range(units.start, units.stop)]
            gradients = [torch.autograd.grad(column, rows, retain_graph=True)[0] for column in columns]
        return torch.stack(gradients, dim=-1).reshape(len(rows), self.features, len(gradients))


def blocks_of(model: Any, inputs: Array) -> Factored | Differentiated:
    """How the Jacobians of ``model`` at ``inputs`` are had: by its factors where it has them, else by autograd.

    Edge rule: no sample, a sample without features, or outputs that are not (samples, units) are a ValueError.
    """
    inputs = inputs if is_tensor(inputs) else np.asarray(inputs)
    if inputs.ndim < 2 or not prod(inputs.shape):
        raise ValueError(f"inputs must be (samples, features), at least one of each; got shape {tuple(inputs.shape)}")
    features = prod(inputs.shape[1:])
    if hasattr(model, "jacobian_factors"):
        left, right = model.jacobian_factors(inputs[:1])
        if tuple(left.shape) != (1, features, len(right)):
            raise ValueError(
                f"jacobian_factors must give left (samples, {features}, hidden) and right (hidden, units); "
                f"got {tuple(left.shape)} and {tuple(right.shape)} for one sample"
            )
        return Factored(model, inputs, features, detached(right))
    import torch

    inputs = torch.as_tensor(inputs).detach()
    with torch.no_grad():
        example = model(inputs[:1])
    if example.ndim != 2 or len(example) != 1:
        shape = tuple(example.shape)
        raise ValueError(f"model must map (samples, features) to (samples, units); one sample gave shape {shape}")
    return Differentiated(model, inputs, features, example)


def detached(values: Array) -> Array:
    """``values`` without their autograd graph."""
    return values.detach() if is_tensor(values) else values


def _sum(values: Array) -> Array:
    """Sum over samples in float64, in the kind of ``values``."""
    return values.sum(0, dtype=sys.modules["torch"].float64 if is_tensor(values) else np.float64)


def centred(parts: Callable[[], Iterable[Array]], entries: int) -> tuple[Array, Callable[[], Iterator[Array]]]:
    """The mean over the samples of all parts, and the parts less that mean.

    ``parts`` gives arrays (samples, ...) afresh at every call. Up to ``HELD`` numbers in all they are made
    once and held, beyond that they are made twice: once for the mean, once for the deviations.
    """
    cached = list(parts()) if entries <= HELD else None
    total: Array = 0.0
    count = 0
    for part in cached or parts():
        total, count, kind = total + _sum(part), count + len(part), part.dtype
    mean = (total / count).to(kind) if is_tensor(total) else (total / count).astype(kind)
    return mean, lambda: (part - mean for part in cached or parts())


def slices(total: int, size: int, name: str) -> list[slice]:
    """Consecutive slices of at most ``size`` entries that cover ``total``; a size below 1 is a ValueError.

    >>> slices(5, 2, "units_per_block")
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    if size < 1:
        raise ValueError(f"{name} must be at least 1; got {size}")
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
