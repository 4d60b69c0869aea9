"""Transfer between two planted modalities against the truth, scikit-learn and himalaya, and without any signal."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from himalaya.ridge import RidgeCV
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from two_modalities import WIDTHS, Planted, planted

from metrics.inference.permutation import block_permutation_p
from metrics.prediction.accuracy import pearson
from metrics.transfer.alignment import Alignment, align
from metrics.transfer.cross_modal import DIRECTIONS, CrossModalTransfer, Modality, cross_modal_transfer
from metrics.transfer.encoding import centred, design, fit, predict_left_out, prepare

DELAYS = (1, 2, 3, 4)
CROSSED = (("language", "vision"), ("vision", "language"))


def _transfer(world: Planted, **options: object) -> CrossModalTransfer:
    options = {"captioned": world.captioned, "delays": DELAYS, "permutations": 99} | options
    return cross_modal_transfer(world.language, world.vision, **options)


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted(pairs=400)


@pytest.fixture(scope="module")
def result(world: Planted) -> CrossModalTransfer:
    return _transfer(world, permutations=499)


def _reachable(world: Planted, name: str) -> np.ndarray:
    """Correlation of the noise-free signal with the responses: what no model can pass on average."""
    return pearson(world.signal[name], getattr(world, name).responses)


# The planted truth


@pytest.mark.parametrize("name", ["language", "vision"])
def test_within_a_modality_every_unit_with_a_signal_nears_its_ceiling(
    name: str, world: Planted, result: CrossModalTransfer
) -> None:
    found, driven = getattr(result, f"{name}_to_{name}"), world.kinds != "silent"
    np.testing.assert_allclose(found[driven], _reachable(world, name)[driven], atol=0.08)
    assert (result.adjusted[f"{name}_to_{name}"][driven] < 0.01).all()
    assert np.abs(found[~driven]).max() < 0.25


@pytest.mark.parametrize(("trained", "tested"), CROSSED)
def test_shared_units_transfer_as_well_as_within(
    trained: str, tested: str, world: Planted, result: CrossModalTransfer
) -> None:
    found, shared = getattr(result, f"{trained}_to_{tested}"), world.kinds == "shared"
    np.testing.assert_allclose(found[shared], _reachable(world, tested)[shared], atol=0.06)
    np.testing.assert_allclose(getattr(result, f"ratio_{trained}_to_{tested}")[shared], 1.0, atol=0.1)
    assert result.significant(f"{trained}_to_{tested}")[shared].all()


@pytest.mark.parametrize(("trained", "tested"), CROSSED)
def test_units_of_opposite_sign_transfer_with_that_sign(
    trained: str, tested: str, world: Planted, result: CrossModalTransfer
) -> None:
    found, opposite = getattr(result, f"{trained}_to_{tested}"), world.kinds == "opposite"
    np.testing.assert_allclose(found[opposite], -_reachable(world, tested)[opposite], atol=0.06)
    np.testing.assert_allclose(getattr(result, f"ratio_{trained}_to_{tested}")[opposite], -1.0, atol=0.1)
    assert not result.significant(f"{trained}_to_{tested}")[opposite].any()  # one-sided


def test_private_units_do_not_transfer(world: Planted) -> None:
    private, shared = world.kinds == "private", world.kinds == "shared"
    for trained, tested in CROSSED:
        source = getattr(world, tested)
        carried = replace(source, features=source.features @ world.alignment[f"{tested}_to_{trained}"])
        true = replace(world, **{tested: carried})
        found = getattr(_transfer(true, alignment="identity", captioned=None), f"{trained}_to_{tested}")
        assert np.abs(found[private]).max() < 0.25
        assert found[shared].min() > 0.7
    # an estimated alignment leaks a little of the private latents, and a correlation ignores how little
    leaks = []
    for seed in range(8):
        one = _transfer(planted(seed, units=3, pairs=400), penalties=(0.01,), permutations=9)
        leaks += [getattr(one, name)[6:9] for name in DIRECTIONS[2:]]
    assert abs(np.mean(leaks)) < 0.25


def test_nothing_transfers_on_average_under_shuffled_pairs(world: Planted, result: CrossModalTransfer) -> None:
    found, driven = _transfer(world, shuffles=60, penalties=(0.01,)), world.kinds != "silent"
    for name in DIRECTIONS[2:]:
        null = getattr(found, f"null_{name}")[driven]
        assert np.abs(null).max() < 0.25  # single shuffles spread by about 0.4: wrong mixtures of real features
        assert abs(null.mean()) < 0.1
        assert np.abs(getattr(result, name)[world.kinds == "shared"]).min() > 0.7
    control = [_transfer(world, alignment="shuffled", penalties=(0.01,), seed=seed) for seed in range(12)]
    scores = [one.language_to_vision[world.kinds == "shared"].mean() for one in control]
    assert abs(np.mean(scores)) < 0.3
    assert len(np.unique(scores)) == 12
    assert np.mean(scores) < result.language_to_vision[world.kinds == "shared"].mean() - 0.5


def test_more_captioned_pairs_bring_transfer_to_its_ceiling() -> None:
    few, many = (planted(1, pairs=pairs) for pairs in (6, 300))
    scores = [np.mean(_transfer(one).language_to_vision[one.kinds == "shared"]) for one in (few, many)]
    assert scores[0] < scores[1] - 0.03
    assert scores[1] == pytest.approx(_reachable(many, "vision")[many.kinds == "shared"].mean(), abs=0.05)


def test_the_wrong_delays_lose_what_the_right_ones_find(world: Planted, result: CrossModalTransfer) -> None:
    static = _transfer(world, delays=(0,))
    for name in DIRECTIONS[:3]:
        shared = world.kinds == "shared"
        assert getattr(static, name)[shared].mean() < getattr(result, name)[shared].mean() - 0.2


def test_the_planted_hrf_and_alignment_are_recovered() -> None:
    world = planted(2, runs=6, times=150, pairs=4000, noise=0.1)
    for one, other in CROSSED:
        pairs = dict(zip(WIDTHS, world.captioned, strict=True))
        found = Alignment.fit(pairs[one]).weights(pairs[other], 1e-8)
        np.testing.assert_allclose(found, world.alignment[f"{one}_to_{other}"], atol=0.12)
    stream = prepare(world.language.features, world.language.responses, world.language.runs, "language", 3)
    weights = fit(stream, np.ones(900, dtype=bool), DELAYS, (1e-4, 1e-2)).weights.reshape(4, WIDTHS["language"], -1)
    heights = np.array([0.4, 1.0, 0.6, -0.2])  # a unit's weights are its HRF times its tuning
    for unit in np.flatnonzero(world.kinds == "shared"):
        left, _, _ = np.linalg.svd(weights[:, :, unit])
        assert abs(left[:, 0] @ heights) / np.linalg.norm(heights) > 0.99


def test_identity_works_only_in_one_space(world: Planted, result: CrossModalTransfer) -> None:
    with pytest.raises(ValueError, match="equal numbers of features; got 8 and 11"):
        _transfer(world, alignment="identity")
    carried = world.vision.features @ world.alignment["vision_to_language"]
    same = replace(world, vision=replace(world.vision, features=carried))
    found = _transfer(same, alignment="identity", captioned=None)
    shared = world.kinds == "shared"
    np.testing.assert_allclose(found.language_to_vision[shared], result.language_to_vision[shared], atol=0.05)
    assert np.isnan(found.null_language_to_vision).all()
    foreign = replace(world, vision=replace(world.vision, features=world.vision.features[:, :8]))
    pairs = world.captioned[0], world.captioned[1][:, :8]
    bad = _transfer(foreign, alignment="identity", captioned=pairs)
    assert np.abs(bad.language_to_vision[shared]).mean() < result.language_to_vision[shared].mean() - 0.3
    assert np.isfinite(bad.null_language_to_vision[shared]).all()


# No run is predicted by a model that saw it


def test_a_pattern_that_exists_in_one_run_only_is_never_predicted_within() -> None:
    rng, runs = np.random.default_rng(3), np.repeat(np.arange(4), 40)
    pattern = rng.normal(size=160)
    features = np.hstack([pattern[:, None] * (runs[:, None] == np.arange(4)), rng.normal(size=(160, 2))])
    units = pattern[:, None] + 0.01 * rng.normal(size=(160, 3))
    heard = Modality(features, units, runs)
    found = cross_modal_transfer(heard, heard, alignment="identity", permutations=99)
    assert (found.language_to_vision > 0.99).all()  # every run was trained on: a leak would look like this
    assert np.abs(found.language_to_language).max() < 0.35


def test_the_tested_responses_do_not_reach_their_own_prediction(world: Planted) -> None:
    stream = prepare(world.vision.features, world.vision.responses, world.vision.runs, "vision", 3)
    for run in range(4):
        held = stream.runs == run
        spoilt = np.where(
            held[:, None], np.random.default_rng(run).normal(size=stream.responses.shape), stream.responses
        )
        penalties = (1e-3, 1e-1, 10.0)
        expected = predict_left_out(stream, DELAYS, penalties)
        found = predict_left_out(replace(stream, responses=spoilt), DELAYS, penalties)
        np.testing.assert_array_equal(found[held], expected[held])
        assert (found[~held] != expected[~held]).any(axis=0).all()


def test_features_of_one_run_do_not_reach_the_predictions_of_another(world: Planted) -> None:
    stream = prepare(world.vision.features, world.vision.responses, world.vision.runs, "vision", 3)
    model = fit(stream, stream.runs > 1, DELAYS, (1.0,))
    spoilt = stream.features.copy()
    spoilt[76:80] += 100  # the last samples of run 0
    first, second = (model.predict(one, stream.runs) for one in (stream.features, spoilt))
    np.testing.assert_array_equal(first[80:], second[80:])
    assert (first[:80] != second[:80]).any()


# Independent implementations


def _by_hand(values: np.ndarray, runs: np.ndarray) -> np.ndarray:
    return np.concatenate([values[runs == run] - values[runs == run].mean(0) for run in np.unique(runs)])


def _lagged(features: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Delays 1 to 4 within runs, each run centred, by loops."""
    result = np.zeros((len(features), 4 * features.shape[1]))
    for time in range(len(features)):
        for position, delay in enumerate(DELAYS):
            if time >= delay and runs[time - delay] == runs[time]:
                columns = slice(position * features.shape[1], (position + 1) * features.shape[1])
                result[time, columns] = features[time - delay]
    return _by_hand(result, runs)


