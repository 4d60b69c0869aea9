"""Dimensions over depth at equal numbers of units, against planted blocks and against all subsets."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import depth_dimensions, dimension_at_size, kendall_tau, participation_ratio, two_nn

WIDTHS = (12, 24, 40, 80, 160, 320)


def blocks(widths: tuple[int, ...], latent: int = 6, noise: float = 1.0, stimuli: int = 400) -> list[np.ndarray]:
    """Features of blocks of different widths that see the same latent variables, each with noise of its own."""
    random = np.random.default_rng(1)
    signal = random.standard_normal((stimuli, latent))
    return [
        signal @ random.standard_normal((latent, width)) / latent**0.5
        + noise * random.standard_normal((stimuli, width))
        for width in widths
    ]


@pytest.mark.parametrize("estimator", [participation_ratio, two_nn])
def test_blocks_of_equal_latent_dimension_are_flat_where_all_units_rise(estimator: object) -> None:
    planted = blocks(WIDTHS)
    raw = np.array([estimator(block) for block in planted])  # type: ignore[operator]
    equal = np.array([block.mean for block in depth_dimensions(planted, estimator)])  # type: ignore[arg-type]
    assert kendall_tau(raw, np.arange(6)) > 0.8
    assert raw[-1] / raw[0] > 1.4
    assert np.ptp(equal) < 0.12 * equal.mean()
    assert equal[0] == raw[0]  # the narrowest block is whole


def test_a_dimension_that_grows_with_depth_still_rises() -> None:
    planted = [
        blocks((width,), latent, noise=0.1)[0] for width, latent in zip(WIDTHS, (2, 3, 4, 6, 8, 10), strict=True)
    ]
    equal = [block.mean for block in depth_dimensions(planted, participation_ratio)]
    assert kendall_tau(equal, np.arange(6)) == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(2, 7),
    size=st.integers(1, 8),
    seed=st.integers(0, 2**20),
    tolerance=st.sampled_from([0.03, 0.01]),
)
def test_the_mean_is_that_of_all_subsets(width: int, size: int, seed: int, tolerance: float) -> None:
    random = np.random.default_rng(seed)
    features = random.standard_normal((30, width)) * random.uniform(0.5, 3, width)
    found = dimension_at_size(features, participation_ratio, size, tolerance, seed=seed)
    taken = min(size, width)
    every = [participation_ratio(features[:, list(part)]) for part in combinations(range(width), taken)]
    assert found.mean == pytest.approx(np.mean(every), rel=8 * tolerance)
    assert found.spread < tolerance
    assert found == dimension_at_size(features, participation_ratio, size, tolerance, seed=seed)
    if size >= width:
        assert (found.mean, found.spread, found.draws) == (participation_ratio(features), 0.0, 1)


def test_draws_end_when_the_spread_is_small_and_say_so_when_it_is_not() -> None:
    features = np.random.default_rng(0).standard_normal((50, 30)) * np.geomspace(1, 30, 30)
    loose = dimension_at_size(features, participation_ratio, 5, tolerance=0.1)
    tight = dimension_at_size(features, participation_ratio, 5, tolerance=0.01)
    assert loose.draws < tight.draws
    assert tight.spread < 0.01 <= dimension_at_size(features, participation_ratio, 5, most=10).spread
    values = iter(np.random.default_rng(3).normal(10, 1, 5000))
    told = dimension_at_size(features, lambda part: float(next(values)), 5, tolerance=0.02)
    assert told.draws == pytest.approx((0.1 / 0.02) ** 2, rel=0.5)  # s / (sqrt(draws) mean) = .02


def test_what_cannot_be_compared_is_refused() -> None:
    features = np.ones((5, 3))
    for broken in (partial(dimension_at_size, features, two_nn, 0), partial(depth_dimensions, [], two_nn)):
        with pytest.raises(ValueError, match="units must be"):
            broken()
    with pytest.raises(ValueError, match="units must be 1 to 2, as many as the narrowest block has; got 3"):
        depth_dimensions([features, features[:, :2]], two_nn, units=3)
    assert np.isnan(dimension_at_size(features, participation_ratio, 2).mean)
