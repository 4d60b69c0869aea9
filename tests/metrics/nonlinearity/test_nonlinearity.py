"""JNE against its definition, closed forms and the reference table of its simulations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import chi
from scipy.stats import norm as gaussian

import metrics.nonlinearity.dispersion as nonlinearity
from metrics import jacobian_nonlinearity, jne, jne_per_sample, mean_deviation

VARIANTS = [("l1", False), ("l2", False), ("l1", True), ("l2", True)]


def _slope(name: str, x: np.ndarray) -> np.ndarray:
    """phi' in closed form."""
    if name == "gelu":
        return gaussian.cdf(x) + x * gaussian.pdf(x)
    if name == "swish":
        return expit(x) * (1 + x * (1 - expit(x)))
    if name == "tanh":
        return 1 - np.tanh(x) ** 2
    return np.where(x > 0, 1.0, 0.01 if name == "leaky_relu" else 0.0)


def _by_hand(values: np.ndarray, norm: str, zscored: bool) -> tuple[np.ndarray, np.ndarray]:
    """JNE and mean deviation, one unit and one sample at a time."""
    score, level = [], []
    for unit in np.moveaxis(values, 2, 0):
        rows = [(row - row.mean()) / row.std() if zscored else row for row in unit]
        lengths = [np.linalg.norm(row - np.mean(rows, axis=0), ord=int(norm[1])) for row in rows]
        score.append(np.std(lengths))
        level.append(np.mean(lengths))
    return np.array(score), np.array(level)


def _window(name: str, centre: float, delta: float = 0.001, linear: str = "zero") -> float:
    """JNE of phi' over 1001 points of [centre - delta, centre + delta]."""
    slopes = _slope(name, np.linspace(centre - delta, centre + delta, 1001))
    return float(jne(slopes[:, None, None], linear=linear)[0])


# Definition


@pytest.mark.parametrize(("norm", "zscored"), VARIANTS)
def test_every_variant_is_its_definition(norm: str, zscored: bool) -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, size=(30, 7, 5)) ** 3
    score, level = _by_hand(values, norm, zscored)
    result = jacobian_nonlinearity(values, norm, zscored)
    np.testing.assert_allclose(result.jne, score, rtol=1e-12)
    np.testing.assert_allclose(result.mean_deviation, level, rtol=1e-12)
    np.testing.assert_allclose(result.scale_free, score / level, rtol=1e-12)
    np.testing.assert_allclose(jne(values, norm, zscored), score, rtol=1e-12)
    np.testing.assert_allclose(jne(values, norm, zscored, scale_free=True), score / level, rtol=1e-12)
    np.testing.assert_allclose(mean_deviation(values, norm, zscored), level, rtol=1e-12)
    np.testing.assert_allclose(jne_per_sample(values, norm, zscored).mean(0), score**2, rtol=1e-12)
    assert result.reasons == ("",) * 5


def test_the_variants_agree_over_units_of_unequal_gain() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(200, 64, 40)) * rng.uniform(0.2, 3.0, size=40) * rng.gamma(4.0, size=(200, 1, 1))
    assert np.corrcoef(jne(values, "l1"), jne(values, "l2"))[0, 1] > 0.99


# Simulation A: a single activation


@pytest.mark.parametrize("name", ["gelu", "swish", "tanh"])
@pytest.mark.parametrize("centre", [-2.5, -0.7, 0.4, 1.1, 3.0])
def test_a_small_window_sees_the_curvature(name: str, centre: float) -> None:
    curvature = (_slope(name, np.array(centre + 1e-5)) - _slope(name, np.array(centre - 1e-5))) / 2e-5
    assert _window(name, centre) == pytest.approx(abs(curvature) * 0.001 / np.sqrt(12), rel=5e-3)


def test_the_peaks_of_the_smooth_activations() -> None:
    grid = np.round(np.arange(-10, 10.001, 0.02), 2)
    for name, peak, law in [("gelu", 2.3056e-4, 2.3033e-4), ("swish", 1.4448e-4, 1.4434e-4)]:
        curve = [_window(name, centre) for centre in grid]
        assert grid[int(np.argmax(curve))] == 0
        assert max(curve) == pytest.approx(peak, rel=1e-4)
        assert {"gelu": 2 * gaussian.pdf(0), "swish": 0.5}[name] * 0.001 / np.sqrt(12) == pytest.approx(law, rel=1e-4)


def test_a_kink_is_seen_only_where_it_is() -> None:
    assert _window("relu", 0.0) == pytest.approx(4.995e-4, rel=1e-4)
    assert _window("leaky_relu", 0.0) == pytest.approx(4.945e-4, rel=1e-4)
    for name in ("relu", "leaky_relu"):
        elsewhere = [centre for centre in np.round(np.arange(-10, 10.001, 0.1), 2) if centre != 0]
        assert {_window(name, centre) for centre in elsewhere} == {0.0}
        assert np.isnan([_window(name, centre, linear="nan") for centre in elsewhere]).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(1, 39))
