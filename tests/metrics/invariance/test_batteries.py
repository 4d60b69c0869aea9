"""The rotation battery against scikit-learn, draw by draw, and what it must and must not read."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from metrics import rotation_decoding
from metrics.invariance.rotation import principal_axes, rotation_windows, squared_hinge

Views = tuple[np.ndarray, np.ndarray, np.ndarray]


def _views(objects: int = 4, rotations: int = 8, units: int = 12, noise: float = 1.0, seed: int = 0) -> Views:
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(objects), rotations)
    angle = np.tile(np.arange(rotations) * 360 / rotations, objects)
    code = rng.normal(size=(objects, units))[identity]
    return code + noise * rng.normal(size=(len(angle), units)), identity, angle


def _with_scikit_learn(views: Views, pair: tuple[int, int], components: int, without_pair: bool) -> float:
    """The battery for one pair of test classes: scaler, PCA and LinearSVC by scikit-learn."""
    responses, objects, angles = views
    place, size = np.unique(angles, return_inverse=True)[1], len(np.unique(angles))
    found = []
    for centre in range(size):
        train = ~np.isin(place, [(centre - 1) % size, centre, (centre + 1) % size])
        test = (place == centre) & np.isin(objects, pair)
        fit = train & ~np.isin(objects, pair) if without_pair else train
        scaler = StandardScaler().fit(responses[fit])
        axes = PCA(components, svd_solver="full").fit(scaler.transform(responses[fit]))
        machine = LinearSVC(C=0.5, dual=False, tol=1e-10, max_iter=10**5)
        machine.fit(axes.transform(scaler.transform(responses[train])), objects[train])
        right = machine.predict(axes.transform(scaler.transform(responses[test]))) == objects[test]
        found.append(right.mean())
    return float(np.mean(found))


@pytest.mark.parametrize("scaler", ["training classes", "all classes"])
@pytest.mark.parametrize(("units", "components"), [(6, 6), (40, 7)])  # more rows than units, and fewer
def test_every_draw_equals_scikit_learn(scaler: str, units: int, components: int) -> None:
    views = _views(units=units, noise=0.5 * units**0.5)
    without = scaler == "training classes"
    expected = {_with_scikit_learn(views, pair, components, without) for pair in combinations(range(4), 2)}
    drawn = [
        rotation_decoding(*views, components=components, scaler=scaler, penalty=0.5, repetitions=1, seed=seed)
        for seed in range(12)
    ]
    assert len(expected) > 1
    assert all(min(abs(one - other) for other in expected) < 1e-12 for one in drawn)
    assert len({round(one, 9) for one in drawn}) > 1


def test_many_draws_average_the_single_ones() -> None:
    views = _views(units=6, noise=2.0)
    pairs = [_with_scikit_learn(views, pair, 6, True) for pair in combinations(range(4), 2)]
    reached = rotation_decoding(*views, penalty=0.5, repetitions=400)  # six fits a fold, whatever the repetitions
    assert min(pairs) < reached < max(pairs)
    assert reached == pytest.approx(np.mean(pairs), abs=4 * np.std(pairs) / 20)


def test_all_objects_drawn_is_plain_accuracy_whatever_the_seed() -> None:
    views = _views(noise=2.0)
    options = {"test_classes": 4, "scaler": "all classes"}
    first, second = (rotation_decoding(*views, **options, repetitions=n, seed=n) for n in (1, 3))
    assert first == pytest.approx(second, abs=1e-12)
    assert 0.25 < first < 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 30), st.floats(0.01, 100))
def test_svm_solves_the_objective_of_liblinear(seed: int, samples: int, features: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(samples, features)) * rng.uniform(0.3, 3)
    design[-1] = design[0]
    sign = np.where(np.arange(samples) % 3 == 0, 1.0, -1.0)
    weights, active = squared_hinge(design, sign, rng.random(samples) < 0.5, penalty)
    slack = 1 - sign * (design @ weights)
    gradient = weights - 2 * penalty * design.T @ (sign * np.maximum(slack, 0))
    assert np.abs(gradient).max() < 1e-7 * (1 + penalty * samples)
    assert ((slack > 0) == active).mean() > 0.95
    machine = LinearSVC(C=penalty, fit_intercept=False, dual=False, tol=1e-9, max_iter=10**5).fit(design, sign)
    np.testing.assert_allclose(weights, machine.coef_[0], atol=1e-3 * np.abs(weights).max())


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_principal_axes_equal_scikit_learn(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    values -= values.mean(0)
    axes = principal_axes(values, 5)
    expected = PCA(5).fit(values)
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-10)
    np.testing.assert_allclose(np.sort(np.var(values @ axes, axis=0, ddof=1)), np.sort(expected.explained_variance_))
    np.testing.assert_allclose(axes @ axes.T, expected.components_.T @ expected.components_, atol=1e-8)
    assert principal_axes(values, 100).shape[1] == min(8, shape[0] - 1)
    assert principal_axes(np.zeros((4, 3)), 2).shape == (3, 0)


def test_windows_wrap_around_and_test_the_middle() -> None:
    angles = np.array([10.0, -5.0, 200.0, 355.0, 90.0, 10.0])
    order = [-5.0, 10.0, 90.0, 200.0, 355.0]
    for index, (held, tested) in enumerate(rotation_windows(angles, 3)):
        assert set(angles[tested]) == {order[index]}
        assert set(angles[held]) == {order[index - 1], order[index], order[(index + 1) % 5]}
    assert index == 4


def test_a_turning_code_is_read_only_when_its_neighbours_are_trained() -> None:
    objects, angles = np.repeat(np.arange(3), 16), np.tile(np.arange(16) * 22.5, 3)
    turn = np.deg2rad(angles)[:, None] - np.deg2rad(np.arange(0, 360, 10))
    tuned = np.exp(8 * (np.cos(turn) - 1)) * (1 + 0.5 * np.random.default_rng(0).normal(size=(3, 36)))[objects]
    near, far = (
        rotation_decoding(tuned, objects, angles, held, 20, scaler="all classes", test_classes=3) for held in (1, 7)
    )
    assert near > 0.9
    assert far < near - 0.2


def test_a_fixed_code_is_read_and_one_bound_to_the_view_is_not() -> None:
    assert rotation_decoding(*_views(noise=0.1), repetitions=10) == 1.0
    _, objects, angles = _views(objects=5, rotations=9)
    bound = np.random.default_rng(1).normal(size=(45, 20))
    assert rotation_decoding(bound, objects, angles, repetitions=10) < 0.4


def test_shuffled_objects_are_decoded_at_chance() -> None:
    responses, objects, angles = _views(objects=4, rotations=10, noise=0.5)
    rng = np.random.default_rng(0)
    found = []
    for seed in range(30):
        shuffled = objects.reshape(4, 10).copy()
        for column in range(10):  # within a rotation, so that the objects stay balanced
            shuffled[:, column] = rng.permutation(shuffled[:, column])
        found.append(rotation_decoding(responses, shuffled.ravel(), angles, repetitions=2, seed=seed))
    error = np.std(found) / 30**0.5
    assert error < 0.03
    assert np.mean(found) == pytest.approx(0.25, abs=max(4 * error, 0.04))


@pytest.mark.parametrize("scaler", ["training classes", "all classes"])
def test_constant_responses_decode_at_chance_and_constant_units_do_not_matter(scaler: str) -> None:
    responses, objects, angles = _views()
    assert rotation_decoding(np.ones((32, 3)), objects, angles, repetitions=3, scaler=scaler) == 0.25
    padded = np.column_stack([responses, np.full(32, 7.0)])
    once, again = (
        rotation_decoding(part, objects, angles, repetitions=5, scaler=scaler) for part in (responses, padded)
    )
    assert once == pytest.approx(again, abs=1e-12)


def test_equal_unit_counts_are_drawn_by_seed() -> None:
    responses, objects, angles = _views(units=30, noise=2.0)
    some, same, other = (
        rotation_decoding(responses, objects, angles, units=3, repetitions=4, seed=seed) for seed in (0, 0, 1)
    )
    assert some == same != other
    all_units, undrawn = (
        rotation_decoding(responses, objects, angles, units=units, repetitions=4, scaler="all classes", test_classes=4)
        for units in (30, None)
    )
    assert all_units == pytest.approx(undrawn, abs=1e-12)
    assert some < all_units


def test_a_missing_view_is_not_tested() -> None:
    responses, objects, angles = _views(noise=0.1)
    kept = np.ones(32, dtype=bool)
    kept[[3, 17]] = False
    assert rotation_decoding(responses[kept], objects[kept], angles[kept], repetitions=6) == 1.0


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_rotation_decoding_ignores_order_scale_and_offset_of_units(seed: int, scale: float) -> None:
    responses, objects, angles = _views(noise=1.5, rotations=6, seed=seed)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(responses)), rng.permutation(responses.shape[1])
    changed = scale * responses[rows][:, columns] + rng.normal(size=responses.shape[1])
    options = {"repetitions": 3, "components": 5}
    reached = rotation_decoding(changed, objects[rows], angles[rows], **options)
    assert reached == pytest.approx(rotation_decoding(responses, objects, angles, **options), abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": [0] * 32}, "2 objects at least; got 1"),
        ({"test_classes": 5}, "draws 5 test classes"),
        ({"test_classes": 4}, "more objects than test_classes"),
        ({"held_out": 2}, "must be odd"),
        ({"held_out": 9}, "holds out 9 rotations and needs more; got 8"),
        ({"units": 13}, "between 1 and the 12 units"),
        ({"scaler": "none"}, "scaler must be"),
        ({"penalty": 0.0}, "penalty above 0"),
        ({"repetitions": 0}, "repetitions must be at least 1"),
        ({"rotations": ["a", "b", "c", "d", "e", "f", "g", "h"] * 4}, "rotations must be numbers"),
        ({"rotations": [0] * 31}, "one row per view"),
        ({"responses": np.full((32, 3), np.nan)}, "96 NaN or infinite"),
        ({"responses": np.ones((32, 0))}, "the 0 units"),
        ({"objects": [0] * 10 + [1] * 20 + [2] * 2}, "object 2 has no view outside"),
    ],
)
def test_what_the_rotation_battery_cannot_do_is_refused(change: dict, message: str) -> None:
    responses, objects, angles = _views()
    with pytest.raises(ValueError, match=message):
        rotation_decoding(**{"responses": responses, "objects": objects, "rotations": angles, **change})


def test_torch_gives_the_same_float() -> None:
    views = _views(noise=1.5)
    result = rotation_decoding(*(torch.tensor(part) for part in views), repetitions=2)
    assert type(result) is float
    assert result == rotation_decoding(*views, repetitions=2)