def test_all_four_directions_equal_scikit_learn_at_a_fixed_penalty(world: Planted) -> None:
    penalty, r = 0.3, {}
    given = {"language": world.language, "vision": world.vision}
    pairs = dict(zip(given, world.captioned, strict=True))
    raw = {name: _by_hand(one.features, one.runs) for name, one in given.items()}
    for trained, source in given.items():
        for tested, target in given.items():
            held = np.unique(source.runs) if trained == tested else [None]
            predicted = np.zeros_like(target.responses)
            for run in held:
                train, test = source.runs != run, target.runs == run if run is not None else target.runs >= 0
                scale = raw[trained][train].std(0)
                features = raw[tested]
                if trained != tested:
                    mean, spread = pairs[tested].mean(0), pairs[tested].std(0)
                    bridge = Ridge(alpha=penalty * WIDTHS[tested]).fit((pairs[tested] - mean) / spread, pairs[trained])
                    features = _by_hand(bridge.predict((features - mean) / spread), target.runs)
                fitted = _lagged(raw[trained] / scale, source.runs)[train]
                responses = _by_hand(source.responses, source.runs)
                responses /= np.concatenate([np.tile(responses[source.runs == k].std(0), (80, 1)) for k in range(4)])
                alpha = penalty * (fitted**2).sum() / len(fitted)
                model = Ridge(alpha=alpha, fit_intercept=False).fit(fitted, responses[train])
                predicted[test] = model.predict(_lagged(features / scale, target.runs)[test])
            normed = np.concatenate(
                [(one - one.mean(0)) / one.std(0) for one in (target.responses[target.runs == k] for k in range(4))]
            )
            r[f"{trained}_to_{tested}"] = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, normed.T, strict=True)]
    found = _transfer(world, penalties=(penalty,), alignment_penalty=penalty)
    for name in DIRECTIONS:
        np.testing.assert_allclose(getattr(found, name), r[name], atol=1e-9)


