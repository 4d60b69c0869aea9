"""What every public metric promises, over the whole registry: its text, its examples, its kinds, its NaN.

A new function needs one line in ``CASES``; a public name without one fails here. All example numbers are
multiples of 1/64, exact in float32, so that float32 input has to give the very result of float64.
"""

import doctest
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import numpy as np
import pytest
import torch

import metrics
from metrics.transfer.cross_modal import Modality

KINDS = ("numpy float32", "numpy float64", "torch float32", "torch float64")


@dataclass(frozen=True)
class Case:
    """Arguments of a call, the arguments that must give NaN (None: no such input), and how exact it has to be."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]
    broken: tuple[Any, ...] | None
    rtol: float


def case(*arguments: Any, broken: tuple[Any, ...] | None = None, rtol: float = 1e-12, **options: Any) -> Case:
    """One line of ``CASES``. ``broken`` must give NaN in the first number, or in unit 0 only of the first array."""
    return Case(arguments, options, broken, rtol)


def grid(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers rounded to multiples of 1/64."""
    return np.round(np.random.default_rng(seed).normal(size=shape) * 64) / 64


def held(values: np.ndarray) -> np.ndarray:
    """The same with unit 0 constant."""
    changed = values.copy()
    changed[:, 0] = 3.0
    return changed


def flat(values: np.ndarray) -> np.ndarray:
    """All of it constant."""
    return np.full_like(values, 3.0)


def with_gaps(values: np.ndarray) -> np.ndarray:
    """A repeat missing here and there."""
    return np.where(np.random.default_rng(9).random(values.shape) < 0.1, np.nan, values)


def steady(jacobians: np.ndarray) -> np.ndarray:
    """Jacobians (samples, features, units) of which unit 0 has the same at every sample."""
    changed = jacobians.copy()
    changed[:, :, 0] = jacobians[0, :, 0]
    return changed


def slopes(inputs: Any) -> list[Any]:
    """Slopes of the one hidden layer of ``MLP``, for arrays and tensors alike."""
    return [inputs * inputs + 1.0]


def look(frames: np.ndarray, seen: tuple[bool, ...] = (True, True)) -> np.ndarray:
    """Rates of two units that see a blob each, or nothing."""
    return frames.reshape(len(frames), -1) @ (BLOBS.reshape(2, -1) * np.array(seen)[:, None]).T


P = grid(20, 4)
Y = P + grid(20, 4, seed=1)
R = with_gaps(P[:, :, None] + grid(20, 4, 5, seed=2))
COUNTS = with_gaps(np.random.default_rng(3).poisson(2.0, size=(20, 4, 3)).astype(float))
RATE = np.abs(P) + 0.5
SHARE = np.round(np.random.default_rng(4).uniform(8, 56, size=(20, 4))) / 64
SHAPE = np.array([0.5, 1.0, 2.0, 3.0])
LOGS = -np.abs(grid(6, 20, 4, seed=5))
OBJECTS, VIEWS = np.repeat(np.arange(3), 8), np.tile(np.arange(8) * 45.0, 3)
SEEN = 2 * np.eye(3, 6)[OBJECTS] + grid(24, 6)
CLOUD = grid(150, 5, seed=6)
GROUPS = np.repeat(np.arange(5), 4)
AREAS = ["V1", "LM", "RL", "V1"] * 5
JACOBIANS = grid(7, 3, 4, seed=7)
MLP = metrics.ResidualJacobian([grid(3, 3), grid(3, 4)], slopes)
LINEAR = metrics.ResidualJacobian([grid(3, 3), np.hstack([np.zeros((3, 1)), grid(3, 3)])], slopes)
CURVE = np.array([2.0, 4.0, 8.0, 3.0])
HEARD, SEEN_TOO = (Modality(grid(30, 3, seed=s), grid(30, 4, seed=s + 1), np.arange(30) % 3) for s in (10, 12))
SILENT = replace(HEARD, responses=held(HEARD.responses))
FILMS = grid(3, 3, 12, 16, seed=16)
PAIRS = grid(20, 3, seed=14), grid(20, 3, seed=15)
ROW, COLUMN = np.indices((12, 16))
BLOBS = np.stack([np.exp(-((ROW - 5.0) ** 2 + (COLUMN - place) ** 2) / 4) for place in (6, 9)])
NAN = float("nan")

