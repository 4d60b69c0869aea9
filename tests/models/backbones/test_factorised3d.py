"""The cores for clips and for images that come from published code: their sizes, causality, contract."""

import copy
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from models.backbones import BACKBONES
from models.backbones.cores.channels import factorised_depths, parse_channels
from models.backbones.cores.factorised3d import Factorised3dBlock, temporal_roughness
from models.backbones.cores.stacked2d import grey_images
from models.inputs.tensors import as_float, clip_statistics
from models.objectives.regularizers import laplacian_smoothness

torch.set_num_threads(1)

SMALL = {"channels": "3-4-5", "spatial_first": 5, "spatial_then": 3, "temporal_first": 4, "temporal_then": 3}
FORKED = SMALL | {"channels": "2-2-2-2-2-3-4-5", "two_streams": True}


def defaults(name, **changes):
    return {key: parameter.default for key, parameter in BACKBONES[name].parameters.items()} | changes


def build(name="factorised3d", seed=0, **changes):
    return BACKBONES[name].load()(defaults(name, **changes), seed)


def clips(frames=9, high=8, wide=10, count=2, seed=0):
    return torch.rand(count, 3, frames, high, wide, generator=torch.Generator().manual_seed(seed))


def parameters(module):
    return sum(value.numel() for value in module.parameters())


def lively(core, seed=1):
    """The core with batch norm statistics and gains that are not those of the start."""
    generator = torch.Generator().manual_seed(seed)
    for norm in (each for each in core.modules() if isinstance(each, nn.BatchNorm2d)):
        for value in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return core.eval()


@pytest.mark.parametrize(
    ("channels", "count"),
    [
        ("16-32-64-128", 382_512),
        ("16-32-64-128-256-128", 2_432_816),
        ("16-32-64-128-256-512-256-128", 10_629_424),
        ("16-32-64-128-256-128-128-128", 3_417_392),
    ],
)
def test_published_sizes(channels, count):
    assert parameters(build(channels=channels)) == count


def test_published_size_without_padding():
    core = build(channels="32-64-128", padding="none", middle_norm=False, momentum=0.7).eval()
    assert parameters(core) == 374_432
    assert core.lost(2) == (18, 18)
    with torch.no_grad():
        (value,) = core.forward_blocks(clips(20, 36, 64, 1), [2])
    assert value.shape == (1, 128, 2, 18, 46)


def test_published_size_of_the_baseline_for_images():
    assert parameters(build("stacked2d")) == 40_256


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("middle", [True, False])
def test_block_equals_three_dimensional_convolutions(padded, middle):
    block = lively(Factorised3dBlock(2, 3, (5, 4), padded, middle, 0.1))
    maps = torch.randn(2, 2, 7, 9, 8)
    edge = 2 if padded else 0
    value = F.conv3d(maps, block.space.weight[:, :, None], block.space.bias, padding=(0, edge, edge))
    if middle:
        value = batch_norm(value, block.middle)
    value = F.conv3d(F.pad(value, [0, 0, 0, 0, 3 if padded else 0, 0]), block.time.weight[..., None], block.time.bias)
    torch.testing.assert_close(block(maps), F.elu(batch_norm(value, block.norm)), rtol=1e-4, atol=1e-5)


def batch_norm(value, norm):
    return F.batch_norm(value, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def test_batch_norm_learns_the_statistics_of_all_clips_and_frames():
    block, maps = Factorised3dBlock(2, 3, (3, 3), True, True, 1.0), torch.randn(4, 2, 6, 5, 5)
    block(maps)
    found = F.conv3d(maps, block.space.weight[:, :, None], block.space.bias, padding=(0, 1, 1))
    torch.testing.assert_close(block.middle.running_mean, found.mean(dim=(0, 2, 3, 4)), rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["causal", "none"]), st.integers(0, 11), st.integers(0, 2))
