"""Ridge alignment against scikit-learn and explicit loops; transfer of a planted shared axis and its null."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from metrics import Alignment, align, caption_transfer
from metrics.transfer.alignment import PENALTIES

FIT, TEST = np.arange(100), np.arange(100, 160)


def _planted(units: int = 30, shared: int = 3, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Captions and responses that share a few latent axes, each with noise of its own."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(160, shared))
    captions = latent @ rng.normal(size=(shared, 50)) + 0.3 * rng.normal(size=(160, 50))
    return captions, latent @ rng.normal(size=(shared, units)) + noise * rng.normal(size=(160, units))


@pytest.mark.parametrize("features", [10, 300])  # more samples, more features
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 50.0])
def test_align_equals_scikit_learn(features: int, penalty: float) -> None:
    rng = np.random.default_rng(0)
    source, target, new = (
        rng.normal(2, 1, (60, features)),
        rng.normal(5, 1, (60, 4)),
        rng.normal(size=(9, features)),
    )
    alpha = penalty * ((source - source.mean(0)) ** 2).sum() / 60
    expected = Ridge(alpha=alpha).fit(source, target).predict(new)
    np.testing.assert_allclose(align(source, target, new, penalty), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("features", [6, 60])
def test_leave_one_out_equals_refitting(features: int) -> None:
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(25, features)), rng.normal(size=(25, 3))
    alignment, penalty = Alignment.fit(source), 0.3
    alpha = penalty * ((source - source.mean(0)) ** 2).sum() / 25
    errors = []
    for left in range(25):
        kept = np.arange(25) != left
        model = Ridge(alpha=alpha).fit(source[kept], target[kept])
        errors.append((model.predict(source[[left]])[0] - target[left]) ** 2)
    np.testing.assert_allclose(alignment.leave_one_out(target, penalty), np.mean(errors, axis=0), rtol=1e-8)


@pytest.mark.parametrize("at_once", [1, 2 * 60 * len(PENALTIES), 2**22])  # one target at a time, two, all
@pytest.mark.parametrize("noise", [0.3, 2.0, 8.0])
def test_the_chosen_penalty_has_the_least_error(at_once: int, noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """All penalties at once find what each by itself does; targets that are constant or miss a sample do not count."""
    monkeypatch.setattr("metrics.transfer.alignment.AT_ONCE", at_once)
    rng = np.random.default_rng(3)
    source = rng.normal(size=(60, 20))
    target = source @ rng.normal(size=(20, 7)) + noise * 4 * rng.normal(size=(60, 7))
    ridge = Alignment.fit(source)
    errors = [(ridge.leave_one_out(target, each) / target.var(axis=0)).mean() for each in PENALTIES]
    assert 0 < np.argmin(errors) < len(PENALTIES) - 1
    spoilt = np.column_stack([np.full(60, 3.0), target, np.where(np.arange(60) == 5, np.nan, source[:, 0])])
    assert ridge.choose(target) == ridge.choose(spoilt) == PENALTIES[int(np.argmin(errors))]


def test_the_chosen_penalty_follows_the_noise() -> None:
    rng = np.random.default_rng(2)
    source = rng.normal(size=(80, 40))
    signal = source @ rng.normal(size=(40, 6))
    alignment = Alignment.fit(source)
    clean, noisy = (alignment.choose(signal + size * rng.normal(size=signal.shape)) for size in (0.01, 20.0))
    assert clean == PENALTIES[0]
    assert noisy > 0.1
    np.testing.assert_array_equal(alignment.predict(signal, source), alignment.predict(signal, source, clean))


def test_alignment_edge_rules() -> None:
    source, target = np.random.default_rng(3).normal(size=(20, 5)), np.ones((20, 3))
    target[:, 1] = source[:, 0]
    target[4, 2] = np.nan
    predicted = Alignment.fit(source).predict(target, source[:4])
    np.testing.assert_allclose(predicted[:, 0], 1.0)
    assert np.isfinite(predicted[:, 1]).all()
    assert np.isnan(predicted[:, 2]).all()
    np.testing.assert_allclose(align(np.full((20, 5), 0.1), source, np.ones((1, 5)))[0], source.mean(0))
    for arguments, message in [
        ((source[:2], target[:2], source, 1.0), "at least 3 samples"),
        ((source, target[:9], source, 1.0), "targets have 9"),
        ((source, target, source, 0.0), "penalty must be above 0"),
        ((np.full((20, 5), np.nan), target, source, 1.0), "100 NaN or infinite"),
    ]:
        with pytest.raises(ValueError, match=message):
            align(*arguments)


def test_planted_shared_axes_transfer_and_their_null_does_not() -> None:
    result = caption_transfer(*_planted(), FIT, TEST)
    assert result.forward > 0.8
    assert result.score == pytest.approx((result.forward + result.backward) / 2)
    nulls = [caption_transfer(*_planted(seed=seed), FIT, TEST, seed=seed).null for seed in range(8)]
    assert abs(np.mean(nulls)) < 0.1


def test_backward_finds_the_captions_only_through_shared_axes() -> None:
    assert caption_transfer(*_planted(shared=10, noise=0.1), FIT, TEST).backward > 0.9
    captions, _ = _planted()
    unrelated = np.random.default_rng(9).normal(size=(160, 30))
    assert abs(caption_transfer(captions, unrelated, FIT, TEST).score) < 0.15


def test_the_null_is_the_score_of_captions_that_are_shuffled_over_the_fit_scenes() -> None:
    captions, responses = _planted()
    rng, scores = np.random.default_rng(5), []
    for _ in range(3):
        order = rng.permutation(len(FIT))
        shuffled = responses.copy()
        shuffled[FIT] = responses[FIT][order]
        scores.append(caption_transfer(captions, shuffled, FIT, TEST, 1.0).forward)
    backward = []
    rng = np.random.default_rng(5)
    for _ in range(3):
        shuffled = captions.copy()
        shuffled[FIT] = captions[FIT][rng.permutation(len(FIT))]
        backward.append(caption_transfer(shuffled, responses, FIT, TEST, 1.0).backward)
    null = caption_transfer(captions, responses, FIT, TEST, 1.0, seed=5).null
    assert null == pytest.approx((np.mean(scores) + np.mean(backward)) / 2, abs=1e-9)


def test_a_shared_decomposition_changes_nothing() -> None:
    captions, responses = _planted()
    shared = Alignment.fit(captions[FIT])
    expected = caption_transfer(captions, responses, FIT, TEST)
    assert caption_transfer(captions, responses, FIT, TEST, alignment=shared) == expected


def test_units_without_data_are_left_out() -> None:
    captions, responses = _planted()
    expected = caption_transfer(captions, responses, FIT, TEST, 1.0)
    spoilt = np.hstack([responses, np.full((160, 1), 0.1), np.where(np.arange(160) == 3, np.nan, 1.0)[:, None]])
    result = caption_transfer(captions, spoilt, FIT, TEST, 1.0)
    assert result.forward == pytest.approx(expected.forward)
    assert result.backward == pytest.approx(expected.backward)
    assert np.isnan(caption_transfer(captions, np.ones((160, 4)), FIT, TEST).score)
    assert np.isnan(caption_transfer(np.ones((160, 4)), responses, FIT, TEST).score)


@pytest.mark.parametrize(
    ("fit", "test", "message"),
    [
        (FIT, FIT[:3], "3 scenes are in both"),
        (FIT, [160], "from 0 to 159"),
        (FIT, [0.5], "whole"),
        ([], TEST, "one"),
    ],
)
def test_scene_sets_are_checked(fit: object, test: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        caption_transfer(*_planted(), fit, test)


def test_rows_must_match() -> None:
    captions, responses = _planted()
    with pytest.raises(ValueError, match="got 160 and 150"):
        caption_transfer(captions, responses[:150], FIT, TEST)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**4), st.floats(0.01, 100))
def test_units_may_be_permuted_and_everything_scaled(seed: int, scale: float) -> None:
    captions, responses = _planted(seed=seed, units=8)
    order = np.random.default_rng(seed).permutation(8)
    expected = caption_transfer(captions, responses, FIT, TEST)
    result = caption_transfer(scale * captions, 2 * scale * responses[:, order] + 1, FIT, TEST)
    for name in ("forward", "backward", "score", "null"):
        assert getattr(result, name) == pytest.approx(getattr(expected, name), abs=1e-6)


def test_torch_in_torch_out() -> None:
    captions, responses = _planted()
    expected = caption_transfer(captions, responses, FIT, TEST)
    mask = torch.arange(160) >= 100
    tensors = torch.tensor(captions), torch.tensor(responses)
    assert caption_transfer(*tensors, torch.tensor(FIT), mask) == expected
    result = align(tensors[0][:100], tensors[1][:100], tensors[0][100:])
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), align(captions[FIT], responses[FIT], captions[TEST]))
