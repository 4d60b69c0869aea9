"""Collinear, constant, tied, repeated input, over the whole registry: no number of any metric is made of rounding.

Driven by ``CASES`` of test_contract. What a metric gives must not change when every number of its input moves by less
than its last digit, nor with the order of stimuli or units.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_contract import CASES, Case, leaves

import metrics

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def repeated(values: np.ndarray) -> np.ndarray:
    """The first half of the rows, each twice."""
    half = np.repeat(values[: (len(values) + 1) // 2], 2, axis=0)
    return half[: len(values)]


DEGENERATE: dict[str, Change] = {
    "constant": lambda values, random: np.full_like(values, 0.1),
    "constant rows": lambda values, random: np.broadcast_to(
        random.uniform(0.1, 0.9, (len(values), *[1] * (values.ndim - 1))), values.shape
    ).copy(),
    "constant columns": lambda values, random: np.broadcast_to(
        random.uniform(0.1, 0.9, (1, *values.shape[1:])), values.shape
    ).copy(),
    "collinear": lambda values, random: np.multiply.outer(
        random.uniform(0.1, 0.9, len(values)), random.uniform(0.1, 0.9, values.shape[1:])
    ),
    "equal columns": lambda values, random: (
        np.repeat(values[:, :1], values.shape[1], axis=1) if values.ndim > 1 else values
    ),
    "equal rows": lambda values, random: repeated(values),
    "ties": lambda values, random: np.round(values) / 3,
    "tiny": lambda values, random: values * 1e-30,
}

NOT_MEASURED = {
    ("object_decoding", 2): "transformations are labels",
    ("rotation_decoding", 2): "rotations are labels",
    ("mean_fixations", 1): "set sizes are labels, of counts",
    ("lanczos", 2): "new times whose spacing is rounding are no times",
    ("permuted_correlation", 3): "orders are whole numbers",
    ("area_order_test", 3): "p is drawn anew where units lie in other bins",
    ("fit_receptive_field", 0): "the centre of a ridge has no place along it",
    ("zero_inflated_gamma_log_likelihood", 1): "a share of 1 is at the end of its range",
    ("zero_inflated_gamma_moments", 0): "a share of 1 is at the end of its range",
}
"""Arguments that rounding may decide over, and why."""

MEASURED = [
    (name, place)
    for name, one in CASES.items()
    for place, value in enumerate(one.arguments)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim and (name, place) not in NOT_MEASURED
]


def numbers(name: str, arguments: list[Any]) -> list[np.ndarray] | str:
    """All numbers of a result, or the words in which the arguments are refused; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            result = getattr(metrics, name)(*arguments, **CASES[name].options)
        except ValueError as error:
            return str(error).split("got")[0].split("holds")[0]
    return [np.asarray(leaf, dtype=float) for leaf in leaves(result) if leaf is not None and not isinstance(leaf, str)]


def replaced(one: Case, place: int, value: np.ndarray) -> list[Any]:
    return [value if at == place else argument for at, argument in enumerate(one.arguments)]


@pytest.mark.parametrize(("name", "place"), MEASURED)
@settings(max_examples=8, deadline=None)
@given(kind=st.sampled_from(sorted(DEGENERATE)), seed=st.integers(0, 10**6))
def test_the_last_digit_of_degenerate_input_decides_nothing(name: str, place: int, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    value = DEGENERATE[kind](CASES[name].arguments[place], random)
    moved = value * (1 + 4e-16 * random.choice([-1, 0, 1], size=value.shape))
    found = numbers(name, replaced(CASES[name], place, value))
    again = numbers(name, replaced(CASES[name], place, np.clip(moved, -np.inf, 1) if value.max() <= 1 else moved))
    assert isinstance(found, str) == isinstance(again, str), f"{found} / {again}"
    for one, two in zip(found, again, strict=True) if not isinstance(found, str) else ():
        assert one.shape == two.shape
        size = np.abs(one[np.isfinite(one)]).max(initial=1e-30)
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-9 * max(size, 1.0), equal_nan=True)


BY_STIMULUS = (
    "correlation",
    "correlation_to_average",
    "feve",
    "area_feve",
    "normalized_correlation",
    "explainable_variance",
    "noise_ceiling",
    "ceiled_correlation",
    "noise_variance_of_mean",
    "oracle",
    "trial_noise_variance",
    "poisson_information",
    "components_for_variance",
    "count_duplicates",
    "cross_validated_participation_ratio",
    "cross_validated_spectrum",
    "participation_ratio",
    "spectrum_slope",
    "gride",
    "levina_bickel",
    "two_nn",
    "jacobian_nonlinearity",
    "jne",
    "mean_deviation",
    "hierarchy_tau",
    "diversity",
)
"""Metrics whose first two arguments have stimuli (samples, sessions) as rows, of which the order says nothing."""

PER_ROW = ("hierarchy_tau", "jacobian_nonlinearity")
"""Of these, arrays of the result may follow the rows: only numbers are compared."""


@pytest.mark.parametrize("name", BY_STIMULUS)
@settings(max_examples=8, deadline=None)
@given(kind=st.sampled_from([*sorted(DEGENERATE), "as it is"]), seed=st.integers(0, 10**6))
def test_the_order_of_stimuli_says_nothing(name: str, kind: str, seed: int) -> None:
    random, arguments = np.random.default_rng(seed), list(CASES[name].arguments)
    if kind != "as it is":
        arguments[0] = DEGENERATE[kind](arguments[0], random)
    order, count = random.permutation(len(arguments[0])), len(arguments[0])
    moved = [
        value[order] if isinstance(value, np.ndarray) and value.ndim > 1 and len(value) == count else value
        for value in arguments
    ]
    found, again = numbers(name, arguments), numbers(name, moved)
    assert isinstance(found, str) == isinstance(again, str), f"{found} / {again}"
    for one, two in zip(found, again, strict=True) if not isinstance(found, str) else ():
        if not (name in PER_ROW and one.ndim):
            np.testing.assert_allclose(two, one, rtol=1e-6, atol=1e-9, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 4), min_size=3, max_size=9),
    factor=st.sampled_from([0.1, 1 / 3, 0.7, 1e5 / 7]),
    steps=st.integers(1, 50),
)
def test_tau_of_values_that_are_tied_but_for_rounding_is_that_of_the_whole_numbers(
    values: list[int], factor: float, steps: int
) -> None:
    """The same numbers, summed in many small steps."""
    whole, order = np.array(values, dtype=float), np.arange(len(values))
    summed = np.array([sum([value * factor / steps] * steps) for value in values])
    expected = metrics.kendall_tau(whole, order)
    assert metrics.kendall_tau(summed, order) == pytest.approx(expected, nan_ok=True)
    assert metrics.hierarchy_tau([summed], order).tau[0] == pytest.approx(expected, nan_ok=True)
    assert metrics.area_order_from_errors(summed, np.ones(len(values)), order).tau == pytest.approx(
        expected, nan_ok=True
    )
