"""Scores of digital twins as pure functions on arrays: numbers in, numbers out.

``responses`` are always (stimuli, units). Numpy arrays and torch tensors are accepted; arrays come back in
the caller's kind, scalars as floats, and everything is computed in float64. Neither torch nor scipy is imported
before a function needs it. A new metric is a function in the folder it belongs to, and its name here.
"""

from metrics.dimensionality.curves import (
    DimensionCurve,
    DimensionInterval,
    dimension_curve,
    equalised,
    noise_matched,
    pooled,
    shuffled_dimension,
    subsample_interval,
)
from metrics.dimensionality.depth import DimensionAtSize, depth_dimensions, dimension_at_size
from metrics.dimensionality.intrinsic import count_duplicates, gride, levina_bickel, local_dimension, two_nn
from metrics.dimensionality.linear import (
    components_for_variance,
    cross_validated_participation_ratio,
    cross_validated_spectrum,
    participation_ratio,
    power_law_exponent,
    spectrum_slope,
)
from metrics.dimensionality.match import (
    DepthProfile,
    DimensionalityAlignment,
    closeness,
    collapse_index,
    depth_curve_similarity,
    depth_profile,
    dimensionality_alignment,
)
from metrics.inference.area_order import AreaOrderTest, area_order_from_errors, area_order_test
from metrics.inference.bootstrap import bootstrap_correlation, bootstrap_interval, group_weights, hierarchical_bootstrap
from metrics.inference.confidence_set import ModelConfidenceSet, model_confidence_set
from metrics.inference.depth_map import DepthMapTest, depth_map_p
from metrics.inference.group_permutation import group_orders, permuted_correlation
from metrics.inference.hierarchy import (
    AREA_HIERARCHY,
    AREA_ORDERS,
    HierarchyTau,
    Slope,
    hierarchy_tau,
    kendall_tau,
    permutation_p,
    slope_interval,
)
from metrics.inference.multiple_comparisons import benjamini_hochberg, holm
from metrics.inference.permutation import block_permutation_p
from metrics.invariance.decoding import chance_corrected, object_decoding, position_tolerance
from metrics.invariance.discriminability import mutual_information, object_discriminability
from metrics.invariance.receptive_field import (
    ReceptiveField,
    fit_receptive_field,
    receptive_field_area,
    receptive_fields,
)
from metrics.invariance.rotation import rotation_decoding
from metrics.nonlinearity.dispersion import (
    JacobianNonlinearity,
    jacobian_nonlinearity,
    jne,
    jne_per_sample,
    jne_streaming,
    mean_deviation,
)
from metrics.nonlinearity.jacobians import ResidualJacobian, residual_mlp_factors
from metrics.prediction.accuracy import (
    area_feve,
    correlation,
    correlation_to_average,
    feve,
    finite_mean,
    normalized_correlation,
)
from metrics.prediction.ceiled import CeiledCorrelation, ceiled_correlation
from metrics.prediction.ceilings import (
    explainable_variance,
    noise_ceiling,
    noise_variance_of_mean,
    oracle,
    split_half,
    trial_noise_variance,
)
from metrics.prediction.likelihood import (
    marginal_log_likelihood,
    poisson_information,
    poisson_log_likelihood,
    zero_inflated_gamma_log_likelihood,
    zero_inflated_gamma_moments,
)
from metrics.prediction.similarity import rdm, rsa, rsr
from metrics.synthesis import (
    area_activity,
    diversity,
    gain_over_best,
    gain_over_unguided,
    image_spectrum_slope,
    off_target_ratio,
    rms_contrast,
    transfer_gain,
)
from metrics.timing import delayed, lanczos, trim
from metrics.transfer.alignment import Alignment, align
from metrics.transfer.captions import CaptionTransfer, caption_transfer
from metrics.transfer.cross_modal import CrossModalTransfer, Modality, cross_modal_transfer
from metrics.visual_search import (
    MeanFixations,
    Polarity,
    ReactionTimeError,
    asymmetry_index,
    mean_fixations,
    polarity_count,
    reaction_time,
    reaction_time_error,
    search_slope,
    slope_correlation,
)

__all__ = [
    "AREA_HIERARCHY",
    "AREA_ORDERS",
    "Alignment",
    "AreaOrderTest",
    "CaptionTransfer",
    "CeiledCorrelation",
    "CrossModalTransfer",
    "DepthMapTest",
    "DepthProfile",
    "DimensionAtSize",
    "DimensionCurve",
    "DimensionInterval",
    "DimensionalityAlignment",
    "HierarchyTau",
    "JacobianNonlinearity",
    "MeanFixations",
    "Modality",
    "ModelConfidenceSet",
    "Polarity",
    "ReactionTimeError",
    "ReceptiveField",
    "ResidualJacobian",
    "Slope",
    "align",
    "area_activity",
    "area_feve",
    "area_order_from_errors",
    "area_order_test",
    "asymmetry_index",
    "benjamini_hochberg",
    "block_permutation_p",
    "bootstrap_correlation",
    "bootstrap_interval",
    "caption_transfer",
    "ceiled_correlation",
    "chance_corrected",
    "closeness",
    "collapse_index",
    "components_for_variance",
    "correlation",
    "correlation_to_average",
    "count_duplicates",
    "cross_modal_transfer",
    "cross_validated_participation_ratio",
    "cross_validated_spectrum",
    "delayed",
    "depth_curve_similarity",
    "depth_dimensions",
    "depth_map_p",
    "depth_profile",
    "dimension_at_size",
    "dimension_curve",
    "dimensionality_alignment",
    "diversity",
    "equalised",
    "explainable_variance",
    "feve",
    "finite_mean",
    "fit_receptive_field",
    "gain_over_best",
    "gain_over_unguided",
    "gride",
    "group_orders",
    "group_weights",
    "hierarchical_bootstrap",
    "hierarchy_tau",
    "holm",
    "image_spectrum_slope",
    "jacobian_nonlinearity",
    "jne",
    "jne_per_sample",
    "jne_streaming",
    "kendall_tau",
    "lanczos",
    "levina_bickel",
    "local_dimension",
    "marginal_log_likelihood",
    "mean_deviation",
    "mean_fixations",
    "model_confidence_set",
    "mutual_information",
    "noise_ceiling",
    "noise_matched",
    "noise_variance_of_mean",
    "normalized_correlation",
    "object_decoding",
    "object_discriminability",
    "off_target_ratio",
    "oracle",
    "participation_ratio",
    "permutation_p",
    "permuted_correlation",
    "poisson_information",
    "poisson_log_likelihood",
    "polarity_count",
    "pooled",
    "position_tolerance",
    "power_law_exponent",
    "rdm",
    "reaction_time",
    "reaction_time_error",
    "receptive_field_area",
    "receptive_fields",
    "residual_mlp_factors",
    "rms_contrast",
    "rotation_decoding",
    "rsa",
    "rsr",
    "search_slope",
    "shuffled_dimension",
    "slope_correlation",
    "slope_interval",
    "spectrum_slope",
    "split_half",
    "subsample_interval",
    "transfer_gain",
    "trial_noise_variance",
    "trim",
    "two_nn",
    "zero_inflated_gamma_log_likelihood",
    "zero_inflated_gamma_moments",
]