def test_two_slopes_follow_their_law(first: float, second: float, count: int) -> None:
    values = np.where(np.arange(40) < count, first, second)[:, None, None]
    share, gap = count / 40, abs(first - second)
    result = jacobian_nonlinearity(values, linear="zero")
    law = gap * abs(1 - 2 * share) * np.sqrt(share * (1 - share))
    np.testing.assert_allclose(result.jne, law, atol=1e-9)
    np.testing.assert_allclose(result.mean_deviation, 2 * gap * share * (1 - share), atol=1e-9)


def test_a_fair_switch_is_invisible_to_jne_and_seen_beside_it() -> None:
    values = np.tile([3.0, 7.0], 50)[:, None, None]
    result = jacobian_nonlinearity(values)
    assert result.jne.tolist() == [0.0]
    assert result.mean_deviation.tolist() == [2.0]
    assert result.reasons == ("",)


# Simulation B: untrained networks


def _configurations(weights: list[np.ndarray], skips: tuple[bool, bool], x: np.ndarray) -> list[float]:
    """JNE of x -> hidden 1 -> hidden 2 -> 1, ReLU at hidden 1 only, at hidden 2 only, and at both."""
    first, second, last = weights
    scores = []
    for relu_first, relu_second in [(True, False), (False, True), (True, True)]:
        drive = x @ first
        gain = (drive > 0) * 1.0 if relu_first else np.ones_like(drive)
        drive = (drive * gain + skips[0] * x) @ second
        gain_second = (drive > 0) * 1.0 if relu_second else np.ones_like(drive)
        back = (gain_second * last[:, 0]) @ second.T + skips[1] * last[:, 0]  # dy / d hidden 1
        gradient = (back * gain) @ first.T + skips[0] * back
        scores.append(float(jne(gradient[:, :, None])[0]))
    return scores


def _draw(initialisation: str, rng: np.random.Generator, width: int = 768) -> list[np.ndarray]:
    shapes = [(width, width), (width, width), (width, 1)]
    if initialisation == "default":  # torch Linear: U(-1/sqrt(fan_in), 1/sqrt(fan_in))
        return [rng.uniform(-1, 1, shape) / np.sqrt(shape[0]) for shape in shapes]
    if initialisation == "kaiming":
        return [rng.normal(size=shape) * np.sqrt(2 / shape[0]) for shape in shapes]
    if initialisation == "xavier":
        return [rng.uniform(-1, 1, shape) * np.sqrt(6 / sum(shape)) for shape in shapes]
    return [rng.normal(size=shape) for shape in shapes]


def _simulation_b(initialisation: str, skips: tuple[bool, bool], draws: int, samples: int) -> np.ndarray:
    scores = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        weights = _draw(initialisation, rng)
        scores.append(_configurations(weights, skips, rng.uniform(-10, 10, size=(samples, 768))))
    return np.mean(scores, axis=0)


