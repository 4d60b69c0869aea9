"""Streamed JNE and its closed-form Jacobians against autograd, one sample at a time."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import metrics.nonlinearity.dispersion as nonlinearity
import metrics.nonlinearity.jacobians as jacobians
from metrics import ResidualJacobian, jacobian_nonlinearity, jne_streaming, residual_mlp_factors

VARIANTS = [("l1", False), ("l2", False), ("l1", True), ("l2", True)]
PHI: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "tanh": torch.tanh,
    "swish": nn.functional.silu,
}
SLOPE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": lambda x: (x > 0).to(x.dtype),
    "gelu": lambda x: torch.special.ndtr(x) + x * torch.exp(-(x**2) / 2) / (2 * torch.pi) ** 0.5,
    "tanh": lambda x: 1 - torch.tanh(x) ** 2,
    "swish": lambda x: torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))),
}


class _Residual(nn.Module):
    """h1 = phi(W1 x), then residual blocks, then a linear map to the units."""

    def __init__(self, phi: str, bias: bool, blocks: int = 2, sizes: tuple[int, int, int] = (6, 9, 11)) -> None:
        super().__init__()
        torch.manual_seed(blocks)
        features, hidden, units = sizes
        widths = [(features, hidden), *[(hidden, hidden)] * blocks, (hidden, units)]
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=bias) for a, b in widths).double()
        self.phi = phi

    def _drives(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        drives, hidden = [], torch.zeros(())
        for index, layer in enumerate(self.layers[:-1]):
            drives.append(layer(x if index == 0 else hidden))
            hidden = hidden + PHI[self.phi](drives[-1])
        return drives, hidden

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[-1](self._drives(x)[1])

    def numpy_factors(self) -> ResidualJacobian:
        """The same network as weights and closed-form slopes, in numpy."""

        def slopes(x: np.ndarray) -> list[np.ndarray]:
            return [SLOPE[self.phi](drive).detach().numpy() for drive in self._drives(torch.as_tensor(x))[0]]

        return ResidualJacobian([layer.weight.detach().numpy().T for layer in self.layers], slopes)

    def torch_factors(self) -> ResidualJacobian:
        def slopes(x: torch.Tensor) -> list[torch.Tensor]:
            return [SLOPE[self.phi](drive) for drive in self._drives(x)[0]]

        return ResidualJacobian([layer.weight.T for layer in self.layers], slopes)


def _by_autograd(model: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> np.ndarray:
    """Jacobians (samples, features, units), one sample at a time."""
    rows = [torch.func.jacrev(lambda x: model(x[None])[0])(row) for row in inputs]
    return np.stack([row.detach().numpy().reshape(len(row), -1).T for row in rows])


def _inputs(samples: int = 12, features: int = 6) -> torch.Tensor:
    return 2 * torch.randn(samples, features, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("phi", PHI)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("blocks", [0, 2, 3])
def test_the_closed_form_is_the_jacobian(phi: str, bias: bool, blocks: int) -> None:
    model, inputs = _Residual(phi, bias, blocks), _inputs()
    expected = _by_autograd(model, inputs)
    left, right = model.numpy_factors().jacobian_factors(inputs.numpy())
    np.testing.assert_allclose(left @ right, expected, rtol=0, atol=1e-10)
    left, right = model.torch_factors().jacobian_factors(inputs)
    np.testing.assert_allclose((left @ right).detach().numpy(), expected, rtol=0, atol=1e-10)


def _same(result: nonlinearity.JacobianNonlinearity, expected: nonlinearity.JacobianNonlinearity) -> None:
    for name in ("jne", "mean_deviation", "scale_free", "per_sample", "linear"):
        np.testing.assert_allclose(np.asarray(getattr(result, name)), getattr(expected, name), rtol=1e-10, atol=1e-12)
    assert result.reasons == expected.reasons


@pytest.mark.parametrize("entries", [60, 2**24])
@pytest.mark.parametrize(("norm", "zscored"), VARIANTS)
def test_streaming_is_the_same_as_in_memory(
    norm: str, zscored: bool, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jacobians, "TILE", entries)
    monkeypatch.setattr(jacobians, "HELD", entries)  # 60: small blocks and two passes; 2**24: all at once
    model, inputs = _Residual("gelu", True), _inputs()
    expected = jacobian_nonlinearity(_by_autograd(model, inputs), norm, zscored)
    for source in (model, model.torch_factors(), model.numpy_factors()):
        given_inputs = inputs.numpy() if source is not model and isinstance(source.weights[0], np.ndarray) else inputs
        result = jne_streaming(source, given_inputs, norm, zscored, per_sample=True)
        assert isinstance(result.jne, torch.Tensor) == isinstance(given_inputs, torch.Tensor)
        _same(result, expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 13), st.integers(1, 14), st.booleans(), st.sampled_from(VARIANTS))
def test_block_sizes_do_not_matter(units: int, samples: int, factors: bool, variant: tuple[str, bool]) -> None:
    model, inputs = _Residual("swish", False), _inputs()
    expected = jacobian_nonlinearity(_by_autograd(model, inputs), *variant)
    source = model.torch_factors() if factors else model
    _same(jne_streaming(source, inputs, *variant, "nan", None, True, units, samples), expected)


def test_every_axis_of_a_sample_is_a_feature() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 5)).double()
    images = torch.randn(7, 2, 6, 6, dtype=torch.float64)
    with torch.no_grad():  # as a caller that only predicts would have it
        result = jne_streaming(model, images, per_sample=True)
    _same(result, jacobian_nonlinearity(_by_autograd(model, images)))


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_streaming_finds_linear_units(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(30, 40).to(kind), nn.Linear(40, 6).to(kind)
    inputs = torch.randn(25, 30).to(kind)
    result = jne_streaming(lambda x: second(first(x)), inputs, samples_per_block=7)
    assert result.linear.all()
    assert torch.isnan(result.jne).all()
    assert result.reasons == (nonlinearity.LINEAR,) * 6
    ones = ResidualJacobian([first.weight.T, second.weight.T], lambda x: [torch.ones(len(x), 40, dtype=kind)])
    assert jne_streaming(ones, inputs, samples_per_block=7).linear.all()
    assert not jne_streaming(ones, inputs, linear="zero").jne.any()
    noise = torch.finfo(kind).eps
    rounded = ResidualJacobian(ones.weights, lambda x: [1 + noise * torch.randn(len(x), 40).to(kind)])
    assert (jne_streaming(rounded, inputs, tolerance=0.0).jne > 0).all()
    assert jne_streaming(rounded, inputs).linear.all()
    assert not jne_streaming(lambda x: second(torch.relu(first(x))), inputs).linear.any()


def test_float32_is_close_to_float64() -> None:
    model, inputs = _Residual("gelu", True), _inputs(60)
    exact = jne_streaming(model.torch_factors(), inputs).jne
    single = _Residual("gelu", True)
    single.layers.float()
    weights = [layer.weight.T for layer in single.layers]
    slopes = model.torch_factors().slopes
    factors = ResidualJacobian(weights, lambda x: [slope.float() for slope in slopes(x.double())])
    for source in (factors, single):
        np.testing.assert_allclose(jne_streaming(source, inputs.float()).jne.numpy(), exact.numpy(), rtol=1e-4)


def test_one_sample_streams_to_nan() -> None:
    result = jne_streaming(_Residual("relu", False), _inputs(1))
    assert torch.isnan(result.jne).all()
    assert result.per_sample is None
    assert result.reasons == (nonlinearity.TOO_FEW,) * 11


def test_streaming_never_holds_all_jacobians(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jacobians, "TILE", 2**13)
    monkeypatch.setattr(jacobians, "HELD", 2**15)
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in [(60, 40), (40, 40), (40, 500)]]
    model = ResidualJacobian(weights, lambda x: [1.0 * (x @ weights[0] > 0)] * 2)
    inputs = rng.normal(size=(200, 60))
    for zscored in (False, True):
        tracemalloc.start()
        result = jne_streaming(model, inputs, zscored=zscored)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.isfinite(result.jne).all()
        assert peak < 200 * 60 * 500 * 8 / 8  # an eighth of all Jacobians


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one of each"):
        jne_streaming(nn.Linear(3, 2), np.ones((0, 3)))
    with pytest.raises(ValueError, match="units_per_block must be at least 1; got 0"):
        jne_streaming(nn.Linear(3, 2), torch.ones(4, 3), units_per_block=0)
    with pytest.raises(ValueError, match="one sample gave shape"):
        jne_streaming(lambda x: x.sum(1), torch.ones(4, 3))
    with pytest.raises(ValueError, match="left"):
        jne_streaming(
            ResidualJacobian([np.ones((2, 2)), np.ones((2, 1))], lambda x: [np.ones((1, 2))]), np.ones((4, 3))
        )
    weights = [np.ones((3, 2)), np.ones((2, 2)), np.ones((2, 1))]
    with pytest.raises(ValueError, match="got 3 weights, 1 slopes"):
        residual_mlp_factors(weights, [np.ones((4, 2))])
    with pytest.raises(ValueError, match="weights do not chain"):
        residual_mlp_factors([np.ones((3, 2)), np.ones((2, 5)), np.ones((5, 1))], [np.ones((4, 2)), np.ones((4, 5))])
    with pytest.raises(ValueError, match=r"slopes must be \(samples, 2\)"):
        residual_mlp_factors(weights, [np.ones((4, 2)), np.ones((5, 2))])


def test_the_file_imports_without_torch() -> None:
    code = "import sys, metrics; metrics.jne_streaming; metrics.residual_mlp_factors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
