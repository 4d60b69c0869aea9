"""The model confidence set: against a plain loop over the rule, and with planted equal and unequal models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import model_confidence_set


def by_the_rule(draws: np.ndarray, values: np.ndarray) -> np.ndarray:
    """T_R of Hansen, Lunde and Nason as it is written, in losses, one model after the other."""
    loss, drawn = -values, -draws
    left, reached, p = list(range(len(loss))), 0.0, np.ones(len(loss))
    while len(left) > 1:
        t, null = {}, np.zeros(draws.shape[1])
        for i in left:
            for j in left:
                if i != j:
                    noise = drawn[i] - drawn[j] - np.mean(drawn[i] - drawn[j])
                    error = np.sqrt(np.mean(noise**2))
                    t[i, j] = (loss[i] - loss[j]) / error
                    null = np.maximum(null, np.abs(noise) / error)
        reached = max(reached, (1 + np.sum(null >= max(t.values()))) / (1 + len(null)))
        worst = max(left, key=lambda i: max(t[i, j] for j in left if j != i))
        p[worst] = reached
        left.remove(worst)
    return p


def sample_means(models: np.ndarray, groups: int, seed: int, shared: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Means over groups of models with these expectations, and 400 paired bootstrap replicates of them."""
    random = np.random.default_rng(seed)
    data = models + shared * random.normal(size=(groups, 1)) + random.normal(size=(groups, len(models)))
    weights = random.multinomial(groups, np.full(groups, 1 / groups), size=400)
    return (weights @ data / groups).T, data.mean(axis=0)


@given(st.integers(0, 10**6), st.integers(2, 7), st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_it_is_the_rule_of_the_paper_in_whatever_order(seed: int, count: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    draws, values = sample_means(spread * random.normal(size=count), 25, seed)
    found = model_confidence_set(draws, values)
    np.testing.assert_allclose(found.p, by_the_rule(draws, values))
    order = random.permutation(count)
    np.testing.assert_allclose(model_confidence_set(draws[order], values[order]).p, np.asarray(found.p)[order])
    np.testing.assert_allclose(model_confidence_set(3 * draws + 1, 3 * values + 1).p, found.p)
    assert found.p[values.argmax()] == 1.0
    assert found.members.tolist() == (np.asarray(found.p) > 0.05).tolist()


def test_the_best_of_equal_models_is_missed_no_more_often_than_said() -> None:
    """Ten equal models: any of them is a best one, so each single one must stay with 95 % or more."""
    sets = np.array([model_confidence_set(*sample_means(np.zeros(8), 60, seed)).members for seed in range(200)])
    assert sets[:, 0].mean() >= 0.95
    assert 0.9 <= sets.all(axis=1).mean() <= 0.99  # all eight at once: at the level itself


def test_the_set_keeps_the_best_and_shrinks_with_the_data() -> None:
    truth = np.linspace(1.0, 0.0, 8)
    sets = {g: [model_confidence_set(*sample_means(truth, g, s)).members for s in range(60)] for g in (15, 60, 240)}
    assert min(np.mean([members[0] for members in chosen]) for chosen in sets.values()) >= 0.9
    few, some, many = (np.mean([members.sum() for members in chosen]) for chosen in sets.values())
    assert few > some + 0.7 > many + 1.4
    assert many < 2.5


def test_far_worse_models_do_not_shield_those_below_the_best() -> None:
    """A crowd of models that predict nothing, with large errors: what is clearly below the best goes all the same."""
    truth = np.array([1.0, 0.4, *np.zeros(10)])
    draws, values = sample_means(truth, 60, 2)
    assert model_confidence_set(draws, values).members.tolist() == [True] + [False] * 11


def test_pairing_counts() -> None:
    """A large part that all models share does not blur their differences."""
    truth = np.array([0.5, 0.0])
    draws, values = sample_means(truth, 200, 3, shared=30.0)
    assert model_confidence_set(draws, values).members.tolist() == [True, False]
    loose = np.stack([row[np.random.default_rng(number).permutation(len(row))] for number, row in enumerate(draws)])
    assert model_confidence_set(loose, values).members.all()


def test_equal_models_leave_or_stay_together() -> None:
    draws, values = sample_means(np.array([1.0, 0.6, 0.0, -1.0]), 40, 5)
    twice, numbers = draws[[0, 1, 2, 3, 2, 0]], values[[0, 1, 2, 3, 2, 0]]
    found = model_confidence_set(twice, numbers)
    assert found.p[0] == found.p[5] == 1.0
    assert found.p[2] == found.p[4]
    same = model_confidence_set(draws[[0, 0, 0]], values[[0, 0, 0]])
    assert np.asarray(same.p).tolist() == [1.0, 1.0, 1.0]
    lower = model_confidence_set(draws[[0, 0]] - [[0.0], [0.1]], values[[0, 0]] - [0.0, 0.1])
    assert np.asarray(lower.p).tolist() == [1.0, pytest.approx(1 / 401)]  # below it in every replicate


def test_a_higher_level_keeps_more() -> None:
    draws, values = sample_means(np.linspace(0.6, 0.0, 8), 40, 8)
    sizes = [model_confidence_set(draws, values, level).members.sum() for level in (0.5, 0.8, 0.95, 0.999)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_what_is_missing_is_left_out() -> None:
    draws, values = sample_means(np.array([1.0, 0.0, 0.8]), 80, 1)
    whole = model_confidence_set(draws, values)
    gaps = np.vstack([draws, np.full(draws.shape[1], np.nan)])
    gaps[0, :7] = np.nan
    found = model_confidence_set(gaps, [*values, 0.9])
    np.testing.assert_allclose(found.p[:3], model_confidence_set(draws[:, 7:], values).p)
    assert np.isnan(found.p[3])
    assert found.members.tolist() == [*whole.members.tolist(), False]
    assert model_confidence_set(draws[:, :1], values).members.all()
    assert model_confidence_set(draws[:1], values[:1]).members.tolist() == [True]
    with pytest.raises(ValueError, match="one per model"):
        model_confidence_set(draws, values[:2])
    with pytest.raises(ValueError, match="level"):
        model_confidence_set(draws, values, 95)
