"""Information of a confusion and the discriminability battery against scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from metrics import mutual_information, object_discriminability
from metrics.invariance.discriminability import _decode, group_folds, logistic_weights

Bins = tuple[np.ndarray, np.ndarray, np.ndarray]


def _bins(
    objects: int = 3, clips: int = 10, bins: int = 5, noise: float = 1.0, jitter: float = 0.3, seed: int = 0
) -> Bins:
    """Bins of clips: every clip adds an offset of its own (``noise``), every bin another (``jitter``)."""
    rng = np.random.default_rng(seed)
    clip = np.repeat(np.arange(objects * clips), bins)
    code = rng.normal(size=(objects, 8))[clip % objects] + noise * rng.normal(size=(objects * clips, 8))[clip]
    return code + jitter * rng.normal(size=(len(clip), 8)), clip % objects, clip


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6))
def test_information_equals_scikit_learn_and_is_bounded(seed: int, rows: int, columns: int) -> None:
    counts = np.random.default_rng(seed).poisson(1.5, size=(rows, columns))
    counts[0, 0] += 1
    truth, decoded = (np.repeat(side.ravel(), counts.ravel()) for side in np.indices(counts.shape))
    bits = mutual_information(counts)
    assert bits == pytest.approx(mutual_info_score(truth, decoded) / np.log(2), abs=1e-12)
    assert 0 <= bits <= np.log2(min(rows, columns)) + 1e-12
    assert bits == pytest.approx(mutual_information(3 * counts.T), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=5), st.lists(st.integers(0, 9), min_size=2, max_size=5))
def test_independent_decisions_carry_no_information(first: list[int], second: list[int]) -> None:
    counts = np.outer(first, second)
    if counts.sum():
        assert mutual_information(counts) == pytest.approx(0, abs=1e-12)


def test_information_closed_forms() -> None:
    assert mutual_information(np.eye(8)) == pytest.approx(3.0)
    error = 0.2  # a binary symmetric channel
    entropy = -error * np.log2(error) - (1 - error) * np.log2(1 - error)
    assert mutual_information([[0.4, 0.1], [0.1, 0.4]]) == pytest.approx(1 - entropy)


def test_bias_correction_is_right_on_average() -> None:
    rng = np.random.default_rng(0)
    draws = rng.multinomial(400, np.full(16, 1 / 16), size=400).reshape(-1, 4, 4)
    plain = np.array([mutual_information(draw) for draw in draws])
    corrected = np.array([mutual_information(draw, correct_bias=True) for draw in draws])
    assert plain.mean() == pytest.approx(9 / (2 * 400 * np.log(2)), rel=0.1)
    assert corrected.mean() == pytest.approx(0, abs=4 * corrected.std() / 20)
    assert corrected.min() < 0


def test_confusions_that_make_no_sense() -> None:
    assert np.isnan(mutual_information(np.zeros((3, 3))))
    for wrong in ([[1.0, -1.0]], [1.0, 2.0], [[np.nan, 1.0]], [[np.inf, 1.0]]):
        with pytest.raises(ValueError, match="finite counts"):
            mutual_information(wrong)


def test_logistic_regression_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    design = np.column_stack([rng.normal(size=(300, 6)), np.ones(300)])
    target = (rng.random(300) < 1 / (1 + np.exp(-design @ rng.normal(size=7)))).astype(float)
    machine = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10**4).fit(design[:, :-1], target)
    expected = np.append(machine.coef_[0], machine.intercept_)
    np.testing.assert_allclose(logistic_weights(design, target), expected, rtol=1e-4)


def test_logistic_regression_survives_separable_copied_and_huge_units() -> None:
    rng = np.random.default_rng(1)
    unit = rng.normal(size=(40, 1))
    target = (unit[:, 0] > 0).astype(float)
    design = np.column_stack([unit, unit, np.ones(40)])
    weights = logistic_weights(design, target)
    assert np.isfinite(weights).all()
    assert ((design @ weights > 0) == (target > 0)).all()
    assert weights[0] == pytest.approx(weights[1], rel=1e-3)
    outlier = design.copy()
    outlier[0] *= 1e4
    assert np.isfinite(logistic_weights(outlier, target)).all()


def _bits_with_scikit_learn(views: Bins, grouped: bool, pooled: bool) -> float:
    """One repetition of the battery, on the folds that the same seed gives."""
    responses, objects, clips = views
    rng = np.random.default_rng(0)
    rng.choice(responses.shape[1], responses.shape[1], replace=False)
    fold = group_folds(clips if grouped else np.arange(len(clips)), objects, 5, rng)
    decoded = np.empty_like(objects)
    for held in range(5):
        test = fold == held
        scaler = StandardScaler().fit(responses[~test])
        machine = OneVsRestClassifier(LogisticRegression(C=np.inf, tol=1e-8, max_iter=10**4))
        machine.fit(scaler.transform(responses[~test]), objects[~test])
        decoded[test] = machine.predict(scaler.transform(responses[test]))
    parts = [fold >= 0] if pooled else [fold == held for held in range(5)]
    return float(np.mean([mutual_info_score(objects[part], decoded[part]) / np.log(2) for part in parts]))


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("pooled", [True, False])
def test_bits_equal_scikit_learn(grouped: bool, pooled: bool) -> None:
    views = _bins(noise=0.7, jitter=2.0)  # not separable: there the weights have no limit to compare
    expected = _bits_with_scikit_learn(views, grouped, pooled)
    assert 0.05 < expected < np.log2(3)
    reached = object_discriminability(*views, folds=5, repetitions=1, grouped=grouped, pooled=pooled)
    assert reached == pytest.approx(expected, abs=1e-9)


def test_folds_never_cut_a_group_and_balance_the_classes() -> None:
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat(np.arange(60), 4))
    classes = (np.arange(60) % 3)[groups]
    fold = group_folds(groups, classes, 10, rng)
    assert all(len(np.unique(fold[groups == group])) == 1 for group in range(60))
    table = np.zeros((10, 3))
    np.add.at(table, (fold, classes), 1)
    assert (table == 8).all()
    assert (group_folds(groups, classes, 10, rng) != fold).any()


def test_grouped_folds_do_not_leak_what_belongs_to_the_clip() -> None:
    _, objects, clips = _bins(objects=2, clips=12)
    clip_code = np.random.default_rng(0).normal(size=(24, 20))[clips]  # names the clip, not the object
    grouped, leaky = (
        object_discriminability(clip_code, objects, clips, repetitions=5, grouped=flag) for flag in (True, False)
    )
    assert leaky == pytest.approx(1.0)  # 24 clips in 20 dimensions: known clips are separable
    assert grouped < 0.3


def test_a_planted_object_code_reaches_all_bits() -> None:
    rng = np.random.default_rng(0)
    objects = np.arange(80) % 4
    responses = 5 * np.eye(4)[objects] + 0.1 * rng.normal(size=(80, 4))
    assert object_discriminability(responses, objects, np.arange(80), repetitions=3) == pytest.approx(2.0)
    one = object_discriminability(responses, objects, np.arange(80), units=1, repetitions=8)
    assert 0 < one < 1.5


def test_shuffled_objects_carry_only_the_bias() -> None:
    rng = np.random.default_rng(5)
    found = []
    for seed in range(30):
        responses = rng.normal(size=(200, 5))
        objects = rng.permutation(np.arange(200) % 4)
        found.append(object_discriminability(responses, objects, np.arange(200), repetitions=1, seed=seed))
    bias = 9 / (2 * 200 * np.log(2))
    assert np.mean(found) == pytest.approx(bias, rel=0.4)


def test_constant_responses_carry_nothing_and_constant_units_are_ignored() -> None:
    responses, objects, clips = _bins()
    assert object_discriminability(np.ones((150, 4)), objects, clips, repetitions=2) == 0.0
    assert object_discriminability(np.ones((7, 4)), [0, 0, 0, 0, 1, 1, 1], np.arange(7), repetitions=2) == 0.0
    silent = np.where(np.arange(8) < 4, responses, 3.0)
    padded = np.column_stack([silent, np.full((150, 8), 2.0)])
    folds = [np.arange(150) % 5 == fold for fold in range(5)]
    for test in folds:
        few, many = (_decode(part[~test], objects[~test], part[test], 100) for part in (silent[:, :4], padded))
        np.testing.assert_array_equal(few, many)


def test_fewer_units_than_asked_are_all_used() -> None:
    views = _bins(noise=2.0)
    eight, many = (object_discriminability(*views, units=units, repetitions=2) for units in (8, 128))
    assert eight == many


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_bits_ignore_scale_offset_and_order_of_units(seed: int, scale: float) -> None:
    responses, objects, clips = _bins(noise=1.5, bins=3, seed=seed)
    rng = np.random.default_rng(seed)
    changed = scale * responses[:, rng.permutation(8)] + rng.normal(size=8)
    first, second = (object_discriminability(part, objects, clips, repetitions=1) for part in (responses, changed))
    assert first == pytest.approx(second, abs=0.05)  # a bin on the border between two objects may change sides


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": [0] * 150}, "2 objects; got 1"),
        ({"groups": [0] * 150}, "2 groups, to hold one out; got 1"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"repetitions": 0}, "repetitions must be at least 1"),
        ({"units": 0}, "units must be at least 1"),
        ({"responses": np.full((150, 2), np.inf)}, "300 NaN or infinite"),
        ({"responses": np.ones((150, 0))}, "at least 1 unit"),
        ({"groups": [0] * 149}, "one row per bin"),
        ({"groups": np.repeat([0, 1], 75), "objects": np.repeat([0, 1], 75)}, "groups in at least 2 folds"),
    ],
)
def test_what_the_discriminability_battery_cannot_do_is_refused(change: dict, message: str) -> None:
    responses, objects, clips = _bins()
    with pytest.raises(ValueError, match=message):
        object_discriminability(**{"responses": responses, "objects": objects, "groups": clips, **change})


def test_torch_gives_the_same_float() -> None:
    views = _bins(noise=1.5)
    result = object_discriminability(*(torch.tensor(part) for part in views), repetitions=2)
    assert type(result) is float
    assert result == object_discriminability(*views, repetitions=2)
