"""Other forms of the ridge engine's numbers, which tests compare with refits and with other packages."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from models.linear import ridge
from models.linear.ridge import Decomposition, decompose_features, decompose_kernel

CONVENTIONS = ("relative", "absolute", "shrinkage", "normalised-shrinkage")
"""How an alpha is meant: times the kernel's mean diagonal; as it is; a of singular values S / (S^2 + a^2); a times
the largest singular value."""


def decompose(features: Tensor) -> Decomposition:
    """Decompose features (stimuli, features) in the cheaper of the two forms."""
    if features.shape[0] > features.shape[1] + 1:
        return decompose_features(features)
    return decompose_kernel(features.double() @ features.double().T)


def leave_group_out_residuals(
    parts: Decomposition, responses: Tensor, alphas: Tensor, groups: Sequence[Tensor]
) -> Tensor:
    """Compute residuals (alphas, stimuli, units) of each stimulus under the ridge fit without that stimulus's group.

    residual_g = (I - H)_gg^{-1} (y - H y)_g, the intercept re-estimated without the group. `alphas` are
    absolute (the penalty on |weights|^2); `groups` are index tensors that cover the stimuli once.
    """
    shrink = ridge._shrink(parts, alphas)
    solvers = ridge._solvers(ridge.residual_makers(parts, shrink, groups))
    residuals = responses.new_empty(len(alphas), *responses.shape)
    for places, units, residual in ridge._left_out(parts, responses, shrink, solvers):
        residuals[:, places, units] = residual
    return residuals


def absolute_alpha(value: float, convention: str, parts: Decomposition) -> float:
    """Compute the penalty on |weights|^2 that an alpha of another convention means for these features.

        relative: value * scale;  absolute: value;  shrinkage: value^2;  normalised-shrinkage: (value * s_1)^2

    scale is the mean diagonal of the centred kernel, s_1 the largest singular value of the centred features.
    Source: scikit-learn and himalaya (absolute); ridge_utils of the Huth lab (shrinkage; with its `normalpha`).
    """
    alphas = {
        "relative": value * parts.scale,
        "absolute": value,
        "shrinkage": value**2,
        "normalised-shrinkage": value**2 * float(parts.spectrum.max()),
    }
    return alphas[convention]
