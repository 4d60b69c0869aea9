"""Behaviour and gaze: against torch's own layers, causality, missing values, seeds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from models.modulators import BehaviourBranch, Dropout, Shifter, Standardized
from models.readouts import READOUTS

torch.set_num_threads(1)


def behaviour(items=3, frames=11, channels=4, seed=0):
    return 5 + 2 * torch.randn(items, frames, channels, generator=torch.Generator().manual_seed(seed))


def test_branch_is_the_perceptron_and_the_causal_convolution():
    branch, values = BehaviourBranch(4, seed=0).eval(), behaviour()
    branch.initialize(values)
    deviation, mean = torch.std_mean(values, dim=(0, 1), correction=0)
    first, second = branch.mlp[0], branch.mlp[3]
    hidden = torch.tanh(F.linear((values - mean) / deviation, first.weight, first.bias))
    features = torch.tanh(F.linear(hidden, second.weight, second.bias))
    expected = torch.zeros(3, 11, 32)
    for frame in range(11):
        for back in range(5):
            if frame >= back:
                expected[:, frame] += features[:, frame - back] @ branch.time.weight[:, :, 4 - back].T
    torch.testing.assert_close(branch(values), expected + branch.time.bias, rtol=1e-4, atol=1e-5)
    assert sum(value.numel() for value in branch.parameters()) == 4 * 128 + 128 + 128 * 32 + 32 + 32 * 32 * 5 + 32


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10))
def test_later_behaviour_changes_nothing_before(frame):
    branch, values = BehaviourBranch(4, seed=0).eval(), behaviour()
    changed = values.clone()
    changed[:, frame:] += 1
    assert torch.equal(branch(values)[:, :frame], branch(changed)[:, :frame])
    assert not torch.equal(branch(values)[:, frame], branch(changed)[:, frame])


def test_pictures_are_clips_of_one_frame():
    branch, values = BehaviourBranch(4, out=7, seed=0).eval(), behaviour()[:, 0]
    assert branch(values).shape == (3, 7)
    assert torch.equal(branch(values), branch(values[:, None])[:, 0])
    tap = F.linear(branch.mlp(branch.standardized()(values)), branch.time.weight[:, :, -1], branch.time.bias)
    torch.testing.assert_close(branch(values), tap)


def test_missing_behaviour_is_the_mean():
    branch, values = BehaviourBranch(4, seed=0).eval(), behaviour(20)
    values[:, 3:5, 1] = torch.nan
    values[..., 2] = torch.nan
    values[..., 3] = 7.0
    assert branch.initialize(values) == 20 * 2 + 20 * 11
    assert branch.standardized().mean[1].item() == pytest.approx(float(values[..., 1].nanmean()), rel=1e-5)
    assert branch.standardized().mean[2:].tolist() == [0.0, 7.0]
    assert branch.standardized().std[2:].tolist() == [1.0, 1.0]
    filled = torch.where(values.isnan(), branch.standardized().mean, values)
    assert torch.equal(branch(values), branch(filled))
    assert branch(values).isfinite().all()


def test_standardized_before_and_after():
    values = behaviour(50)
    plain = Standardized(4)
    assert torch.equal(plain(values), values)
    assert plain.initialize(values) == 0
    deviation, mean = torch.std_mean(plain(values), dim=(0, 1), correction=0)
    torch.testing.assert_close(mean, torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(deviation, torch.ones(4))


def test_shifter():
    shifter, pupil = Shifter(0).eval(), behaviour(6, 5, 2)
    assert shifter.initialize(pupil) == 0
    assert shifter(pupil[0]).shape == (5, 2)
    assert shifter(pupil).shape == (6, 5, 2)
    assert shifter(1e6 * pupil).abs().max() <= 1.0
    assert sum(value.numel() for value in shifter.parameters()) == (2 * 5 + 5) + (5 * 5 + 5) + (5 * 2 + 2)
    value = (pupil - shifter.standardized.mean) / shifter.standardized.std
    for layer in shifter.mlp[::2]:
        value = torch.tanh(value @ layer.weight.T + layer.bias)
    torch.testing.assert_close(shifter(pupil), value)
    pupil[0, 0] = torch.nan
    missing = shifter(pupil)[0, 0]
    torch.testing.assert_close(missing, shifter(shifter.standardized.mean))
    assert len(Shifter(0, hidden=3, layers=1).mlp) == 2


def make(kind, seed):
    return BehaviourBranch(2, seed=seed) if kind == "branch" else Shifter(seed)


@pytest.mark.parametrize("kind", ["branch", "shifter"])
def test_seed_gradient_state_and_stack(kind):
    state, values = torch.random.get_rng_state(), behaviour(channels=2)
    modules = [make(kind, seed) for seed in (0, 1, 2)]
    same = make(kind, 0)
    assert torch.equal(modules[0](values), same(values))
    assert not torch.equal(modules[0](values), modules[1](values))
    assert torch.equal(torch.random.get_rng_state(), state)
    modules[0](values).square().sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in modules[0].parameters())
    modules[1].initialize(values)
    same.load_state_dict(load(save(modules[1].state_dict())))
    assert torch.equal(modules[1].eval()(values), same.eval()(values))
    for module in modules:
        module.eval()
    stacked = vmap(lambda weights, buffers: functional_call(same, (weights, buffers), (values,)))(
        *stack_module_state(modules)
    )
    for found, module in zip(stacked, modules, strict=True):
        torch.testing.assert_close(found, module(values))


def test_branch_and_map_make_the_published_number_of_parameters_per_unit():
    """128 channels and 32 features of behaviour, a position, a full matrix, a bias: 167 a unit, moved by gaze."""
    given = {name: held.default for name, held in READOUTS["gaussian"].parameters.items()} | {"covariance": "full"}
    readout = READOUTS["gaussian"].load()([(128, 5, 6)], 7, given, 0, beside=32).eval()
    assert sum(value.numel() for value in readout.parameters()) == 7 * 167
    maps, values, pupil = torch.randn(6, 128, 5, 6), behaviour(2, 3), torch.randn(6, 2)
    beside, shift = BehaviourBranch(4, seed=0).eval()(values).flatten(0, 1), Shifter(0)(pupil)
    assert readout(maps, shift=shift, beside=beside).shape == (6, 7)
    assert not torch.equal(readout(maps, shift=shift, beside=beside), readout(maps, shift=shift, beside=beside + 1))
    assert not torch.equal(readout(maps, shift=shift, beside=beside), readout(maps, shift=shift + 0.1, beside=beside))


def test_dropout_keeps_the_mean_and_stops_in_evaluation():
    dropout, values = Dropout(0.3, 0), torch.ones(100_000)
    found = dropout(values)
    assert sorted(set(found.tolist())) == [0.0, pytest.approx(1 / 0.7)]
    assert float(found.mean()) == pytest.approx(1.0, abs=0.01)
    assert not torch.equal(found, dropout(values))
    assert torch.equal(dropout.eval()(values), values)
    branch = BehaviourBranch(4, dropout=0.5, seed=0)
    assert not torch.equal(branch(behaviour()), branch(behaviour()))