def test_later_frames_never_change_earlier_outputs(padding, frame, depth):
    core, before = lively(build(**SMALL, padding=padding)), clips(12, 10, 9)
    after = before.clone()
    after[:, :, frame:] = clips(12, 10, 9, seed=5)[:, :, frame:]
    with torch.no_grad():
        first, second = (core.forward_blocks(value, [depth])[0] for value in (before, after))
    start = max(frame - core.lost(depth)[0], 0)  # outputs are aligned with the input at the end
    assert torch.equal(first[:, :, :start], second[:, :, :start])
    assert not torch.equal(first[:, :, start:], second[:, :, start:])


@pytest.mark.parametrize("changes", [SMALL, SMALL | {"padding": "none"}, FORKED])
def test_contract(changes):
    core, inputs = build(**changes).eval(), clips(10, 14, 15)
    count = BACKBONES["factorised3d"].block_count(defaults("factorised3d", **changes))
    with torch.no_grad():
        every = core.forward_blocks(inputs, range(count))
        some = core.forward_blocks(inputs, [count - 1, 0, count - 1])
    assert torch.equal(some[0], every[-1])
    assert torch.equal(some[1], every[0])
    assert torch.equal(some[2], every[-1])
    assert core.forward_blocks(inputs, []) == []
    for depth, value in enumerate(every):
        frames, pixels = core.lost(depth)
        assert value.shape == (2, core.channels[depth], 10 - frames, 14 - pixels, 15 - pixels)
        assert value.isfinite().all()
        assert value.std(dim=0).mean() > 1e-3
        with torch.no_grad():
            assert torch.equal(core.forward_blocks(inputs, [depth])[0], value)


def calls(core, blocks):
    called = []
    for index, block in enumerate(core.blocks):
        block.register_forward_hook(lambda *_, index=index: called.append(index))
    core.forward_blocks(clips(), blocks)
    return called


@pytest.mark.parametrize(
    ("blocks", "needed"),
    [
        ([0], [0]),
        ([5], [0, 1, 2, 3, 4, 5]),
        ([7], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([8], [0, 1, 2, 3, 4, 5, 8]),
        ([9, 6], [0, 1, 2, 3, 4, 5, 6, 8, 9]),
    ],
)
def test_two_streams_compute_what_is_asked_and_no_more(blocks, needed):
    assert calls(build(**FORKED).eval(), blocks) == needed


def test_second_stream_starts_from_the_sixth_block():
    core = lively(build(**FORKED))
    with torch.no_grad():
        sixth, seventh, eighth, second = core.forward_blocks(clips(), [5, 6, 7, 9])
        assert torch.equal(core.blocks[9](core.blocks[8](sixth)), second)
        assert torch.equal(core.blocks[7](core.blocks[6](sixth)), eighth)
    assert seventh.shape[1] == 4
    assert second.shape == eighth.shape
    assert not torch.equal(second, eighth)
    plain = build(**FORKED | {"two_streams": False})
    assert parameters(core) - parameters(plain) == sum(parameters(core.blocks[index]) for index in (6, 7))


def test_two_streams_need_something_to_fork():
    with pytest.raises(ValueError, match="more than 6 blocks, not 3"):
        build(**SMALL, two_streams=True)
    assert factorised_depths({"channels": "1-1-1-1-1-1-1", "two_streams": True}) == 8


@pytest.mark.parametrize("block", [-1, 3])
def test_block_that_does_not_exist(block):
    with pytest.raises(ValueError, match=r"does not exist: blocks are 0 to 2"):
        build(**SMALL).forward_blocks(clips(), [block])


def test_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match=r"clips must be \(clips, 3, frames, height, width\), not \(2, 3, 9, 8\)"):
        build(**SMALL).forward_blocks(clips()[..., 0], [0])
    core = build(**SMALL, padding="none")
    with pytest.raises(ValueError, match="block 2 without padding loses 7 frames and 8 pixels a side"):
        core.forward_blocks(clips(7, 12, 12), [2])
    with pytest.raises(ValueError, match=r"\(frames, height, width\) = \(9, 8, 12\)"):
        core.forward_blocks(clips(9, 8, 12), [0, 2])
    assert core.forward_blocks(clips(8, 9, 9), [2])[0].shape[2:] == (1, 1, 1)


