"""Scores of digital twins as pure functions on arrays: numbers in, numbers out.

``responses`` are always (stimuli, units). Numpy arrays and torch tensors are accepted; arrays come back in
the caller's kind, scalars as floats, and everything is computed in float64. Torch is never imported, scipy
only when a function that needs it is asked for. A new metric is a new file and a line in ``_HOME``.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

VERSIONS: dict[str, int] = {
    "prediction": 1,
    "invariance": 1,
    "invariance_alignment": 1,
    "dimensionality": 1,
    "transfer": 1,
    "transfer_brain": 1,
    "feature_transfer": 1,
}
"""Version of every headline score, raised only when its numbers change; part of a score's key."""

_HOME: dict[str, str] = {
    "correlation": "prediction",
    "correlation_to_average": "prediction",
    "normalized_correlation": "prediction",
    "explainable_variance": "ceilings",
    "noise_ceiling": "ceilings",
    "noise_variance_of_mean": "ceilings",
    "chance_corrected": "invariance",
    "object_decoding": "invariance",
    "DimensionalityAlignment": "dimensionality",
    "closeness": "dimensionality",
    "collapse_index": "dimensionality",
    "dimensionality_alignment": "dimensionality",
    "participation_ratio": "dimensionality",
    "two_nn": "dimensionality",
    "Alignment": "transfer",
    "CrossModalTransfer": "transfer",
    "align": "transfer",
    "aligned_prediction": "transfer",
    "cross_modal_transfer": "transfer",
    "bootstrap_correlation": "hierarchy",
    "bootstrap_interval": "hierarchy",
    "group_weights": "hierarchy",
    "kendall_tau": "hierarchy",
    "permutation_p": "hierarchy",
}
"""The file in which every public name lives."""

__all__ = ["VERSIONS", *_HOME]


def __getattr__(name: str) -> Any:
    """Import the file of a public name on first use; an unknown name answers with its nearest match."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    near = get_close_matches(name, _HOME, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
