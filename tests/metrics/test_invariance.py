"""The closed-form decoder against scikit-learn, and what it must and must not generalise over."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metrics import chance_corrected, object_decoding
from metrics.invariance import transform_folds


def _views(
    objects: int = 6, angles: int = 10, units: int = 20, noise: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(objects), angles)
    angle = np.tile(np.arange(angles) * 360 // angles, objects)
    responses = rng.normal(size=(objects, units))[identity] + noise * rng.normal(size=(len(angle), units))
    return responses, identity, angle


def _with_scikit_learn(
    responses: np.ndarray, objects: np.ndarray, angles: np.ndarray, folds: int, penalty: float
) -> float:
    hits = np.zeros(len(objects), dtype=bool)
    for block in np.array_split(np.unique(angles), folds):
        test = np.isin(angles, block)
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=penalty))
        hits[test] = model.fit(responses[~test], objects[~test]).predict(responses[test]) == objects[test]
    return float(hits.mean())


@pytest.mark.parametrize("units", [8, 200])  # primal and dual
@pytest.mark.parametrize("objects", [2, 6])
@pytest.mark.parametrize("penalty", [0.1, 1.0, 30.0])
def test_accuracy_equals_ridge_classifier(units: int, objects: int, penalty: float) -> None:
    responses, identity, angle = _views(objects=objects, units=units, noise=0.8 * units**0.5)
    responses[:, 3] = 5.0  # a constant unit
    expected = _with_scikit_learn(responses, identity, angle, 5, penalty)
    assert 1 / objects < expected < 1
    assert object_decoding(responses, identity, angle, 5, penalty) == expected


def test_planted_identity_is_decoded_and_noise_is_not() -> None:
    assert object_decoding(*_views(noise=0.1)) == 1.0
    responses, identity, angle = _views(objects=10, angles=20)
    noise = np.random.default_rng(4).normal(size=responses.shape)
    assert chance_corrected(object_decoding(noise, identity, angle), 10) == pytest.approx(0, abs=0.12)


def test_a_code_that_is_bound_to_the_view_does_not_generalise() -> None:
    _, identity, angle = _views(objects=5, angles=10)
    bound = np.random.default_rng(5).normal(size=(5, 10, 30))[identity, angle // 36]
    assert object_decoding(bound, identity, angle) < 0.4


def test_folds_are_contiguous_in_value_and_at_most_as_many_as_values() -> None:
    assert transform_folds(np.array([10, 9, 2, 1]), 2).tolist() == [1, 1, 0, 0]
    assert transform_folds(np.array([0, 90, 0, 90]), 5).tolist() == [0, 1, 0, 1]
    assert np.bincount(transform_folds(np.arange(15) * 24, 5)).tolist() == [3] * 5


def test_constant_responses_decode_at_chance_and_text_labels_work() -> None:
    _, identity, angle = _views(objects=4)
    assert object_decoding(np.ones((40, 7)), identity, angle) == pytest.approx(0.25)
    responses, identity, angle = _views(objects=4)
    names = np.array(["cup", "hat", "dog", "car"])[identity]
    assert object_decoding(responses, names, angle.astype(str), folds=10) == pytest.approx(
        object_decoding(responses, identity, angle, folds=10)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": [0] * 8}, "2 objects; got 1"),
        ({"transforms": [0] * 8}, "2 transforms"),
        ({"folds": 1}, "2 folds"),
        ({"penalty": 0.0}, "penalty above 0"),
        ({"responses": np.full((8, 3), np.nan)}, "24 NaN or infinite"),
        ({"objects": [0] * 7}, "one row per view"),
        ({"objects": [0, 0, 0, 0, 1, 1, 1, 2]}, "object 2 is seen in one fold"),
        ({"transforms": [0, 1, 2, np.nan, 0, 1, 2, 3]}, "transforms holds 1 NaN labels"),
    ],
)
def test_what_cannot_be_decoded_is_refused(change: dict, message: str) -> None:
    arguments = {
        "responses": np.random.default_rng(0).normal(size=(8, 3)),
        "objects": [0, 0, 0, 0, 1, 1, 1, 1],
        "transforms": [0, 1, 2, 3, 0, 1, 2, 3],
    }
    with pytest.raises(ValueError, match=message):
        object_decoding(**{**arguments, **change})


def test_chance_corrected() -> None:
    assert chance_corrected(1.0, 7) == 1.0
    assert chance_corrected(1 / 7, 7) == pytest.approx(0.0)
    assert chance_corrected(0.0, 2) == -1.0
    with pytest.raises(ValueError, match="2 classes"):
        chance_corrected(0.5, 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_units_may_be_permuted_scaled_and_views_reordered(seed: int, scale: float) -> None:
    responses, identity, angle = _views(noise=1.5, seed=seed)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(responses)), rng.permutation(responses.shape[1])
    changed = object_decoding(scale * responses[rows][:, columns] + 3, identity[rows], angle[rows])
    assert changed == pytest.approx(object_decoding(responses, identity, angle), abs=1 / len(rows) + 1e-12)


def test_torch_gives_the_same_float() -> None:
    views = _views(noise=2.0)
    result = object_decoding(*(torch.tensor(part) for part in views))
    assert type(result) is float
    assert result == object_decoding(*views)
