"""Eccentric pooling against the published window table and plain pooling, and the layout of VGG16."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from models.backbones import BACKBONES
from models.backbones.eccentric import (
    EccentricPool,
    EccentricSmoothing,
    distances,
    shrinking_blocks,
    window_maxima,
    window_means,
    window_sizes,
)
from models.backbones.eccentricity import eccentric_windows, pixels_in_degree
from models.backbones.vgg16 import preprocessed

torch.set_num_threads(1)

# The published code's windows, from the fovea outward, by display in pixels and layer; 1358 px has 19 regions.
WINDOWS = {
    (806, 3): "2 3 3 4 4 5 5 6 6 7",
    (806, 4): "2 3 3 4 5 5 6 6 7 8",
    (806, 5): "2 3 3 4 5 5 6 6 7 8",
    (524, 3): "2 3 3 4 4 5",
    (524, 4): "2 3 3 4 5 5",
    (524, 5): "2 3 3 4 5 5",
}
VGG16_FILTERS = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
VGG16_NAMES = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]


def build(name, seed=0, **changes):
    held = {key: parameter.default for key, parameter in BACKBONES[name].parameters.items()}
    return BACKBONES[name].load()(held | changes, seed)


def images(high, wide=None, stimuli=2, seed=0):
    return torch.rand(stimuli, 3, high, wide or high, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("display", "layer"), WINDOWS)
def test_the_published_windows(display, layer):
    assert eccentric_windows(display, layer).windows == tuple(map(int, WINDOWS[display, layer].split()))


def test_the_published_windows_of_the_largest_display():
    third, fourth, fifth = (eccentric_windows(1358, layer).windows for layer in (3, 4, 5))
    assert (third[:3], third[-3:], len(third)) == ((2, 3, 3), (11, 12, 12), 19)
    assert (fourth[:3], fourth[-3:], len(fourth)) == ((2, 3, 3), (12, 13, 14), 19)
    assert fifth == fourth


def test_layers_without_slope_have_one_window_and_the_fovea_a_radius_of_four_degrees():
    assert set(eccentric_windows(806, 1).windows) == set(eccentric_windows(806, 2).windows) == {2}
    for layer in (3, 4, 5):
        radius = eccentric_windows(806, layer).radii[0] * 2**layer / 30  # pixels of the display, in degrees
        assert radius == pytest.approx(4.27, abs=0.01)


def test_degrees_are_rounded_as_published_and_not_where_that_would_move_the_fovea():
    assert [pixels_in_degree(layer) for layer in range(1, 6)] == [30, 15, 8, 4, 2]
    assert [pixels_in_degree(layer, 10) for layer in range(1, 6)] == [10, 5, 2, 1.25, 0.625]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((0, 3), "input_side must be 1 or more; got 0"),
        ((100, 6), "layer must be 1 to 5; got 6"),
        ((100, 3, 0.0), "pixels_per_degree must be above 0; got 0"),
        ((100, 3, 30.0, -1.0), "scale must be 0 or more; got -1"),
        ((100, 3, 30.0, 1.0, float("nan")), "fovea must be 0 or more; got nan"),
    ],
)
def test_bad_windows_are_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        eccentric_windows(*arguments)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 5), st.floats(1, 60), st.floats(0, 3), st.floats(0, 5), st.floats(0.1, 2))
def test_windows_and_radii_rise_outward(side, layer, density, scale, fovea, ring):
    found = eccentric_windows(side, layer, density, scale, fovea, ring)
    assert len(found.radii) == len(found.windows) >= 2
    assert list(found.windows) == sorted(found.windows)
    assert list(found.radii) == sorted(set(found.radii))
    assert found.windows[0] == 2
    assert found.radii[-1] == float("inf")


def by_hand(maps, windows, stride, reduce):
    """The mean or maximum over every window, pixel by pixel; "same" padding as TensorFlow lays it."""
    maps, windows = maps.double().numpy(), windows.numpy()
    found = np.empty((*maps.shape[:2], *windows.shape))
    for (i, j), size in np.ndenumerate(windows):
        spans = []
        for place, length, count in ((i, maps.shape[2], windows.shape[0]), (j, maps.shape[3], windows.shape[1])):
            start = place * stride - max((count - 1) * stride + size - length, 0) // 2
            spans.append(slice(max(start, 0), min(start + size, length)))
        found[:, :, i, j] = reduce(maps[:, :, spans[0], spans[1]], axis=(2, 3))
    return torch.from_numpy(found).float()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 2]), st.integers(0, 99))
def test_windows_that_differ_by_place_are_those_counted_by_hand(high, wide, stride, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = 100 + torch.randn(2, 3, high, wide, generator=generator)
    windows = torch.randint(1, 7, (-(-high // stride), -(-wide // stride)), generator=generator)
    torch.testing.assert_close(window_means(maps, stride, windows), by_hand(maps, windows, stride, np.mean))
    torch.testing.assert_close(window_maxima(maps, stride, windows), by_hand(maps, windows, stride, np.max))


@pytest.mark.parametrize("layer", [3, 4, 5])
def test_the_pool_is_the_sum_of_masked_plain_pools(layer):
    """output = sum_k mask_k * AvgPool_{w_k}(x), with torch's own pooling of padded maps for every region."""
    side, pool = 806 // 2 ** (layer - 1), EccentricPool(layer)
    maps, regions = torch.rand(1, 2, side, side), eccentric_windows(806, layer)
    count = (side + 1) // 2
    y, x = np.mgrid[:count, :count] - (count - 1) / 2
    expected, inner = torch.zeros(1, 2, count, count), -1.0
    for radius, window in zip(regions.radii, regions.windows, strict=True):
        mask = torch.from_numpy((np.hypot(y, x) > inner) & (np.hypot(y, x) <= radius))
        both = max((count - 1) * 2 + window - side, 0)
        padding = [both // 2, both - both // 2] * 2
        sums = F.avg_pool2d(F.pad(maps, padding), window, 2, divisor_override=1)
        counts = F.avg_pool2d(F.pad(torch.ones_like(maps), padding), window, 2, divisor_override=1)
        expected += mask * (sums / counts)
        inner = radius
    torch.testing.assert_close(pool(maps), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(pool(maps), F.avg_pool2d(maps, 2, ceil_mode=True), atol=1e-2)


@pytest.mark.parametrize("side", [1, 2, 7, 30])
def test_without_slopes_the_pool_is_the_plain_one(side):
    maps = images(side, side + 3)
    expected = F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)
    assert torch.equal(EccentricPool(5, scale=0.0)(maps), expected)
    assert torch.equal(EccentricPool(2)(maps), expected)
    plain = torch.full(expected.shape[-2:], 2)
    torch.testing.assert_close(window_means(maps, 2, plain), expected)
    assert torch.equal(window_maxima(maps, 2, plain), F.max_pool2d(maps, 2, ceil_mode=True))
    assert torch.equal(EccentricPool(4, scale=0.0, kind="max")(maps), F.max_pool2d(maps, 2, ceil_mode=True))


def test_oblong_maps_become_square_and_constants_stay_inside():
    maps = torch.ones(1, 2, 10, 30)
    found = EccentricPool(3, pixels_per_degree=4.0)(maps)
    assert found.shape == (1, 2, 15, 15)
    assert found[0, 0, 7, 7] == 1
    assert found[0, 0, 0, 7] == found[0, 0, -1, 7] == 0
    for kind in ("average", "max"):
        square = EccentricPool(3, pixels_per_degree=4.0, kind=kind)(torch.ones(1, 2, 30, 30))
        torch.testing.assert_close(square, torch.ones(1, 2, 15, 15))


@settings(max_examples=10, deadline=None)
@given(st.integers(8, 40), st.integers(3, 5))
def test_the_pool_is_symmetric_about_its_centre(half, layer):
    """Even sides: flipping the picture flips its pooled map where windows are even, which lie symmetrically."""
    pool, maps = EccentricPool(layer, pixels_per_degree=6.0), torch.rand(1, 1, 2 * half, 2 * half)
    windows = window_sizes(pool.regions(2 * half), distances(half, half, maps))
    assert torch.equal(windows, windows.flip(0))
    assert torch.equal(windows, windows.T)
    even = (windows % 2 == 0)[None, None]
    found, flipped = pool(maps), pool(maps.flip(-1)).flip(-1)
    torch.testing.assert_close(found[even], flipped[even])
    assert even.any()


def test_gradients_of_the_pool_are_right():
    maps = images(11, stimuli=1)[:, :1].double().requires_grad_()
    pool, smoothing = (
        kind(5, pixels_per_degree=8.0, fovea=1.0, scale=2.0) for kind in (EccentricPool, EccentricSmoothing)
    )
    assert max(pool.regions(11).windows) > 4
    assert torch.autograd.gradcheck(lambda x: pool(x)[..., ::3], (maps,))
    assert torch.autograd.gradcheck(lambda x: smoothing(x)[..., ::5], (maps,))
    pool(maps).sum().backward()
    assert (maps.grad > 0).all()


def test_smoothing_leaves_the_fovea_alone_and_keeps_the_shape():
    maps, smoothing = images(41, 31), EccentricSmoothing(4, pixels_per_degree=16.0)
    found = smoothing(maps)
    assert found.shape == maps.shape
    radius = 2 * smoothing.regions(41).radii[0]
    distance = distances(41, 31, maps)
    assert torch.equal(found[..., distance <= radius], maps[..., distance <= radius])
    first = next(i for i, window in enumerate(smoothing.regions(41).windows) if window > 2)
    outside = distance > 2 * smoothing.regions(41).radii[first - 1]
    assert 0.1 < outside.float().mean() < 0.9
    assert (found != maps)[..., outside].all()
    assert found[..., outside].var() < 0.5 * maps[..., outside].var()


SMALL = {"pixels_per_degree": 4.0, "fovea": 0.5}


@pytest.mark.parametrize(
    ("base", "chosen"),
    [
        ("efficientnet-lite0", {"weights": "imagenet"}),
        ("efficientnet-lite0", {"weights": "random"}),
        ("vgg16", {"weights": "random", "pooling": "average", "preprocessing": "keras"}),
    ],
)
def test_without_slopes_the_network_is_its_base(base, chosen):
    own = {name: value for name, value in chosen.items() if name in BACKBONES[base].parameters}
    blocks = range(5)
    plain = build(base, 3, **own).forward_blocks(images(37), blocks)
    without = build("eccentric", 3, base=base, slopes_scale=0.0, **chosen, **SMALL).forward_blocks(images(37), blocks)
    within = build("eccentric", 3, base=base, **chosen, **(SMALL | {"fovea": 99.0})).forward_blocks(images(37), blocks)
    curved = build("eccentric", 3, base=base, slopes_scale=4.0, **chosen, **SMALL).forward_blocks(images(37), blocks)
    for a, b, c in zip(plain, without, within, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-5 * float(a.abs().max()))
    assert [a.shape for a in plain] == [d.shape for d in curved]
    assert torch.equal(plain[0], curved[0])  # the first slopes are zero
    assert not torch.allclose(plain[4], curved[4], atol=1e-3 * float(plain[4].std()))


def test_steep_slopes_take_detail_from_the_periphery():
    """Random pixels: how much a map varies in its outer rows, away from the padding, by slope."""
    pixels, outer = images(112, stimuli=2), []
    for scale in (0.0, 4.0):
        network = build("eccentric", base="vgg16", weights="random", slopes_scale=scale, **SMALL)
        with torch.no_grad():
            maps = network.forward_blocks(pixels, [3])[0][..., 2:-2]
        outer.append(float(maps[..., [2, 3, -4, -3], :].std(dim=-1).mean()))
    assert outer[1] < 0.8 * outer[0]


def test_where_efficientnets_halve_their_maps():
    assert shrinking_blocks(build("efficientnet-lite0")) == [1, 3, 5, 11]
    network = build("eccentric")
    held = {
        index: block[0].layer for index, block in enumerate(network.base.blocks) if isinstance(block, nn.Sequential)
    }
    assert held == {1: 2, 3: 3, 5: 4, 11: 5}


def test_block_counts_and_what_the_base_does_not_take():
    component = BACKBONES["eccentric"]
    held = {key: parameter.default for key, parameter in component.parameters.items()}
    assert component.block_count(held) == 16
    assert component.block_count(held | {"base": "vgg16", "weights": "random"}) == 5
    with pytest.raises(ValueError, match=r"weights of vgg16 must be random \| the path of a \.safetensors file"):
        build("eccentric", base="vgg16")
    with pytest.raises(ValueError, match=r"weights of efficientnet-lite0 must be imagenet \| random; got 'a\.saf"):
        build("eccentric", weights="a.safetensors")
    with pytest.raises(ValueError, match="preprocessing of efficientnet-lite0 is its own"):
        build("eccentric", preprocessing="keras")


def written_out(pooling):
    """VGG16's features as torchvision lists them, from the written-out filters."""
    layers, inputs, rest = [], 3, list(VGG16_FILTERS)
    for count in (2, 2, 3, 3, 3):
        for filters in rest[:count]:
            layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU()]
            inputs = filters
        del rest[:count]
        layers.append(nn.MaxPool2d(2, 2) if pooling == "max" else nn.AvgPool2d(2, 2))
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = written_out("max")
    state = {f"features.{name}": value.contiguous() for name, value in features.state_dict().items()}
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.safetensors"
    save_file(state | {"classifier.6.bias": torch.zeros(3)}, path)
    return path, features.state_dict()


