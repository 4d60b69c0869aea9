"""Dimensions of real recordings: what has to hold whatever the brain does, and what noise does to each measure."""

from pathlib import Path

import numpy as np
import pytest
import skdim

from metrics import (
    count_duplicates,
    cross_validated_participation_ratio,
    equalised,
    gride,
    participation_ratio,
    shuffled_dimension,
    subsample_interval,
    two_nn,
)

REPEATED = ("macaque-v1-ay3_u001", "macaque-v1-ay3_u002", "macaque-v1-ay4_u005", "macaque-v4-210325")


def _read(folder: Path, name: str) -> np.ndarray:
    """Responses (stimuli, units[, repeats]) of a recording."""
    if not (folder / name).is_dir():
        pytest.skip(f"{name} is not here")
    return np.asarray(np.load(folder / name / "responses.npy"), dtype=np.float64)


def _repeats(folder: Path, name: str) -> np.ndarray:
    """Repeats (stimuli, units, repeats) of a recording, units scaled to a deviation of 1 of their averages."""
    repeats = _read(folder, name)
    return repeats / _average(repeats).std(axis=0)[:, None]


def _average(repeats: np.ndarray) -> np.ndarray:
    """Mean over the repeats that are there; every stimulus of these recordings has some in every unit."""
    count = np.isfinite(repeats).sum(axis=2)
    return np.nansum(repeats, axis=2) / np.where(count > 0, count, np.nan)


def _halves(repeats: np.ndarray, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two averages over ``each`` different repeats, drawn among those that are there, the same draw for all units."""
    order = np.random.default_rng(seed).random((len(repeats), 1, repeats.shape[2])) + 10 * np.isnan(repeats)
    drawn = np.take_along_axis(repeats, order.argsort(axis=2), axis=2)[:, :, : 2 * each]
    return drawn[:, :, :each].mean(axis=2), drawn[:, :, each:].mean(axis=2)


@pytest.mark.parametrize("name", REPEATED)
def test_noise_adds_dimensions_that_cross_validation_takes_away(shared_data: Path, name: str) -> None:
    """More repeats lower the plain ratio throughout; the cross-validated one of few repeats is there already."""
    repeats = _repeats(shared_data, name)
    few, many = 1 if "v4" in name else 5, int(np.isfinite(repeats).sum(axis=2).min()) // 2
    assert many > 2 * few
    plain = [participation_ratio(_halves(repeats, each)[0]) for each in (1, many)]
    validated = [
        np.mean([cross_validated_participation_ratio(*_halves(repeats, each, seed)) for seed in range(4)])
        for each in (few, many)
    ]
    average = participation_ratio(_average(repeats))
    assert plain[0] > plain[1] > average > validated[1]
    assert validated[0] == pytest.approx(validated[1], rel=0.1)
    assert plain[0] > 1.15 * average


@pytest.mark.parametrize("name", REPEATED)
def test_the_intervals_lie_within_what_is_possible_and_below_the_shuffled_null(shared_data: Path, name: str) -> None:
    average = _average(_repeats(shared_data, name))
    assert count_duplicates(average) == 0
    most = min(len(average) - 1, average.shape[1])
    for estimator in (participation_ratio, two_nn):
        result = subsample_interval(average, estimator, draws=40)
        assert 1 < result.low < result.estimate < result.high < most
        assert result.high < shuffled_dimension(average, estimator, draws=4).min()
        parts = [estimator(average[start::2]) for start in range(2)]  # fewer stimuli, and a wider spread
        reach = np.sqrt(2) * (result.high - result.low) / 2 * 3 / 1.96
        assert abs(parts[0] - parts[1]) < np.sqrt(2) * reach


@pytest.mark.parametrize("name", [*REPEATED, "macaque-v4-201025"])
def test_recorded_dimensions_equal_those_of_scikit_dimension(shared_data: Path, name: str) -> None:
    responses = _read(shared_data, name)
    average = _average(responses) if responses.ndim == 3 else responses
    assert two_nn(average) == pytest.approx(skdim.id.TwoNN().fit(average).dimension_, rel=1e-8)
    expected = skdim.id.GRIDE(multiscale=True, range_max=128).fit(average).dimension_scales_
    np.testing.assert_allclose(list(gride(average).values()), expected, rtol=1e-8)


def test_two_recordings_of_unequal_size_are_compared_at_one_size(shared_data: Path) -> None:
    """1,200 stimuli and 89 units against 640 and 50: part of the difference is their number."""
    large, small = _read(shared_data, "macaque-v4-201025"), _average(_read(shared_data, "macaque-v4-210325"))
    cut, same = equalised(large, small)
    assert cut.shape == same.shape == (640, 50)
    assert two_nn(large) - two_nn(cut) > 0.1 * two_nn(large)