CASES: dict[str, Case] = {
    # prediction
    "correlation": case(P, Y, broken=(held(P), Y)),
    "correlation_to_average": case(P, R, broken=(held(P), R)),
    "feve": case(P, R, broken=(P, held(R))),
    "finite_mean": case(P[0], broken=(np.full(3, NAN),)),
    "normalized_correlation": case(P, R, broken=(held(P), R)),
    # ceilings
    "ceiled_correlation": case(P, R, broken=(P, R[:, :, :1])),
    "explainable_variance": case(R, broken=(held(R),)),
    "noise_ceiling": case(R, broken=(held(R),)),
    "noise_variance_of_mean": case(R, broken=(np.where(np.arange(4)[:, None] == 0, NAN, R),)),
    "oracle": case(R, broken=(held(R),)),
    "split_half": case(R, splits=12, broken=(held(R),)),
    "trial_noise_variance": case(R, broken=(np.where(np.arange(4)[:, None] == 0, NAN, R),)),
    # likelihood
    "marginal_log_likelihood": case(LOGS, broken=(np.where(np.arange(4) == 0, NAN, LOGS),)),
    "poisson_information": case(COUNTS, RATE, broken=(np.where(np.arange(4)[:, None] == 0, 0.0, COUNTS), RATE)),
    "poisson_log_likelihood": case(COUNTS, RATE, broken=(COUNTS, np.where(np.arange(4) == 0, 0.0, RATE))),
    "zero_inflated_gamma_log_likelihood": case(
        COUNTS, SHARE, RATE, SHAPE, broken=(COUNTS, SHARE, RATE, np.array([0.0, 1, 1, 1]))
    ),
    "zero_inflated_gamma_moments": case(SHARE, RATE, SHAPE, broken=(SHARE, RATE, np.array([0.0, 1, 1, 1]))),
    # invariance
    "chance_corrected": case(0.5, 4),
    "object_decoding": case(SEEN, OBJECTS, VIEWS),
    "position_tolerance": case(SEEN, OBJECTS, np.tile([0, 5], 12)),
    "rotation_decoding": case(SEEN, OBJECTS, VIEWS, repetitions=3),
    "object_discriminability": case(SEEN, OBJECTS, np.arange(24) // 2, folds=4, repetitions=2),
    "mutual_information": case(np.array([[5.0, 1.0], [0.0, 4.0]]), broken=(np.zeros((2, 2)),)),
    # receptive fields
    "fit_receptive_field": case(np.round(BLOBS[0] * 64) / 64, broken=(np.ones((12, 16)),)),
    "receptive_field_area": case(look, (12, 16), frames=500, broken=(partial(look, seen=(False, True)), (12, 16))),
    "receptive_fields": case(look, (12, 16), frames=20),
    # dimensionality
    "components_for_variance": case(P, broken=(flat(P),)),
    "count_duplicates": case(P),
    "cross_validated_participation_ratio": case(P, P + grid(20, 4, seed=8) / 8, broken=(flat(P), flat(P))),
    "cross_validated_spectrum": case(P, Y),
    "local_dimension": case(CLOUD, rtol=1e-9),
    "noise_matched": case(P, SHARE[0]),
    "pooled": case(grid(5, 4, 3, 3)),
    "power_law_exponent": case(np.array([8.0, 4.0, 2.0, 0.5, 0.25]), low=1, high=5, broken=(np.ones(2),)),
    "equalised": case(P, CLOUD),
    "dimension_curve": case(P, metrics.participation_ratio, (5, 10), draws=3),
    "dimension_at_size": case(P, metrics.participation_ratio, 2, broken=(flat(P), metrics.participation_ratio, 2)),
    "depth_dimensions": case([P, CLOUD], metrics.participation_ratio, 2),
    "shuffled_dimension": case(P, metrics.participation_ratio, draws=3),
    "subsample_interval": case(P, metrics.participation_ratio, draws=5, broken=(flat(P), metrics.participation_ratio)),
    "participation_ratio": case(P, broken=(flat(P),)),
    "spectrum_slope": case(CLOUD, low=1, high=5, broken=(flat(CLOUD),)),
    "gride": case(CLOUD, scales=(1, 4), broken=(flat(CLOUD),)),
    "levina_bickel": case(CLOUD, broken=(flat(CLOUD),)),
    "two_nn": case(CLOUD, broken=(flat(CLOUD),)),
    "closeness": case(5.0, 10.0, broken=(0.0, 10.0)),
    "collapse_index": case(CURVE, broken=(CURVE[:2],)),
    "depth_curve_similarity": case(CURVE, CURVE[::-1].copy(), broken=(CURVE[:2], CURVE)),
    "depth_profile": case(CURVE, broken=(CURVE[:2],)),
    "dimensionality_alignment": case(CURVE, CURVE[::-1].copy(), broken=(CURVE * [0, 1, 1, 1], CURVE)),
    # transfer
    "align": case(P, Y, CLOUD[:, :4]),
    "caption_transfer": case(P, Y, np.arange(14), np.arange(14, 20), broken=(flat(P), Y, np.arange(14), [14, 15, 16])),
    "cross_modal_transfer": case(HEARD, SEEN_TOO, PAIRS, block=1, permutations=19, broken=(SILENT, SEEN_TOO, PAIRS)),
    "block_permutation_p": case(P, Y, 2, 19, broken=(held(P), Y, 2, 19)),
    "delayed": case(P, (0, 1), GROUPS),
    "lanczos": case(P, np.arange(20) / 4, np.arange(5.0)),
    "trim": case(["a"] * 4 + ["b"] * 3, 1, 1),
    # similarity
    "rdm": case(P, rtol=1e-9),
    "rsa": case(grid(20, 20), grid(20, 20, seed=1), broken=(np.ones((20, 20)), grid(20, 20))),
    "rsr": case(grid(20, 20), grid(2, 20, 20, seed=1), broken=(np.ones((20, 20)), grid(2, 20, 20)), rtol=1e-9),
    # nonlinearity
    "jacobian_nonlinearity": case(JACOBIANS, rtol=1e-5, broken=(steady(JACOBIANS),)),
    "jne": case(JACOBIANS, rtol=1e-5, broken=(steady(JACOBIANS),)),
    "jne_per_sample": case(JACOBIANS, rtol=1e-4, broken=(steady(JACOBIANS),)),
    "jne_streaming": case(MLP, grid(9, 3), rtol=1e-4, broken=(LINEAR, grid(9, 3))),
    "mean_deviation": case(JACOBIANS, rtol=1e-5, broken=(steady(JACOBIANS),)),
    "residual_mlp_factors": case([grid(3, 3), grid(3, 4)], [grid(9, 3)], rtol=1e-5),
    # hierarchy
    "area_feve": case(P, R, broken=(P, np.zeros_like(R))),
    "area_order_from_errors": case(
        CURVE, SHARE[:4, 0] / 4, np.arange(4.0), broken=(flat(CURVE), CURVE, np.arange(4.0))
    ),
    "area_order_test": case(P[:, 0], AREAS, ["V1", "LM", "RL"], P[:, 1], permutations=49, replicates=49),
    "benjamini_hochberg": case(SHARE[:, 0], broken=(np.array([NAN, 0.25, 0.5]),)),
    "bootstrap_correlation": case(P, Y, GROUPS, metrics.group_weights(GROUPS, replicates=6) * 1.0),
    "bootstrap_interval": case(P[:, 0], broken=(np.full(3, NAN),)),
    "group_weights": case(GROUPS, replicates=6),
    "holm": case(SHARE[:, 0], broken=(np.array([NAN, 0.25, 0.5]),)),
    "group_orders": case(GROUPS, permutations=3),
    "model_confidence_set": case(P[:6].copy(), P[:6, 0].copy(), broken=(P[:6], np.where(np.arange(6) == 0, NAN, 1.0))),
    "permuted_correlation": case(P, Y, GROUPS, np.tile(np.arange(len(np.unique(GROUPS))), (2, 1)) * 1.0),
    "hierarchical_bootstrap": case(P[:, 0], [GROUPS, np.arange(20)], replicates=6),
    "depth_map_p": case(P[:3], np.array([0, 1, 2])),
    "hierarchy_tau": case(P, np.arange(4.0), broken=(np.where(np.arange(20)[:, None] == 0, 3.0, P), np.arange(4.0))),
    "kendall_tau": case(CURVE, np.arange(4.0), broken=(flat(CURVE), np.arange(4.0))),
    "permutation_p": case(0.5, P[:, 0], broken=(NAN, P[:, 0])),
    "slope_interval": case(P, np.arange(4.0), broken=(P, np.ones(4))),
    # synthesis
    "area_activity": case(P, Y, broken=(P[:1], flat(P))),
    "diversity": case(P, broken=(P[:1],)),
    "gain_over_best": case(P[:3, 0], P[:, 1], broken=(P[:, 0], P[:3, 1])),
    "gain_over_unguided": case(P[:, 0], P[:, 1], broken=(P[:, 0], np.full(20, NAN))),
    "image_spectrum_slope": case(FILMS, broken=(FILMS * (np.arange(3) > 0)[:, None, None, None],)),
    "off_target_ratio": case(P[:, 0] ** 2, P.T, broken=(-(P[:, 0] ** 2), P.T)),
    "rms_contrast": case(FILMS, broken=(np.where(np.arange(3)[:, None, None, None] == 0, NAN, FILMS),)),
    "transfer_gain": case(P, Y, broken=(P[:0], Y[:0])),
    # visual search
    "asymmetry_index": case(7.5, 0.75, broken=(NAN, 1.0)),
    "mean_fixations": case(np.array([1.0, 3.0, 2.0, NAN]), np.array([4.0, 4.0, 8.0, 8.0])),
    "polarity_count": case(CURVE, CURVE[::-1].copy()),
    "reaction_time": case(CURVE, broken=(np.array([NAN, 1.0, 2.0]),)),
    "reaction_time_error": case(CURVE, CURVE[::-1].copy(), broken=(np.array([NAN]), np.array([1.0]))),
    "search_slope": case(CURVE, CURVE[::-1].copy(), broken=(np.ones(4), CURVE)),
    "slope_correlation": case(CURVE, CURVE[::-1].copy(), broken=(flat(CURVE), CURVE)),
}


FUNCTIONS = sorted(name for name in metrics.__all__ if name == name.lower())
"""Public functions; classes and constants, told by their capitals, have no case."""

FILES = [file.name for file in walk_packages(metrics.__path__, "metrics.") if not file.ispkg]


def convert(value: Any, kind: str) -> Any:
    """``value`` with its arrays, however deep, as arrays or tensors of this precision; labels keep their type."""
    if isinstance(value, np.ndarray):
        array = value.astype(kind.split()[1]) if value.dtype.kind == "f" else value.copy()
        return torch.from_numpy(array.copy()) if kind.startswith("torch") else array
    if isinstance(value, list | tuple):
        return type(value)(convert(part, kind) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: convert(getattr(value, field.name), kind) for field in fields(value)})
    return value


