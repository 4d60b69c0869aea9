"""Scores of digital twins as pure functions on arrays: numbers in, numbers out.

``responses`` are always (stimuli, units). Numpy arrays and torch tensors are accepted; arrays come back in
the caller's kind, scalars as floats, and everything is computed in float64. Torch is never imported, scipy
only when a function that needs it is asked for. A new metric is a new file and a line in ``_HOME``.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

VERSIONS: dict[str, int] = {
    "prediction": 2,
    "interval": 1,
    "invariance": 2,
    "invariance_alignment": 2,
    "dimensionality": 2,
    "transfer": 1,
    "transfer_brain": 2,
    "feature_transfer": 2,
    "feve": 1,
    "likelihood": 1,
    "conditioned": 2,
    "nonlinearity": 1,
    "invariance-battery": 1,
    "dimensionality-battery": 1,
    "receptive-field": 1,
    "search": 2,
    "rsa": 1,
}
"""Version of every headline score, raised only when its numbers change; part of a score's key."""

_HOME: dict[str, str] = {
    "correlation": "prediction",
    "correlation_to_average": "prediction",
    "feve": "prediction",
    "finite_mean": "prediction",
    "normalized_correlation": "prediction",
    "explainable_variance": "ceilings",
    "noise_ceiling": "ceilings",
    "noise_variance_of_mean": "ceilings",
    "oracle": "ceilings",
    "split_half": "ceilings",
    "trial_noise_variance": "ceilings",
    "marginal_log_likelihood": "likelihood",
    "poisson_information": "likelihood",
    "poisson_log_likelihood": "likelihood",
    "zero_inflated_gamma_log_likelihood": "likelihood",
    "zero_inflated_gamma_moments": "likelihood",
    "chance_corrected": "invariance",
    "object_decoding": "invariance",
    "position_tolerance": "invariance",
    "rotation_decoding": "rotation_battery",
    "mutual_information": "discriminability",
    "object_discriminability": "discriminability",
    "ReceptiveField": "receptive_field",
    "fit_receptive_field": "receptive_field",
    "receptive_field_area": "receptive_field",
    "receptive_fields": "receptive_field",
    "components_for_variance": "dimensionality",
    "cross_validated_participation_ratio": "dimensionality",
    "cross_validated_spectrum": "dimensionality",
    "participation_ratio": "dimensionality",
    "power_law_exponent": "dimensionality",
    "spectrum_slope": "dimensionality",
    "count_duplicates": "intrinsic_dimension",
    "gride": "intrinsic_dimension",
    "levina_bickel": "intrinsic_dimension",
    "local_dimension": "intrinsic_dimension",
    "two_nn": "intrinsic_dimension",
    "DimensionCurve": "dimension_curves",
    "DimensionInterval": "dimension_curves",
    "dimension_curve": "dimension_curves",
    "equalised": "dimension_curves",
    "noise_matched": "dimension_curves",
    "pooled": "dimension_curves",
    "shuffled_dimension": "dimension_curves",
    "subsample_interval": "dimension_curves",
    "DepthProfile": "dimensionality_match",
    "DimensionalityAlignment": "dimensionality_match",
    "closeness": "dimensionality_match",
    "collapse_index": "dimensionality_match",
    "depth_curve_similarity": "dimensionality_match",
    "depth_profile": "dimensionality_match",
    "dimensionality_alignment": "dimensionality_match",
    "Alignment": "alignment",
    "align": "alignment",
    "CaptionTransfer": "captions",
    "caption_transfer": "captions",
    "CrossModalTransfer": "transfer",
    "Modality": "transfer",
    "cross_modal_transfer": "transfer",
    "block_permutation_p": "permutation",
    "rdm": "similarity",
    "rsa": "similarity",
    "rsr": "similarity",
    "delayed": "timing",
    "lanczos": "timing",
    "trim": "timing",
    "JacobianNonlinearity": "nonlinearity",
    "jacobian_nonlinearity": "nonlinearity",
    "jne": "nonlinearity",
    "jne_per_sample": "nonlinearity",
    "jne_streaming": "nonlinearity",
    "mean_deviation": "nonlinearity",
    "ResidualJacobian": "jacobians",
    "residual_mlp_factors": "jacobians",
    "benjamini_hochberg": "multiple_comparisons",
    "holm": "multiple_comparisons",
    "bootstrap_correlation": "bootstrap",
    "bootstrap_interval": "bootstrap",
    "group_weights": "bootstrap",
    "hierarchical_bootstrap": "bootstrap",
    "DepthMapTest": "depth_map",
    "depth_map_p": "depth_map",
    "AREA_HIERARCHY": "hierarchy",
    "AREA_ORDERS": "hierarchy",
    "HierarchyTau": "hierarchy",
    "Slope": "hierarchy",
    "hierarchy_tau": "hierarchy",
    "kendall_tau": "hierarchy",
    "permutation_p": "hierarchy",
    "slope_interval": "hierarchy",
    "area_activity": "synthesis",
    "diversity": "synthesis",
    "gain_over_best": "synthesis",
    "gain_over_unguided": "synthesis",
    "image_spectrum_slope": "synthesis",
    "off_target_ratio": "synthesis",
    "rms_contrast": "synthesis",
    "transfer_gain": "synthesis",
    "MeanFixations": "visual_search",
    "Polarity": "visual_search",
    "ReactionTimeError": "visual_search",
    "asymmetry_index": "visual_search",
    "mean_fixations": "visual_search",
    "polarity_count": "visual_search",
    "reaction_time": "visual_search",
    "reaction_time_error": "visual_search",
    "search_slope": "visual_search",
    "slope_correlation": "visual_search",
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