def test_registry_knows_channel_lists_without_torch():
    channels = BACKBONES["factorised3d"].parameters["channels"]
    assert channels.accepts("16-32-64")
    assert channels.accepts("8")
    assert not any(channels.accepts(text) for text in ("", "16-", "-16", "0-4", "16 32", "a-b", 16))
    assert parse_channels("16-32-64") == (16, 32, 64)
    code = (
        "import sys; from models.backbones import BACKBONES as b; c = b['factorised3d']; "
        "assert c.block_count({'channels': '1-2-3', 'two_streams': False}) == 3; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["factorised3d", "stacked2d"])
def test_seed(name):
    changes = SMALL if name == "factorised3d" else {"channels": 4}
    state = torch.random.get_rng_state()
    one, same, other = (build(name, seed, **changes) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])
        if key.endswith("weight") and value.ndim == 4:
            assert not torch.equal(value, other.state_dict()[key])


def test_start_is_kaiming_uniform():
    block = build(channels="8-64").blocks[1]
    for conv in (block.space, block.time):
        bound = (6.0 / conv.weight[0].numel()) ** 0.5
        assert bound * 0.99 < conv.weight.abs().max() <= bound
        assert abs(float(conv.weight.detach().std()) * 3**0.5 / bound - 1) < 0.02
        assert (conv.bias == 0.01).all()


@pytest.mark.parametrize("changes", [SMALL, FORKED, SMALL | {"middle_norm": False}])
def test_gradient_reaches_every_parameter(changes):
    core = build(**changes)
    maps = core.forward_blocks(clips(), range(core.depths))
    sum(value.square().mean() for value in maps).backward()
    silent = {key for key, value in core.named_parameters() if not value.grad.abs().sum() > 0}
    assert not silent


def test_convolutions_before_a_norm_have_idle_biases_in_training_only():
    """A batch norm takes the mean away: where it is used, the gradient of the bias before it is rounding."""
    core = build(**SMALL).eval()
    core.forward_blocks(clips(), [2])[0].square().mean().backward()
    assert all(block.time.bias.grad.abs().max() > 1e-6 for block in core.blocks)


@pytest.mark.parametrize(("name", "changes"), [("factorised3d", FORKED), ("stacked2d", {"channels": 6})])
def test_state_through_safetensors(name, changes):
    source, target = lively(build(name, 0, **changes)), build(name, 1, **changes).eval()
    inputs = clips() if name == "factorised3d" else clips()[:, :, 0]
    source.initialize_input(inputs)
    target.load_state_dict(load(save({k: v.contiguous() for k, v in source.state_dict().items()})))
    with torch.no_grad():
        pair = [core.forward_blocks(inputs, [1])[0] for core in (source, target)]
    assert torch.equal(*pair)


@pytest.mark.parametrize(("name", "changes"), [("factorised3d", FORKED), ("stacked2d", {"channels": 6})])
def test_stacked_equals_single(name, changes):
    cores = [lively(build(name, seed, **changes), seed) for seed in (0, 1, 2)]
    inputs = clips() if name == "factorised3d" else clips()[:, :, 0]
    blocks = [core_blocks(cores[0])[-1], 1]
    base, state = copy.deepcopy(cores[0]).to("meta"), stack_module_state(cores)

    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.core = base

        def forward(self, values):
            return tuple(self.core.forward_blocks(values, blocks))

    wrapped = Maps()

    def one(weights, buffers):
        named = {f"core.{key}": value for key, value in (weights | buffers).items()}
        return functional_call(wrapped, named, (inputs,))

    with torch.no_grad():
        stacked = vmap(one)(*state)
        for index, core in enumerate(cores):
            for found, expected in zip(stacked, core.forward_blocks(inputs, blocks), strict=True):
                torch.testing.assert_close(found[index], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def core_blocks(core):
    return list(range(len(core.blocks if hasattr(core, "blocks") else core.layers)))


def test_input_statistics():
    core, bright = build(**SMALL), 0.2 + 0.1 * clips(6)
    core.initialize_input(bright)
    grey = bright.mean(dim=1)
    torch.testing.assert_close(core.mean, grey.mean())
    torch.testing.assert_close(core.std, grey.std(correction=0))
    core.eval()
    other = build(**SMALL).eval()
    with torch.no_grad():  # what is z-scored does not know how bright and how contrasty the clips were
        found = core.forward_blocks(bright, [1])[0]
        other.initialize_input(clips(6))
        torch.testing.assert_close(found, other.forward_blocks(clips(6), [1])[0], rtol=1e-3, atol=1e-4)
    core.initialize_input(torch.full((1, 3, 2, 4, 4), 0.3))
    assert (float(core.mean), float(core.std)) == (pytest.approx(0.3), 0.25)


def test_bytes_are_the_same_clips():
    stored = (255 * clips()).to(torch.uint8)
    torch.testing.assert_close(as_float(stored), stored.double().div(255).float())
    assert clip_statistics(stored) == pytest.approx(clip_statistics(stored.float() / 255))
    grey = stored.double().mean(dim=1) / 255
    assert clip_statistics(stored) == (pytest.approx(float(grey.mean())), pytest.approx(float(grey.std(correction=0))))
    with pytest.raises(ValueError, match="must not be empty"):
        clip_statistics(stored[:0])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 1000), st.floats(0.1, 10))
