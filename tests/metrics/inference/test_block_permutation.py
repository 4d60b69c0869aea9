"""Block permutation against an explicit loop over all orders, and its error rates on planted time series."""

from itertools import permutations as all_orders

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from metrics.inference.permutation import block_permutation_p


def _slow(rng: np.random.Generator, times: int, units: int, memory: float) -> np.ndarray:
    """Series with autocorrelation memory^lag."""
    values = rng.normal(size=(times, units))
    for time in range(1, times):
        values[time] = memory * values[time - 1] + np.sqrt(1 - memory**2) * values[time]
    return values


def _exact(predicted: np.ndarray, observed: np.ndarray, block: int, runs: np.ndarray) -> float:
    """Share of all orders of whole blocks within runs whose correlation is at least the observed one."""
    orders = [[]]
    for run in np.unique(runs):
        rows = np.flatnonzero(runs == run)
        whole = len(rows) // block
        blocks, rest = [rows[i * block : (i + 1) * block] for i in range(whole)], rows[whole * block :]
        orders = [[*done, *order, rest] for done in orders for order in all_orders(blocks)]
    found = np.corrcoef(predicted, observed)[0, 1]
    null = [np.corrcoef(predicted[np.concatenate(order)], observed)[0, 1] for order in orders]
    return float(np.mean(np.array(null) >= found - 1e-9))


@pytest.mark.parametrize("block", [2, 3])
def test_p_is_the_share_of_all_orders(block: int) -> None:
    rng, runs = np.random.default_rng(0), np.repeat([0, 1], [9, 7])
    observed = rng.normal(size=(16, 4))
    predicted = 0.5 * observed + rng.normal(size=(16, 4)) + 3 * runs[:, None]
    found = block_permutation_p(predicted, observed, block, 20000, runs)
    expected = [_exact(predicted[:, u], observed[:, u], block, runs) for u in range(4)]
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(20000))


def test_independent_pictures_may_lie_in_any_order() -> None:
    rng, folds = np.random.default_rng(1), np.repeat([0, 1], [3, 4])
    observed = rng.normal(size=(7, 3))
    predicted = observed + rng.normal(size=(7, 3))
    order = rng.permutation(7)
    found = block_permutation_p(predicted[order], observed[order], 1, 20000, folds[order])
    expected = [_exact(predicted[:, u], observed[:, u], 1, folds) for u in range(3)]
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(20000))


def test_blocks_longer_than_the_memory_keep_the_error_rate_and_single_samples_do_not() -> None:
    rng, runs = np.random.default_rng(2), np.repeat(np.arange(3), 100)
    predicted, observed = (_slow(rng, 300, 2000, 0.6) for _ in range(2))
    found = block_permutation_p(predicted, observed, 20, 400, runs)
    bound = 4 * np.sqrt(0.05 * 0.95 / 2000)
    # by the formula of the docstring the null has 0.959 of the true variance: an error rate of 0.0536
    assert abs((found <= 0.05).mean() - 0.0536) < bound
    assert (block_permutation_p(predicted, observed, 1, 400, runs) <= 0.05).mean() > 0.1


def test_p_is_uniform_without_signal_and_small_with() -> None:
    rng = np.random.default_rng(3)
    predicted, observed = rng.normal(size=(2, 120, 800))
    assert kstest(block_permutation_p(predicted, observed, 5, 400), "uniform").pvalue > 0.01
    np.testing.assert_allclose(block_permutation_p(observed + predicted, observed, 5, 400), 1 / 401)
    assert (block_permutation_p(predicted - observed, observed, 5, 400) == 1).all()  # one-sided


def test_the_width_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, observed = np.random.default_rng(4).normal(size=(2, 60, 7))
    expected = block_permutation_p(predicted, observed, 5, 99)
    monkeypatch.setattr("metrics.inference.permutation.BUDGET", 250)
    np.testing.assert_array_equal(block_permutation_p(predicted, observed, 5, 99), expected)
    np.testing.assert_array_equal(block_permutation_p(10 * predicted + 3, observed / 7, 5, 99), expected)
    assert (block_permutation_p(predicted, observed, 5, 99, seed=1) != expected).any()


def test_units_without_spread_or_with_gaps_are_nan() -> None:
    predicted, observed = np.random.default_rng(5).normal(size=(2, 60, 4))
    predicted[:, 0], observed[:, 1], observed[7, 2] = 0.1, 0.3, np.nan
    found = block_permutation_p(predicted, observed, 5, 99)
    np.testing.assert_array_equal(np.isnan(found), [True, True, True, False])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": 0}, "at least 1; got 0"),
        ({"permutations": 0}, "at least 1; got 10, 0 and"),
        ({"widen": 0.5}, "and 0.5"),
        ({"block": 11}, r"none of 1 runs \(20 samples\) holds two blocks of 11"),
        ({"runs": np.arange(20) % 2, "block": 2}, "consecutive"),
        ({"runs": [0]}, "1 labels for 20"),
    ],
)
def test_bad_input_is_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block_permutation_p(np.ones((20, 1)), np.ones((20, 1)), **arguments)


def test_torch_in_torch_out() -> None:
    predicted, observed = np.random.default_rng(6).normal(size=(2, 60, 3))
    found = block_permutation_p(torch.tensor(predicted), torch.tensor(observed), 5, 99)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), block_permutation_p(predicted, observed, 5, 99))
