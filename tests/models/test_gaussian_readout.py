import pytest
import torch
from safetensors.torch import load, save
from torch.nn import functional as F

from models.fit import fit_gaussian
from models.readouts import READOUTS
from models.readouts.gaussian import GaussianReadout, sample, shrink
from models.readouts.locate import located, response_statistics, starting_positions

torch.set_num_threads(1)

DEFAULTS = {name: parameter.default for name, parameter in READOUTS["gaussian"].parameters.items()}


def toy(stimuli=500, channels=8, units=12, side=12, seed=0):
    """Smooth random maps, a readout with planted positions, its Poisson responses."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(stimuli, channels, side // 2, side // 2, generator=generator)
    maps = F.interpolate(coarse, size=side, mode="bilinear", align_corners=True)
    truth = GaussianReadout(channels, units, seed).eval()
    with torch.no_grad():
        truth.mean.copy_(torch.rand(units, 2, generator=generator) * 1.6 - 0.8)
        truth.weights.copy_(torch.randn(units, channels, generator=generator) * 0.5)
        rates = 2 * truth(maps)
    order = torch.randperm(stimuli, generator=generator)
    train, select, report = order.split([stimuli - 200, 100, 100])
    return maps, truth, rates, torch.poisson(rates, generator=generator), (train, select, report)


def correlation(a, b):
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    return (a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0))


def test_bilinear_sample():
    """-1 and 1 are the centres of the outermost pixels; halfway between pixels is their mean; x comes first."""
    maps = torch.arange(6.0).reshape(1, 1, 2, 3)
    positions = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [0.0, 0.0], [0.5, -1.0]])
    assert sample(maps, positions)[0, 0].tolist() == [0.0, 2.0, 3.0, 2.5, 1.5]


def test_shrink_never_enlarges():
    maps = torch.rand(2, 3, 9, 4)
    assert shrink(maps, 5).shape == (2, 3, 5, 4)
    assert shrink(maps, 20) is maps
    torch.testing.assert_close(shrink(maps, 1)[..., 0, 0], maps.mean(dim=(2, 3)))


def test_noise_in_training_only():
    readout, maps = GaussianReadout(3, 4, 0), torch.randn(5, 3, 6, 6)
    assert not torch.equal(readout(maps), readout(maps))
    readout.eval()
    assert torch.equal(readout(maps), readout(maps))


def test_given_noise_replaces_the_draws():
    readout, maps = GaussianReadout(3, 4, 0), torch.randn(5, 3, 6, 6)
    quiet = readout(maps, torch.zeros(5, 4, 2))
    torch.testing.assert_close(quiet, readout.eval()(maps))


def test_seed_decides_weights_and_noise():
    maps = torch.randn(5, 3, 6, 6)
    assert torch.equal(GaussianReadout(3, 4, 7)(maps), GaussianReadout(3, 4, 7)(maps))
    assert not torch.equal(GaussianReadout(3, 4, 7)(maps), GaussianReadout(3, 4, 8)(maps))


def test_rates_are_positive_and_linear_ones_are_not():
    maps = 50 * torch.randn(20, 3, 6, 6)
    assert (GaussianReadout(3, 4, 0)(maps) >= 0).all()
    assert (GaussianReadout(3, 4, 0, rate=False)(maps) < 0).any()


@pytest.mark.parametrize("rate", [True, False])
def test_initialize_answers_the_mean(rate):
    readout = GaussianReadout(3, 4, 0, rate=rate).eval()
    mean, scale = torch.tensor([0.2, 1.0, 3.0, 40.0]), torch.tensor([0.5, 2.0, 1.0, 10.0])
    readout.initialize(mean, scale)
    torch.testing.assert_close(readout(torch.zeros(1, 3, 6, 6))[0], mean)
    silent = GaussianReadout(3, 1, 0)
    silent.initialize(torch.tensor([0.0]))
    assert silent.bias.isfinite().all()


def test_absorb_is_exact():
    readout, maps = GaussianReadout(3, 4, 0).eval(), 5 + 2 * torch.randn(5, 3, 6, 6)
    centre, spread = torch.tensor([5.0, 4.0, 6.0]), torch.tensor([2.0, 1.0, 3.0])
    before = readout((maps - centre[:, None, None]) / spread[:, None, None])
    readout.absorb(centre, spread)
    torch.testing.assert_close(readout(maps), before)


def test_state_through_safetensors():
    source, target, maps = GaussianReadout(3, 4, 0).eval(), GaussianReadout(3, 4, 1).eval(), torch.randn(5, 3, 6, 6)
    source.initialize(torch.ones(4), torch.full((4,), 2.0))
    target.load_state_dict(load(save(source.state_dict())))
    assert torch.equal(source(maps), target(maps))


def test_located_finds_planted_positions():
    maps, truth, _, responses, (train, _, _) = toy()
    mean, deviation = response_statistics(responses[train])
    found = located(maps[train], (responses[train] - mean) / deviation)
    assert ((found - truth.mean).norm(dim=1) < 0.3).float().mean() > 0.9


def test_start_is_the_centre_when_the_select_rows_say_so():
    """Responses that follow the centre on all select rows and a corner on half of the train rows."""
    maps, _, _, _, (train, select, _) = toy()
    responses = maps[:, 0, 5:7, 5:7].mean(dim=(1, 2))[:, None].clone()
    responses[train] = maps[train, 1, :1, 0] * 3 + responses[train]
    assert (starting_positions(maps, responses, train, select) == 0).all()
    assert (starting_positions(maps, responses, train, train) != 0).any()


def test_constant_maps_and_responses_are_harmless():
    maps, _, _, responses, (train, select, _) = toy()
    maps[:, 0], responses[:, 0] = 3.0, 1.0
    assert starting_positions(maps, responses, train, select).isfinite().all()
    readout = fit_gaussian(maps, responses, train, select, DEFAULTS | {"epochs": 3}, 0)
    assert readout(maps).isfinite().all()


@pytest.mark.parametrize("loss", ["poisson", "gaussian"])
def test_fit_recovers_positions_and_rates(loss):
    maps, truth, rates, responses, (train, select, report) = toy()
    responses[::7, 3] = torch.nan
    readout = fit_gaussian(maps, responses, train, select, DEFAULTS | {"loss": loss}, 0)
    with torch.no_grad():
        found = correlation(readout(maps[report]), rates[report])
    assert (readout.mean - truth.mean).norm(dim=1).median() < 0.1
    assert found.mean() > (0.93 if loss == "poisson" else 0.85)
    assert not readout.training


def test_fit_takes_maps_of_any_scale_and_size():
    """Predictions do not move with the scale of a channel, nor does it matter who averages the maps."""
    maps, _, _, responses, (train, select, _) = toy()
    parameters = DEFAULTS | {"pool": 6, "epochs": 4}
    plain = fit_gaussian(maps, responses, train, select, parameters, 0)
    scaled = fit_gaussian(100 * maps + 7, responses, train, select, parameters, 0)
    pooled = fit_gaussian(shrink(maps, 6), responses, train, select, parameters, 0)
    torch.testing.assert_close(plain(maps), scaled(100 * maps + 7), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(plain(maps), pooled(maps))
    torch.testing.assert_close(plain(maps), plain(shrink(maps, 6)))


def test_fit_is_deterministic():
    maps, _, _, responses, (train, select, _) = toy()
    torch.manual_seed(0)
    one = fit_gaussian(maps, responses, train, select, DEFAULTS | {"epochs": 3}, 5)
    torch.manual_seed(1)
    two = fit_gaussian(maps, responses, train, select, DEFAULTS | {"epochs": 3}, 5)
    assert torch.equal(one(maps), two(maps))


def test_l1_makes_weights_small():
    maps, _, _, responses, (train, select, _) = toy()
    sums = [
        fit_gaussian(maps, responses, train, select, DEFAULTS | {"l1": l1, "epochs": 20}, 0).weights.abs().sum()
        for l1 in (0.0, 0.3)
    ]
    assert sums[1] < 0.5 * sums[0]
