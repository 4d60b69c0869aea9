"""The sheet as a backbone: its blocks, its state, and what its learning does."""

import pytest
import torch
from safetensors.torch import load, save

from benchmarks.rewired_sheet import rewired_null
from benchmarks.sheet_maps import map_smoothness
from models.backbones import BACKBONES
from models.spiking_sheet.layers import feed_forwardness, hop_counts
from models.spiking_sheet.learning import young_sheet
from models.spiking_sheet.natural import dead_leaves
from models.spiking_sheet.neurons import EXACT, exactly

torch.set_num_threads(1)

DEFAULTS = {name: parameter.default for name, parameter in BACKBONES["sheet"].parameters.items()}
SMALL = {"side": 8, "pixels": 4, "in_degree": 8, "out_degree": 12, "layers": 2}
SMALL |= {"growth_range": 1.5, "pictures": 20, "presentation": 60.0, "gap": 20.0, "step": 2.0}


def backbone(seed=0, **changes):
    return BACKBONES["sheet"].load()(DEFAULTS | SMALL | changes, seed)


@pytest.fixture(scope="module")
def learned():
    network = backbone()
    network.learn()
    return network


def test_counts_do_not_depend_on_the_batch(learned):
    pictures = dead_leaves(70, 32, 5)
    whole = learned.forward_blocks(pictures, [0, 1])
    parts = [learned.forward_blocks(part, [0, 1]) for part in pictures.split([1, 3, 66])]
    alone = learned.forward_blocks(pictures[40:41], [0])[0]
    for block in range(2):
        assert torch.equal(whole[block], torch.cat([part[block] for part in parts]))
    assert torch.equal(whole[0][40:41], alone)
    assert whole[0].std(dim=0).mean() > 0.1


def test_blocks_share_the_neurons_out(learned):
    pictures = dead_leaves(2, 32, 5)
    maps = learned.forward_blocks(pictures, range(2))
    members = [learned.members(block) for block in range(2)]
    assert min(map(len, members)) > 3
    assert torch.equal(torch.cat(members).sort().values, torch.arange(64))
    counts = learned.spikes(pictures).sum(dim=0).T.float()
    for value, held in zip(maps, members, strict=True):
        assert torch.equal(value[:, :, 0, 0], counts[:, held])
    assert torch.equal(learned.hops, hop_counts(learned.wiring))


def test_bins_divide_the_counts(learned):
    pictures = dead_leaves(2, 32, 5)
    fine = backbone(bins=3)
    fine.load_state_dict(learned.state_dict())
    coarse, found = (network.forward_blocks(pictures, [1])[0] for network in (learned, fine))
    assert found.shape[1] == 3 * coarse.shape[1]
    assert torch.equal(found.unflatten(1, (-1, 3)).sum(dim=2), coarse)


def test_layer_without_neurons_has_one_channel_of_zeros():
    network = backbone(layers=20, rule="fixed", pictures=2)
    maps = network.forward_blocks(dead_leaves(2, 32, 5), range(20))
    assert maps[-1].shape == (2, 1, 1, 1)
    assert not maps[-1].any()
    assert sum(value.shape[1] for value in maps if value.any()) <= 64


def test_learning_leaves_torch_alone_and_follows_the_seed(learned):
    state = torch.random.get_rng_state()
    again, other = backbone(0), backbone(1)
    again.learn()
    other.learn()
    assert torch.equal(torch.random.get_rng_state(), state)
    held = learned.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in again.state_dict().items())
    assert not torch.equal(other.weights, learned.weights)


def test_what_was_learned_goes_through_safetensors(learned, monkeypatch):
    target = backbone(9)
    target.load_state_dict(load(save(learned.state_dict())))
    monkeypatch.setattr(type(target), "fit", None)  # a learned sheet does not learn again
    pictures = dead_leaves(3, 32, 5)
    assert torch.equal(target.forward_blocks(pictures, [1])[0], learned.forward_blocks(pictures, [1])[0])


def test_shapes_depend_on_the_parameters_alone(learned):
    fresh = backbone(3).state_dict()
    assert not fresh["learned"]
    assert {name: value.shape for name, value in fresh.items()} == {
        name: value.shape for name, value in learned.state_dict().items()
    }
    assert torch.equal(learned.weights, exactly(learned.weights))
    assert float((learned.weights / EXACT).frac().abs().max()) == 0


def test_fit_begins_anew_and_learns_in_inference_mode(learned):
    network = backbone()
    with torch.inference_mode():
        network.fit(dead_leaves(5, 32, 1))
        first = network.weights.clone()
        network.fit(dead_leaves(20, 64, 0))  # the pictures that `learn` draws
    assert not torch.equal(first, network.weights)
    assert torch.equal(network.weights, learned.weights)


def test_fixed_wiring_keeps_its_weights_and_adapts_its_thresholds():
    network = backbone(rule="fixed")
    network.learn()
    young = young_sheet(network.settings, network.stream(0))
    assert torch.equal(network.weights, exactly(young.wiring.weights))
    assert torch.equal(network.sources, young.wiring.sources)
    assert network.threshold.std() > 0.02


def test_gradients_are_not_asked_for(learned):
    maps = learned.forward_blocks(dead_leaves(1, 32, 0).requires_grad_(), [0])
    assert not maps[0].requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 1.0}, "20 pictures takes 1.6 simulated seconds, the budget is 1"),
        ({"excitation": 4.0}, "excitation 4 cells, inhibition 4 cells"),
        ({"bins": 31}, "31 bins, but a presentation has 30 steps of 2 ms"),
        ({"presentation": 1.0}, "a presentation of 1 ms is shorter than one step of 2 ms"),
    ],
)
def test_what_cannot_be_is_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        backbone(**changes)


def test_budgets_are_not_cut_to_whole_seconds():
    assert backbone(budget=1.7).budget == 1.7  # learning takes 1.6
    with pytest.raises(ValueError, match=r"takes 1\.6 simulated seconds, the budget is 1\.5"):
        backbone(budget=1.5)


def test_more_pictures_than_the_budget_are_refused(learned):
    with pytest.raises(ValueError, match="show fewer pictures"):
        backbone(budget=2.0).fit(dead_leaves(26, 16, 0))


@pytest.mark.slow
def test_learning_makes_maps_smoother_and_weight_run_forward():
    """At the default size, against fixed random wiring of the same seed and against the rewired null."""
    pictures = dead_leaves(150, 64, 12345)
    for seed in range(2):
        smooth, forward = {}, {}
        for rule in ("stdp", "fixed"):
            network = BACKBONES["sheet"].load()(DEFAULTS | {"rule": rule}, seed)
            counts = torch.cat([network.spikes(part).sum(dim=0).T for part in pictures.split(50)]).float()
            near = network.members(0)
            smooth[rule] = map_smoothness(network.positions[near], counts[:, near], 4.0)
            nulls = [rewired_null(network.wiring, network.positions, draw)[0] for draw in range(5)]
            expected = [feed_forwardness(null, hop_counts(null)) for null in nulls]
            forward[rule] = feed_forwardness(network.wiring, network.hops) - max(expected)
        assert smooth["stdp"] > smooth["fixed"] + 0.05
        assert forward["stdp"] > 0