SIMULATION_B = [
    ("default", (False, True), (0.117, 0.080, 0.123)),
    ("default", (True, True), (0.116, 0.134, 0.161)),
    ("default", (False, False), (0.058, 0.080, 0.075)),
    ("kaiming", (False, True), (1.04, 1.15, 1.24)),
    ("kaiming", (True, True), (1.02, 1.37, 1.40)),
    ("xavier", (False, True), (0.602, 0.574, 0.662)),
    ("normal", (False, True), (6300, 8650, 8800)),
    ("normal", (True, True), (6300, 8650, 8800)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("initialisation", "skips", "expected"), SIMULATION_B)
def test_untrained_networks(initialisation: str, skips: tuple[bool, bool], expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(_simulation_b(initialisation, skips, draws=10, samples=600), expected, rtol=0.06)


@pytest.mark.parametrize(("initialisation", "skips", "expected"), SIMULATION_B)
def test_untrained_networks_in_short(
    initialisation: str, skips: tuple[bool, bool], expected: tuple[float, ...]
) -> None:
    np.testing.assert_allclose(_simulation_b(initialisation, skips, draws=2, samples=150), expected, rtol=0.12)


# Simulation C: how many samples are needed

TRACKING = {10: 0.882, 20: 0.936, 30: 0.959, 50: 0.974, 100: 0.987, 200: 0.993, 300: 0.996}


def _tracking(samples: int, features: int) -> float:
    """Correlation of JNE with |sin x|, the scale of normal Jacobians drawn anew at every x."""
    rng = np.random.default_rng(samples)
    scale = np.abs(np.sin(np.linspace(0, 2 * np.pi, 1001)))
    curve = [float(jne(rng.normal(size=(samples, features, 1)) * s, linear="zero")[0]) for s in scale]
    return float(np.corrcoef(curve, scale)[0, 1])


def _tracking_law(samples: int) -> float:
    """The same in expectation: s is a sum over features, so nearly normal, and its std is chi-distributed."""
    spread = 1 / chi.mean(samples - 1) ** 2 * (samples - 1) - 1  # var / mean^2 of a std over n samples
    signal = 1 / 2 - (2 / np.pi) ** 2  # variance of |sin x|, whose mean square is 1/2
    return float(np.sqrt(signal / (signal + spread / 2)))


@pytest.mark.slow
@pytest.mark.parametrize("samples", TRACKING)
def test_jne_tracks_the_scale(samples: int) -> None:
    assert _tracking(samples, 768) == pytest.approx(TRACKING[samples], abs=max(0.12 / samples, 1e-3))


@pytest.mark.parametrize("samples", TRACKING)
def test_jne_tracks_the_scale_with_few_features(samples: int) -> None:
    found = _tracking(samples, 24)
    assert found == pytest.approx(TRACKING[samples], abs=max(0.2 / samples, 1e-3))
    assert found == pytest.approx(_tracking_law(samples), abs=max(0.2 / samples, 1e-3))


# Linear readouts, edges and invariances


def test_a_linear_network_is_undefined_up_to_rounding() -> None:
    rng = np.random.default_rng(0)
    jacobian = rng.normal(size=(256, 256)) @ rng.normal(size=(256, 4))
    rounding = 1 + 1e-7 * rng.normal(size=(50, 256, 4))
    values = (jacobian * rounding).astype(np.float32)
    assert (jne(values, tolerance=0.0) > 0).all()  # what rounding alone would be reported as
    result = jacobian_nonlinearity(values)
    assert result.linear.all()
    assert result.reasons == (nonlinearity.LINEAR,) * 4
    for array in (result.jne, result.mean_deviation, result.scale_free, result.per_sample):
        assert np.isnan(array).all()
    zero = jacobian_nonlinearity(values, linear="zero")
    assert not zero.jne.any()
    assert not zero.mean_deviation.any()
    assert not zero.per_sample.any()
    assert np.isnan(zero.scale_free).all()
    assert not jacobian_nonlinearity(values.astype(np.float64)).linear.any()  # there 1e-7 is no rounding
    assert jacobian_nonlinearity(values.astype(np.float64), tolerance=1e-5).linear.all()


def test_a_small_dispersion_is_not_mistaken_for_rounding() -> None:
    values = 1.0 + 1e-3 * np.random.default_rng(0).normal(size=(50, 9, 2))
    np.testing.assert_allclose(jne(values.astype(np.float32)), jne(values), rtol=1e-3)
    assert not jacobian_nonlinearity(values.astype(np.float32)).linear.any()


def test_edge_rules() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(6, 4, 4))
    values[2, 1, 0] = np.nan
    values[3, 0, 1] = np.inf
    values[4, :, 2] = 0.1 * (1 + 1e-15 * np.arange(4))  # equal over features up to rounding: no z-score
    result = jacobian_nonlinearity(values)
    np.testing.assert_array_equal(np.isnan(result.jne), [True, True, False, False])
    np.testing.assert_array_equal(np.isnan(result.mean_deviation), np.isnan(result.jne))
    assert result.reasons == (nonlinearity.UNDEFINED, nonlinearity.UNDEFINED, "", "")
    assert np.isnan(jne(values, zscored=True)).tolist() == [True, True, True, False]
    for few in (values[:1], values[:0]):
        short = jacobian_nonlinearity(few)
        assert np.isnan([short.jne, short.mean_deviation, short.scale_free]).all()
        assert short.reasons == (nonlinearity.TOO_FEW,) * 4
        assert not short.linear.any()
        assert short.per_sample.shape == few.shape[::2]
    dead = jacobian_nonlinearity(np.zeros((5, 3, 1)))
    assert dead.linear.all()
    assert np.isnan(dead.jne).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(samples, features, units\), three axes; got shape \(3, 4\)"):
        jne(np.ones((3, 4)))
    with pytest.raises(ValueError, match="norm must be 'l1' or 'l2'; got 'L3'"):
        jne(np.ones((3, 4, 1)), "L3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="linear must be 'nan' or 'zero'"):
        jne(np.ones((3, 4, 1)), linear="0")  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.sampled_from([-1.0, 1.0]), st.sampled_from(VARIANTS))
def test_gain_and_order(seed: int, gain: float, sign: float, variant: tuple[str, bool]) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(12, 6, 4))
    score, scaled = jne(values, *variant), jne(sign * gain * values, *variant)
    np.testing.assert_allclose(scaled, score if variant[1] else gain * score, rtol=1e-9)
    ratio = jne(values, *variant, scale_free=True)
    np.testing.assert_allclose(jne(sign * gain * values, *variant, scale_free=True), ratio, rtol=1e-9)
    units = rng.permutation(4)
    shuffled = values[rng.permutation(12)][:, rng.permutation(6)][:, :, units]
    np.testing.assert_allclose(jne(shuffled, *variant), score[units], rtol=1e-9)


def test_torch_in_torch_out() -> None:
    values = np.random.default_rng(3).normal(size=(8, 5, 3))
    tensor = torch.tensor(values, requires_grad=True)
    for function in (jne, mean_deviation, jne_per_sample):
        assert isinstance(function(tensor), torch.Tensor)
        np.testing.assert_array_equal(function(tensor).numpy(), function(values))
    result = jacobian_nonlinearity(tensor)
    assert result.linear.dtype == torch.bool
    assert result.reasons == ("",) * 3