def leaves(value: Any) -> Iterator[Any]:
    """The numbers and arrays inside lists, tuples, dicts and dataclasses, in order."""
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def arrays(value: Any) -> list[Any]:
    """Only the arrays and tensors among the leaves."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, np.ndarray | torch.Tensor)]


def test_every_public_function_has_a_case_and_every_case_a_function() -> None:
    missing, stale = sorted(set(FUNCTIONS) - set(CASES)), sorted(set(CASES) - set(FUNCTIONS))
    assert not missing, f"add one line to CASES in {__file__} for: {', '.join(missing)}"
    assert not stale, f"no public functions any more, drop them from CASES: {', '.join(stale)}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring_states_formula_shapes_edge_rule_source_and_example(name: str) -> None:
    function: Callable[..., Any] = getattr(metrics, name)
    assert function.__module__.startswith("metrics.")
    prose, _, example = (inspect.getdoc(function) or "").partition(">>>")
    result = inspect.signature(function).return_annotation
    formulas = prose.split("Shapes:")[0] + ((inspect.getdoc(result) or "") if is_dataclass(result) else "")
    found = {
        "a formula, or the ``name`` that states it, before the shapes": re.search(r"[=/^#]| [-+*] |``", formulas),
        "Shapes:": "Shapes:" in prose,
        "Edge rule:": re.search("edge rules?", prose, re.IGNORECASE),
        "Source:": re.search("source:", prose, re.IGNORECASE),
        "a >>> example that calls it": re.search(rf"\b{name}\(", example),
    }
    lacking = [promise for promise, there in found.items() if not there]
    assert not lacking, f"the docstring of metrics.{name} lacks {'; '.join(lacking)}"


@pytest.mark.parametrize("file", FILES)
def test_examples_run_and_give_what_they_print(file: str) -> None:
    result = doctest.testmod(import_module(file))
    assert not result.failed, f"{result.failed} of {result.attempted} examples in {file} give something else"
    assert result.attempted, f"{file} has no example"


def check_same(reached: Any, wanted: Any, array: type, one: Case, where: str) -> None:
    """A leaf of a result against that of float64 numpy input: same number, and an array of the right kind."""
    if isinstance(wanted, np.ndarray):
        assert isinstance(reached, array), f"{where} gave {type(reached).__name__}"
        np.testing.assert_allclose(np.asarray(reached), wanted, one.rtol, one.rtol, err_msg=where)
    else:
        assert type(reached) in (float, int, bool, str, type(None)), f"{where} gave {type(reached)}, not a number"
        close = isinstance(wanted, float) and np.isclose(reached, wanted, one.rtol, one.rtol, equal_nan=True)
        assert close or reached == wanted, f"{where} gave {reached}, not {wanted}"


@pytest.mark.parametrize("name", CASES)
def test_every_kind_gives_the_same_numbers_in_the_callers_kind_and_is_left_as_it_was(name: str) -> None:
    one, function = CASES[name], getattr(metrics, name)
    expected = list(leaves(function(*convert(one.arguments, "numpy float64"), **one.options)))
    for kind in KINDS:
        given, kept, where = convert(one.arguments, kind), convert(one.arguments, kind), f"{name} of {kind}"
        found = list(leaves(function(*given, **one.options)))
        for after, before in zip(arrays(given), arrays(kept), strict=True):
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before), f"{where} changed its argument")
        array = torch.Tensor if kind.startswith("torch") and arrays(one.arguments) else np.ndarray
        for reached, wanted in zip(found, expected, strict=True):
            check_same(reached, wanted, array, one, where)


@pytest.mark.parametrize("name", [name for name, one in CASES.items() if one.broken is not None])
def test_what_has_no_value_is_nan_and_never_a_number(name: str) -> None:
    one, function = CASES[name], getattr(metrics, name)
    sound = next(leaves(function(*one.arguments, **one.options)))
    reached = next(leaves(function(*(one.broken or ()), **one.options)))
    assert np.isfinite(sound).all(), f"{name} is not finite for its own example: {sound}"
    if isinstance(reached, np.ndarray):
        assert np.isnan(reached[..., 0]).all(), f"{name} gave {reached[..., 0]} where NaN is due"
        assert np.isfinite(reached[..., 1:]).all(), f"{name} spread NaN to other units: {reached}"
    else:
        assert np.isnan(reached), f"{name} gave {reached} where NaN is due"
