"""Search slopes, asymmetry and errors against numpy, scipy and the published tables of people and eccNET."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress, pearsonr

from metrics import (
    Polarity,
    asymmetry_index,
    mean_fixations,
    polarity_count,
    reaction_time,
    reaction_time_error,
    search_slope,
    slope_correlation,
)

NAN = float("nan")
CURVES, LIGHTING, CROSSES, BARS = (8, 16, 32), (1, 6, 12), (3, 6, 9), (1, 4, 8, 12)
SIZES = (CURVES, LIGHTING, CROSSES, CROSSES, BARS, BARS)
"""Set sizes of the six experiments."""

HUMAN_EASY = ((510, 516, 529), (427, 432, 472), (645, 780, 915), (541, 583, 625), (415, 438, 441, 444),
              (432, 568, 634, 707))  # fmt: skip
HUMAN_HARD = ((565, 640, 750), (488, 675, 755), (829, 1117, 1405), (573, 672, 771), (432, 547, 553, 558),
              (526, 832, 1084, 1326))  # fmt: skip
"""Human reaction times in ms, rounded to 1 ms; easy and hard for people."""

ECC_EASY = ((1, 1, 1), (1, 1, 1), (1.53, 1.86, 2.31), (1.03, 1.14, 1.31), (1, 1.97, 3.63, 5.33), (1, 1, 1.03, 1.07))
ECC_HARD = ((1.17, 1.37, 1.60), (1, 1.40, 1.37), (2.00, 3.25, 4.31), (1.75, 2.72, 4.11), (1, 1, 1, 1),
            (1, 1.17, 1.40, 1.60))  # fmt: skip
"""Mean fixations of eccNET, rounded to 0.01."""

SLOPES = {
    "human": ((0.8, 4.2, 45, 14, 2.4, 23.7), (7.6, 23.9, 96, 33, 9.9, 71.1)),
    "eccNET": ((0, 0, 32.7, 11.7, 100.4, 1.6), (4.4, 8.1, 97.0, 99.3, 0, 13.9)),
}
"""Published slopes (easy, hard) in ms per item, rounded to 0.1."""

ASYMMETRY = {
    "human": ((0.809, 0.701, 0.362, 0.404, 0.611, 0.500), 0.564),
    "eccNET": ((1.00, 1.00, 0.495, 0.789, -1.00, 0.791), 0.513),
}
"""Published asymmetry of the six experiments, rounded to 0.001, and its mean."""


def _slope_error(sizes: tuple[int, ...], rounding: float) -> float:
    """How far rounding every mean by at most ``rounding`` can move a slope."""
    x = np.array(sizes) - np.mean(sizes)
    return float(rounding * np.abs(x).sum() / (x @ x))


@pytest.mark.parametrize(("side", "times"), [(0, HUMAN_EASY), (1, HUMAN_HARD)])
def test_human_slopes_follow_from_their_reaction_times(side: int, times: tuple[tuple[int, ...], ...]) -> None:
    for sizes, row, published in zip(SIZES, times, SLOPES["human"][side], strict=True):
        assert search_slope(sizes, row) == pytest.approx(published, abs=_slope_error(sizes, 0.5) + 0.05)


@pytest.mark.parametrize(("side", "fixations"), [(0, ECC_EASY), (1, ECC_HARD)])
def test_eccnet_slopes_follow_from_its_fixations(side: int, fixations: tuple[tuple[float, ...], ...]) -> None:
    for sizes, row, published in zip(SIZES, fixations, SLOPES["eccNET"][side], strict=True):
        rounding = 0.005 * 252.359 * any(value != 1 for value in row)
        slope = search_slope(sizes, reaction_time(row))
        assert slope == pytest.approx(published, abs=_slope_error(sizes, rounding) + 0.05)
        if rounding == 0:
            assert slope == 0.0


@pytest.mark.parametrize("who", ["human", "eccNET"])
def test_published_asymmetry_follows_from_the_slopes(who: str) -> None:
    """The index rises with the hard slope and falls with the easy one, so rounding gives exact bounds."""
    bounds = []
    for easy, hard, published in zip(*SLOPES[who], ASYMMETRY[who][0], strict=True):
        low, high = asymmetry_index(hard - 0.05, easy + 0.05), asymmetry_index(hard + 0.05, easy - 0.05)
        assert low - 0.0005 <= published <= high + 0.0005
        bounds.append((low, high))
    low, high = np.mean(bounds, axis=0)
    assert low - 0.0005 <= ASYMMETRY[who][1] <= high + 0.0005
    indices = [asymmetry_index(hard, easy) for easy, hard in zip(*SLOPES[who], strict=True)]
    assert np.mean(indices) == pytest.approx(ASYMMETRY[who][1], abs=0.001)


def test_eccnet_slopes_against_people() -> None:
    human, model = (np.concatenate(SLOPES[who]) for who in ("human", "eccNET"))
    assert slope_correlation(model, human) == pytest.approx(0.40, abs=0.006)
    assert slope_correlation(model, human) == pytest.approx(pearsonr(model, human).statistic)
    easy, hard = SLOPES["eccNET"]
    assert polarity_count(hard, easy) == Polarity(human=5, reversed=1, undecided=0, missing=0)
    assert polarity_count(*SLOPES["human"][::-1]).human == 6


def test_reaction_time_error_of_eccnet() -> None:
    model = np.concatenate([reaction_time(row) for row in (*ECC_EASY, *ECC_HARD)])
    human = np.concatenate([*HUMAN_EASY, *HUMAN_HARD]).astype(float)
    result = reaction_time_error(model, human)
    assert result.milliseconds == pytest.approx(np.linalg.norm(model - human) / np.sqrt(len(human)))
    assert result.relative == pytest.approx(result.milliseconds / human.mean())
    assert reaction_time_error(human, human).milliseconds == 0.0


def test_reaction_time() -> None:
    times = reaction_time([[0.0, 1.0], [2.5, NAN]])
    np.testing.assert_allclose(times, [[376.271, 628.63], [1007.1685, NAN]])
    with pytest.raises(ValueError, match="negative; got -1"):
        reaction_time([1.0, -1.0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_slope_of_displays_is_the_fit_to_their_means(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    sizes, times = rng.choice([1, 4, 8, 12], size=40), rng.normal(500, 50, size=40)
    distinct = np.unique(sizes)
    means = [times[sizes == size].mean() for size in distinct]
    slope = search_slope(sizes, times)
    assert slope == pytest.approx(linregress(distinct, means).slope, abs=1e-8)
    assert search_slope(sizes, scale * times + shift) == pytest.approx(scale * slope, abs=1e-7 * scale + 1e-9)


def test_slope_edge_rules() -> None:
    assert np.isnan(search_slope([3, 3], [1.0, 2.0]))
    assert np.isnan(search_slope([], []))
    assert np.isnan(search_slope([3, 6], [1.0, NAN]))
    assert search_slope([3, 6, 6, 9], [1.0, NAN, 4.0, 7.0]) == pytest.approx(1.0)
    sizes = np.repeat([3, 6, 9], [24, 3, 36])  # means of equal numbers differ by rounding errors
    assert search_slope(sizes, np.full(63, 628.63)) == 0.0
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        search_slope([1, 2], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="positive"):
        search_slope([0, 2], [1.0, 2.0])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("own set size", [(8 + 1 + 3) / 3, (2 + 16 + 1) / 3, 32.0]),
        ("largest set size", [(32 + 1 + 3) / 3, (2 + 32 + 1) / 3, 32.0]),
        ("leave out", [2.0, 1.5, NAN]),
    ],
)
def test_never_found_rules(rule: str, expected: list[float]) -> None:
    fixations, sizes = [NAN, 1.0, 3.0, 2.0, NAN, 1.0, NAN], [8, 8, 8, 16, 16, 16, 32]
    result = mean_fixations(fixations, sizes, rule)
    np.testing.assert_array_equal(result.set_sizes, [8, 16, 32])
    np.testing.assert_allclose(result.fixations, expected)
    np.testing.assert_array_equal(result.never_found, [1, 1, 1])
    if rule == "own set size":
        np.testing.assert_array_equal(result.fixations, mean_fixations(fixations, sizes).fixations)


def test_never_found_rule_does_not_matter_where_all_are_found() -> None:
    fixations, sizes = np.random.default_rng(0).integers(1, 9, size=30), np.repeat([4, 8, 12], 10)
    rules = [mean_fixations(fixations, sizes, rule) for rule in ("own set size", "largest set size", "leave out")]
    for result in rules:
        np.testing.assert_allclose(result.fixations, fixations.reshape(3, 10).mean(axis=1))
        assert result.never_found.sum() == 0
    with pytest.raises(ValueError, match="'own set size', 'largest set size', 'leave out'; got 'drop'"):
        mean_fixations(fixations, sizes, "drop")
    with pytest.raises(ValueError, match="fixations and set_sizes"):
        mean_fixations([1.0], [4, 8])


def test_slope_of_displays_equals_slope_of_means() -> None:
    rng = np.random.default_rng(1)
    fixations, sizes = rng.integers(1, 9, size=40).astype(float), rng.choice([4, 8, 12], size=40)
    means = mean_fixations(fixations, sizes)
    from_means = search_slope(means.set_sizes, reaction_time(means.fixations))
    assert search_slope(sizes, reaction_time(fixations)) == pytest.approx(from_means)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(0.1, 10))
def test_asymmetry_is_antisymmetric_and_scale_free(hard: float, easy: float, scale: float) -> None:
    index = asymmetry_index(hard, easy)
    assert -1 <= index <= 1
    assert asymmetry_index(easy, hard) == pytest.approx(-index)
    assert asymmetry_index(scale * hard, scale * easy) == pytest.approx(index, abs=1e-9)


def test_asymmetry_edge_rules() -> None:
    assert asymmetry_index(5.0, -3.0) == 1.0
    assert asymmetry_index(-5.0, 3.0) == -1.0
    assert asymmetry_index(-1.0, 0.0) == 0.0
    assert np.isnan(asymmetry_index(-1.0, 0.0, empty=NAN))
    assert np.isnan(asymmetry_index(NAN, 1.0))
    assert np.isnan(asymmetry_index(1.0, NAN))


def test_polarity_counts_add_up() -> None:
    count = polarity_count([2.0, 1.0, -1.0, 0.0, NAN, 3.0], [1.0, 2.0, -2.0, 0.0, 1.0, -1.0])
    assert count == Polarity(human=2, reversed=1, undecided=2, missing=1)
    assert polarity_count([], []) == Polarity(0, 0, 0, 0)
    with pytest.raises(ValueError, match="hard and easy"):
        polarity_count([1.0], [1.0, 2.0])


def test_errors_and_correlation_edge_rules() -> None:
    assert reaction_time_error([500.0, NAN, 1.0], [400.0, 1.0, NAN]).milliseconds == 100.0
    nothing = reaction_time_error([NAN], [1.0])
    assert np.isnan([nothing.milliseconds, nothing.relative]).all()
    assert np.isnan(reaction_time_error([1.0, 2.0], [0.0, 0.0]).relative)
    assert np.isnan(slope_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    assert np.isnan(slope_correlation([1.0], [1.0]))
    assert slope_correlation([1.0, NAN, 2.0, 5.0], [2.0, 0.0, 4.0, 10.0]) == pytest.approx(1.0)
    for function in (reaction_time_error, slope_correlation):
        with pytest.raises(ValueError, match="model and human"):
            function([1.0], [1.0, 2.0])


def test_torch_in_torch_out() -> None:
    times = reaction_time(torch.tensor([1.0, 2.0]))
    assert isinstance(times, torch.Tensor)
    means = mean_fixations(torch.tensor([1.0, NAN]), torch.tensor([4, 8]))
    for part in (means.set_sizes, means.fixations, means.never_found):
        assert isinstance(part, torch.Tensor)
    assert means.fixations.tolist() == [1.0, 8.0]
    slope = search_slope(torch.tensor([4, 8]), times)
    assert type(slope) is float
    assert slope == pytest.approx(252.359 / 4)
    assert polarity_count(torch.ones(2), torch.zeros(2)).human == 2
    assert type(slope_correlation(torch.arange(3.0), torch.arange(3.0))) is float