def _noisy(seed: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictors and responses of 5 runs, centred within them, from clean units to noisy ones."""
    rng, runs = np.random.default_rng(seed), np.repeat(np.arange(5), 24)
    x = centred(rng.normal(size=(120, 30)), runs)
    noise = np.geomspace(0.1, 30, 12) * rng.normal(size=(120, 12))
    return x, centred(x @ rng.normal(size=(30, 12)) + noise, runs), runs


def test_penalties_and_weights_equal_himalaya() -> None:
    x, y, runs = _noisy()
    penalties = tuple(10.0**power for power in range(-3, 4))
    unit = (x**2).sum() / len(x)  # a relative penalty of 1
    ridge = Alignment.fit(x)
    chosen = ridge.choose_each(y, runs, penalties)
    folds = list(LeaveOneGroupOut().split(x, y, runs))
    model = RidgeCV(alphas=unit * np.array(penalties), cv=folds).fit(x, y)
    np.testing.assert_allclose(chosen * unit, model.best_alphas_, rtol=1e-6)
    assert len(np.unique(chosen)) > 2
    np.testing.assert_allclose(ridge.weights(y, chosen), model.coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("features", [5, 60])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_leaving_groups_out_equals_refitting(features: int, penalty: float) -> None:
    rng, groups = np.random.default_rng(5), np.array([*"aabbbcacbbdddddcab"])
    x, y = rng.normal(3, 1, size=(18, features)), rng.normal(2, 1, size=(18, 3))
    y[4, 2] = np.nan
    alpha = penalty * ((x - x.mean(0)) ** 2).sum() / 18
    predicted = cross_val_predict(Ridge(alpha=alpha), x, y[:, :2], groups=groups, cv=LeaveOneGroupOut())
    found = Alignment.fit(x).leave_groups_out(y, groups, penalty)
    np.testing.assert_allclose(found[:2], ((predicted - y[:, :2]) ** 2).mean(0), rtol=1e-7)
    assert np.isnan(found[2])
    single = Alignment.fit(x).leave_groups_out(y, np.arange(18), penalty)
    np.testing.assert_allclose(single, Alignment.fit(x).leave_one_out(y, penalty), rtol=1e-7)
    with pytest.raises(ValueError, match="got 1 groups"):
        Alignment.fit(x).leave_groups_out(y, np.zeros(18), penalty)


def test_weights_are_those_of_predict() -> None:
    x, y, _ = _noisy()
    ridge, new = Alignment.fit(x + 3), np.random.default_rng(6).normal(size=(7, 30))
    expected = ridge.predict(y, new, 0.5)
    np.testing.assert_allclose(y.mean(0) + (new - ridge.mean) @ ridge.weights(y, 0.5), expected, atol=1e-10)
    np.testing.assert_array_equal(align(x + 3, y, new, 0.5), expected)
    with pytest.raises(ValueError, match="above 0"):
        ridge.weights(y, 0.0)


def test_centring_before_and_after_the_delays_is_an_intercept_for_each_run(world: Planted) -> None:
    runs, scale = world.language.runs, np.ones(8)
    x = design(world.language.features + 5 * runs[:, None], scale, runs, DELAYS)
    np.testing.assert_allclose(x, _lagged(_by_hand(world.language.features, runs), runs), atol=1e-12)


# Chance


def test_without_a_signal_the_error_rate_is_at_most_the_nominal_one() -> None:
    share, rejected, naive = [], [], []
    for seed in range(4):
        world, rng = planted(seed, times=60, pairs=60), np.random.default_rng(100 + seed)
        noise = rng.normal(size=(2, 240, 500))
        for time in range(1, 240):
            noise[:, time] += 0.4 * noise[:, time - 1]
        heard, seen = replace(world.language, responses=noise[0]), replace(world.vision, responses=noise[1])
        options = {"delays": (1, 2), "penalties": (1.0,), "permutations": 199, "shuffles": 1}
        found = cross_modal_transfer(heard, seen, world.captioned, **options)
        share.append([(found.p[name] <= 0.05).mean() for name in DIRECTIONS])
        rejected.append([found.significant(name).mean() for name in DIRECTIONS])
        stream = prepare(heard.features, heard.responses, heard.runs, "language", 2)
        predicted = predict_left_out(stream, (1, 2), (1.0,))
        naive.append((block_permutation_p(predicted, stream.responses, 10, 199, stream.runs) <= 0.05).mean())
    within, across = np.split(np.mean(share, axis=0), 2)
    deviation = np.sqrt(0.05 * 0.95 / 2000)
    np.testing.assert_allclose(across, 0.05, atol=4 * deviation)
    assert (within < 0.05 + 3 * deviation).all()
    assert (within > 0.01).all()  # conservative, not void
    assert np.mean(naive) > 0.05 + 4 * deviation  # left-out runs train the other models: what widening is for
    assert np.mean(rejected) < 0.005


def test_false_discoveries_among_real_ones_are_controlled() -> None:
    share = []
    for seed in range(8):
        world = planted(seed, units=20, runs=3, times=60, noise=1.8, pairs=60)
        found = _transfer(world, penalties=(0.1,), permutations=199, level=0.1)
        significant, silent = found.significant("language_to_language"), world.kinds == "silent"
        assert significant[~silent].mean() > 0.5
        share.append((significant & silent).sum() / max(significant.sum(), 1))
    assert np.mean(share) < 0.1


def test_the_ratio_is_missing_where_within_is_not_significant(world: Planted, result: CrossModalTransfer) -> None:
    for trained, tested in CROSSED:
        ratio, within = getattr(result, f"ratio_{trained}_to_{tested}"), f"{tested}_to_{tested}"
        np.testing.assert_array_equal(np.isfinite(ratio), result.significant(within))
        expected = getattr(result, f"{trained}_to_{tested}") / getattr(result, within)
        np.testing.assert_array_equal(ratio[np.isfinite(ratio)], expected[np.isfinite(ratio)])
    assert np.isnan(result.ratio_language_to_vision[world.kinds == "silent"]).sum() >= 4


# Captioned pictures without time


def test_pictures_and_captions_in_any_order() -> None:
    world = planted(7, runs=5, times=60, hrf={0: 1.0})
    order = np.random.default_rng(8).permutation(300)
    heard, seen = (
        Modality(one.features[order], one.responses[order], one.runs[order]) for one in (world.language, world.vision)
    )
    mixed, sorted_ = replace(world, language=heard, vision=seen), _transfer(world, delays=(0,), block=1)
    found = _transfer(mixed, delays=(0,), block=1)
    shared = world.kinds == "shared"
    for name, tested in zip(DIRECTIONS, ("language", "vision", "vision", "language"), strict=True):
        np.testing.assert_allclose(getattr(found, name), getattr(sorted_, name), atol=1e-9)
        np.testing.assert_allclose(getattr(found, name)[shared], _reachable(world, tested)[shared], atol=0.08)
        assert found.significant(name)[shared].all()
    with pytest.raises(ValueError, match="consecutive"):
        _transfer(mixed)


# Results and edges


def test_areas_are_summarised_with_counts(world: Planted, result: CrossModalTransfer) -> None:
    rows = result.by_area(world.kinds)
    assert sorted(rows) == ["opposite", "private", "shared", "silent"]
    for kind, row in rows.items():
        units = world.kinds == kind
        assert row["vision_to_language"] == pytest.approx(result.vision_to_language[units].mean())
        assert row["null_vision_to_language"] == pytest.approx(result.null_vision_to_language[units].mean())
        assert row["vision_to_vision_significant"] == result.significant("vision_to_vision")[units].sum()
        assert row["ratio_language_to_vision_units"] == np.isfinite(result.ratio_language_to_vision[units]).sum()
    assert rows["opposite"]["language_to_vision"] < -0.5
    with pytest.raises(ValueError, match="label 20 units; got 2"):
        result.by_area(["V1", "V4"])


def test_missing_and_constant_units_are_nan_and_leave_the_others_alone(world: Planted) -> None:
    options = {"penalties": (0.1, 1.0), "permutations": 19}
    expected, responses = _transfer(world, **options), world.vision.responses.copy()
    responses[3, 0], responses[:, 1] = np.nan, 0.1
    responses[:80, 2] = 0.1  # constant in one run only
    found = _transfer(replace(world, vision=replace(world.vision, responses=responses)), **options)
    for name in DIRECTIONS:
        np.testing.assert_allclose(getattr(found, name)[3:], getattr(expected, name)[3:], atol=1e-12)
        assert np.isfinite(getattr(found, name)[2])
        touched = "vision" in name
        np.testing.assert_array_equal(np.isnan(getattr(found, name)[:2]), touched)
        np.testing.assert_array_equal(np.isnan(found.adjusted[name][:2]), touched)
    row = found.by_area(np.zeros(20))[0.0]
    assert row["vision_to_vision_units"] == 18


def test_a_constant_feature_changes_nothing(world: Planted) -> None:
    options = {"penalties": (0.1, 1.0), "permutations": 19}
    wide = replace(world.vision, features=np.hstack([world.vision.features, np.full((320, 1), 0.1)]))
    pairs = world.captioned[0], np.hstack([world.captioned[1], np.full((400, 1), 0.1)])
    expected, found = _transfer(world, **options), _transfer(replace(world, vision=wide, captioned=pairs), **options)
    for name in DIRECTIONS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-9)


def test_units_may_be_scaled_and_shifted_and_features_too(world: Planted, result: CrossModalTransfer) -> None:
    shift = 10 * world.language.runs[:, None]
    heard = Modality(7 * world.language.features + shift, 0.01 * world.language.responses - shift, world.language.runs)
    pairs = 7 * world.captioned[0] + 4, world.captioned[1]
    found = _transfer(replace(world, language=heard, captioned=pairs), permutations=499)
    for name in DIRECTIONS:
        np.testing.assert_allclose(getattr(found, name), getattr(result, name), atol=1e-8)


def test_the_ceiling_is_handed_through(world: Planted) -> None:
    known = np.linspace(0.1, 1, 20)
    found = _transfer(replace(world, vision=replace(world.vision, ceiling=known)), penalties=(1.0,))
    np.testing.assert_array_equal(found.ceiling["vision"], known)
    assert np.isnan(found.ceiling["language"]).all()
    with pytest.raises(ValueError, match="20 units"):
        _transfer(replace(world, vision=replace(world.vision, ceiling=known[:3])), penalties=(1.0,))


def test_torch_in_torch_out(world: Planted) -> None:
    heard, seen = (
        Modality(torch.tensor(one.features), torch.tensor(one.responses), torch.tensor(one.runs))
        for one in (world.language, world.vision)
    )
    options = {"penalties": (1.0,), "permutations": 19}
    found = _transfer(replace(world, language=heard, vision=seen), **options)
    expected = _transfer(world, **options)
    for name in (*DIRECTIONS, "ratio_language_to_vision", "null_vision_to_language"):
        assert isinstance(getattr(found, name), torch.Tensor)
        np.testing.assert_array_equal(getattr(found, name).numpy(), getattr(expected, name))
    assert isinstance(found.p["vision_to_vision"], torch.Tensor)
    for kind, row in expected.by_area(world.kinds).items():
        assert found.by_area(world.kinds)[kind] == pytest.approx(row, nan_ok=True)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"alignment": "cca"}, "ridge, shuffled or identity; got 'cca'"),
        ({}, {"captioned": None}, "captioned=None"),
        ({}, {"block": 41}, "two blocks of 41"),
        ({}, {"delays": ()}, "delays must be whole numbers"),
        ({"responses": np.ones((320, 3))}, {}, "same units; got 20 and 3"),
        ({"features": np.ones((320, 4))}, {}, r"\(pairs, 4\)"),
        ({"features": np.ones((10, 11))}, {}, "got 10, 320 and 320"),
        ({"features": np.full((320, 11), np.nan)}, {}, "vision features holds 3520 NaN"),
        ({"responses": np.full((320, 20), np.inf)}, {}, "6400 infinite"),
        ({"runs": np.repeat([0, 1], 160)}, {}, "at least 3 runs of at least 3 samples"),
        ({"runs": np.repeat([0, 1, 2], [159, 159, 2])}, {}, "shortest of 2"),
    ],
)
def test_bad_input_is_named(world: Planted, change: dict, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _transfer(replace(world, vision=replace(world.vision, **change)), **options)


def test_two_runs_are_enough_for_a_fixed_penalty(world: Planted) -> None:
    halves = replace(world.vision, runs=np.repeat([0, 1], 160))
    found = _transfer(replace(world, vision=halves), penalties=(1.0,))
    assert found.significant("vision_to_vision")[world.kinds == "shared"].all()
    assert np.isnan(_transfer(world, penalties=(1.0,), shuffles=0).null_language_to_vision).all()