def test_vgg16_has_thirteen_convolutions_and_the_known_number_of_parameters(weights):
    network = build("vgg16")
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [each.out_channels for each in convolutions] == VGG16_FILTERS
    assert sum(parameter.numel() for parameter in network.parameters()) == 14_714_688
    stored = [int(name.split(".")[0]) for name in weights[1] if name.endswith("weight")]
    assert stored == VGG16_NAMES


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("preprocessing", ["torch", "keras"])
def test_vgg16_computes_what_torchvisions_layout_does(weights, pooling, preprocessing):
    path, state = weights
    features, inputs = written_out(pooling), images(32)
    features.load_state_dict(state)
    value = inputs
    if preprocessing == "torch":
        value = (value - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
            3, 1, 1
        )
    else:
        value = (value * 255)[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    network = build("vgg16", weights=str(path), pooling=pooling, preprocessing=preprocessing)
    found = network.forward_blocks(inputs, range(5))
    with torch.no_grad():
        for index, layer in enumerate(features):
            value = layer(value)
            if index in (3, 8, 15, 22, 29):  # the last ReLU of each block
                torch.testing.assert_close(found.pop(0), value, rtol=1e-4, atol=1e-4 * float(value.max()))
    assert not found


def test_vgg16_weights_that_do_not_fit_are_named(weights, tmp_path):
    state = {f"features.{name}": value.contiguous() for name, value in weights[1].items()}
    save_file({name: value for name, value in state.items() if name != "features.7.bias"}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"expected a tensor features\.7\.bias of shape \(128,\)"):
        build("vgg16", weights=str(tmp_path / "a.safetensors"))
    save_file(state | {"features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"features\.0\.weight: expected shape \(64, 3, 3, 3\); got \(64, 1, 3, 3\)"):
        build("vgg16", weights=str(tmp_path / "b.safetensors"))
    (tmp_path / "c.safetensors").write_bytes(b"not one")
    for name in ("c.safetensors", "missing.safetensors"):
        with pytest.raises(ValueError, match=rf"{name}: expected a readable safetensors file"):
            build("vgg16", weights=str(tmp_path / name))


def test_vgg16_keeps_maps_and_gradients_though_it_rectifies_in_place():
    network, inputs = build("vgg16"), images(32).requires_grad_()
    together = network.forward_blocks(inputs, range(5))
    for block, found in enumerate(together):
        assert torch.equal(found, network.forward_blocks(inputs, [block])[0])
    together[4].sum().backward()
    moved = inputs.detach().clone().requires_grad_()
    value = preprocessed(moved, "torch")
    for index, block in enumerate(network.blocks):
        value = F.max_pool2d(value, 2) if index else value
        for convolution in block:
            value = F.relu(convolution(value))
    value.sum().backward()
    torch.testing.assert_close(inputs.grad, moved.grad)


def test_random_vgg16_neither_fades_nor_explodes():
    with torch.no_grad():
        maps = build("vgg16", 1).forward_blocks(images(48, stimuli=4), range(5))
    assert all(0.1 < float(value.std()) < 10 for value in maps)