def test_temporal_roughness(frames, seed, scale):
    """Against a loop; a scale changes nothing; a spike pays 6, an alternating kernel at most 16."""
    kernels = torch.randn(2, 3, frames, generator=torch.Generator().manual_seed(seed)).double()
    total = 0.0
    for curve in kernels.flatten(0, 1).tolist():
        padded = [0.0, *curve, 0.0]
        total += sum((padded[t] - 2 * padded[t + 1] + padded[t + 2]) ** 2 for t in range(frames))
    assert float(temporal_roughness(kernels)) == pytest.approx(total / float(kernels.square().sum()))
    assert float(temporal_roughness(scale * kernels)) == pytest.approx(float(temporal_roughness(kernels)))
    assert float(temporal_roughness(F.one_hot(torch.tensor([[2]]), 5).double())) == pytest.approx(6.0)
    assert float(temporal_roughness(torch.tensor([[[1.0, -1.0] * 50]]))) < 16
    assert float(temporal_roughness(torch.zeros(1, 1, frames))) == 0.0


def test_regularizer_weighs_the_first_block():
    core = build(**SMALL, smoothness=2.0, temporal_smoothness=3.0)
    first = core.blocks[0]
    expected = 2 * laplacian_smoothness(first.space.weight) + 3 * temporal_roughness(first.time.weight[..., 0])
    torch.testing.assert_close(core.regularizer(), expected)
    core.regularizer().backward()
    assert first.space.weight.grad.abs().sum() > 0
    assert core.blocks[1].space.weight.grad is None
    assert build(**SMALL).regularizer().item() == 0.0
    images = build("stacked2d", channels=4, smoothness=2.0)
    torch.testing.assert_close(images.regularizer(), 2 * laplacian_smoothness(images.layers[0].conv.weight))


def test_images_are_averaged_to_at_most_64():
    assert grey_images(torch.rand(1, 3, 36, 64)).shape == (1, 1, 36, 64)
    assert grey_images(torch.rand(1, 3, 144, 256)).shape == (1, 1, 36, 64)
    picture = torch.rand(1, 3, 70, 65)
    torch.testing.assert_close(grey_images(picture), F.avg_pool2d(picture.mean(dim=1, keepdim=True), 2))
    core = build("stacked2d", channels=4).eval()
    assert [value.shape for value in core.forward_blocks(torch.rand(2, 3, 36, 64), [0, 3])] == [(2, 4, 36, 64)] * 2


def test_separable_layer_is_three_convolutions():
    core = lively(build("stacked2d", channels=4))
    mix, space, merge = core.layers[1].conv
    dense = torch.einsum("om,mhw,mi->oihw", merge.weight[..., 0, 0], space.weight[:, 0], mix.weight[..., 0, 0])
    bare = copy.deepcopy(core.layers[1])
    for conv in bare.conv:
        conv.bias.data.zero_()
    maps = torch.randn(2, 4, 12, 12)
    expected = F.elu(batch_norm(F.conv2d(maps, dense, padding=3), bare.norm))
    torch.testing.assert_close(bare(maps), expected, rtol=1e-4, atol=1e-5)
