"""Contract of every readout that is fitted by gradient descent: a new one is tested by existing."""

import pytest
import torch
from frozen import fit_frozen
from safetensors.torch import load, save
from torch.func import functional_call, jacrev, stack_module_state, vmap
from torch.nn import functional as F

from metrics.nonlinearity.jacobians import ResidualJacobian
from models.objectives.losses import LOSSES
from models.readouts import READOUTS
from models.readouts.mlp import ACTIVATIONS
from models.readouts.sampling import moved, sample, stacked
from models.training.data import take
from models.training.frozen_backbone import FrozenFit, fit_frozen_many
from models.training.gradient_fit import FitSettings, ReadoutData, fit_twin
from models.training.twin_loss import batch_loss
from models.twin import Twin

torch.set_num_threads(1)

GRADIENT = [name for name, component in READOUTS.items() if component.fitted_by == "gradient"]
COMMON = {"loss", "l1", "learning_rate", "epochs", "patience", "pool", "refit", "balance"}
PLACED = [name for name in GRADIENT if READOUTS[name].load().places]
SMALL = {"mlp": {"hidden": 24}}
CASES = [
    *((name, {"loss": loss}) for name in GRADIENT for loss in LOSSES),
    *(("gaussian", {"covariance": kind}) for kind in ("isotropic", "full")),
    ("gaussian", {"position": "coordinates", "position_l1": 0.1}),
    ("gaussian", {"position_pull": 0.1, "position_anchor": "coordinates", "group": 0.1}),
    ("factorised", {"group": 0.1, "group_over": "units", "bias": False}),
    *(("mlp", {"activation": activation, "bias": True}) for activation in ACTIVATIONS),
]
UNITS = 5
ONE = [(3, 6, 8)]
SEVERAL = [(3, 6, 8), (4, 3, 3), (2, 1, 5)]


def defaults(name, **changes):
    values = {key: parameter.default for key, parameter in READOUTS[name].parameters.items()}
    return values | SMALL.get(name, {}) | changes


def build(name, seed=0, shapes=ONE, beside=0, **changes):
    places = torch.rand(UNITS, 2, generator=torch.Generator().manual_seed(9))
    return READOUTS[name].load()(shapes, UNITS, defaults(name, **changes), seed, beside, places)


def maps_of(shapes, stimuli=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(stimuli, *shape, generator=generator) for shape in shapes]


def test_losses_are_those_of_the_registry():
    assert tuple(LOSSES) == ("poisson", "gaussian", "correlation", "zero-inflated-gamma")


@pytest.mark.parametrize("name", GRADIENT)
def test_parameters_that_every_gradient_readout_has(name):
    assert set(READOUTS[name].parameters) >= COMMON


@pytest.mark.parametrize(("name", "changes"), CASES)
@pytest.mark.parametrize("shapes", [ONE, SEVERAL])
def test_responses_of_one_or_several_blocks(name, changes, shapes):
    readout = build(name, shapes=shapes, **changes).eval()
    maps = maps_of(shapes)
    with torch.no_grad():
        found = readout(maps)
        assert found.shape == (7, UNITS)
        assert found.isfinite().all()
        assert (found.std(dim=0) > 0).all()  # the stimuli are told apart
        if len(shapes) == 1:
            assert torch.equal(readout(maps[0]), found)
        else:
            for number in range(len(shapes)):  # every block is read
                other = list(maps)
                other[number] = other[number].roll(1, dims=0)
                assert not torch.allclose(readout(other), found)
        drive = readout.drive(maps)
        outputs = readout.loss.outputs
        assert drive.shape == ((7, UNITS) if outputs == 1 else (7, UNITS, outputs))
        outcome = readout.loss.link(drive if outputs > 1 else drive[..., None])
        torch.testing.assert_close(readout.response(outcome), found)


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_gradient_reaches_every_parameter(name, changes):
    readout = build(name, shapes=SEVERAL, beside=2, **changes).train()
    twin = Twin(None, {"": readout})
    generator = torch.Generator().manual_seed(1)
    observed = torch.rand(7, UNITS, generator=generator)
    observed[0, 1], observed[:, 2] = torch.nan, torch.nan
    beside = torch.randn(7, 2, generator=generator)
    said = readout.outcome(maps_of(SEVERAL), None, beside)
    (readout.loss.measure(said, observed, readout.gamma) + readout.penalty() + twin.regularizer()).backward()
    for label, parameter in readout.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.isfinite().all(), label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_seed_and_state_through_safetensors(name, changes):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, same, other = (build(name, seed, **changes) for seed in (0, 0, 1))
    maps = maps_of(ONE)
    with torch.no_grad():
        for readout in (one, same):
            readout.train()
        assert torch.equal(one(maps), same(maps))  # noise and all
        first, second = one.eval()(maps), other.eval()(maps)
        assert not torch.allclose(first, second)
        one.initialize(torch.rand(UNITS), torch.rand(UNITS) + 0.5, torch.rand(UNITS) + 1)
        other.load_state_dict(load(save(one.state_dict())))
        assert torch.equal(one(maps), other(maps))
    torch.manual_seed(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    build(name, 5, **changes).train()(maps)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_stacked_equals_single(name, changes):
    readouts = [build(name, seed, SEVERAL, **changes).eval() for seed in range(3)]
    maps = maps_of(SEVERAL)
    state = stack_module_state(readouts)
    skeleton = build(name, 0, SEVERAL, **changes).eval()
    with torch.no_grad():
        found = vmap(lambda held: functional_call(skeleton, held, (maps,)))({**state[0], **state[1]})
        for readout, each in zip(readouts, found, strict=True):
            torch.testing.assert_close(each, readout(maps))


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_absorbed_statistics_are_exact(name, changes):
    readout = build(name, shapes=SEVERAL, pool=4, **changes).eval()
    small = [
        F.adaptive_avg_pool2d(5 + 2 * each, [min(4, side) for side in each.shape[2:]]) for each in maps_of(SEVERAL)
    ]
    small[0][:, 1] = 3.0  # a constant channel
    statistics = readout.statistics(small)
    with torch.no_grad():
        before = readout([(each - c) / s for each, (c, s) in zip(small, statistics, strict=True)])
        readout.absorb(statistics)
        torch.testing.assert_close(readout(small), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_features_beside_and_calibration(name, changes):
    readout, maps = build(name, beside=2, **changes).eval(), maps_of(ONE)
    beside = torch.randn(7, 2, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = readout(maps, None, beside)
        assert not torch.allclose(readout(maps, None, beside + 1), found)
        gain, offset = torch.rand(UNITS) + 0.5, torch.rand(UNITS)
        readout.calibrate(torch.full((UNITS,), 2.0), torch.ones(UNITS))
        readout.calibrate(gain, offset)
        torch.testing.assert_close(readout(maps, None, beside), gain * (2 * found + 1) + offset)
    with pytest.raises(ValueError, match="made for 2 features beside the map, got 0"):
        readout(maps)


@pytest.mark.parametrize("name", PLACED)
def test_a_shift_is_a_shift_of_the_map(name):
    """Moving the reader right by one pixel of the map = moving the picture left by one, away from the rims."""
    readout = build(name, shapes=[(3, 9, 9)]).eval()
    inner = F.pad(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)), [3, 3, 3, 3])
    with torch.no_grad():
        found = readout(inner, torch.tensor([[0.25, 0.0]]).expand(4, 2))
        torch.testing.assert_close(found, readout(inner.roll(-1, dims=3)), atol=1e-5, rtol=1e-4)
        assert not torch.allclose(found, readout(inner))


def test_mlp_refuses_shifts_and_other_maps():
    readout = build("mlp")
    with pytest.raises(ValueError, match="cannot be shifted"):
        readout(maps_of(ONE), torch.zeros(7, 2))
    for name in ("mlp", "factorised"):
        with pytest.raises(ValueError, match=r"made for maps of \("):
            build(name)(maps_of([(3, 5, 8)]))


def test_wrong_loss_and_no_map():
    with pytest.raises(ValueError, match="unknown loss 'huber'; known: poisson, gaussian, correlation"):
        build("gaussian", loss="huber")
    with pytest.raises(ValueError, match="at least one map"):
        build("gaussian", shapes=[])


def test_moved_and_stacked_maps_keep_places():
    """A plane z = x + 2 y is the same plane in maps of every size, and moves by its slope."""

    def plane(high, wide):
        return (torch.linspace(-1, 1, wide) + 2 * torch.linspace(-1, 1, high)[:, None]).expand(1, 1, high, wide)

    places = torch.tensor([[0.3, -0.5], [-0.9, 0.2]])
    both = stacked([plane(4, 7), plane(6, 3)], 14)
    assert both.shape == (1, 2, 6, 7)
    expected = places @ torch.tensor([1.0, 2.0])
    for channel in sample(both, places)[0]:
        torch.testing.assert_close(channel, expected)
    shifted = sample(moved(plane(5, 5), torch.tensor([[0.1, -0.2]])), torch.zeros(1, 2))
    torch.testing.assert_close(shifted.item(), 0.1 - 0.4, atol=1e-6, rtol=0)
    flat = torch.arange(5.0).expand(1, 1, 1, 5)
    torch.testing.assert_close(moved(flat, torch.zeros(1, 2)), flat)


def test_masks_are_normalised_and_pay():
    """Penalty of the factorised readout by hand; blowing a mask up changes nothing."""
    penalties = {"l1": 0.5, "mask_l1": 0.25, "laplace": 2.0}
    readout, maps = build("factorised", **penalties).eval(), maps_of(ONE)
    with torch.no_grad():
        found, paid = readout(maps), readout.penalty()
        masks = readout.masks[0] / readout.masks[0].flatten(1).norm(dim=1)[:, None, None]
        expected = 0.5 * readout.weights.abs().sum() / UNITS + 0.25 * masks.abs().sum() / UNITS
        bend = F.conv2d(masks[:, None], torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]]), padding=1)
        torch.testing.assert_close(paid, expected + 2.0 * bend.square().sum() / UNITS)
        drive = torch.einsum("nchw,uhw,uc->nu", maps[0], masks, readout.weights[:, 0])
        torch.testing.assert_close(found, F.elu(drive + readout.bias[:, 0]) + 1)
        readout.masks[0].mul_(3.0)
        torch.testing.assert_close(readout(maps), found)
        torch.testing.assert_close(readout.penalty(), paid)


def test_group_penalty_by_hand():
    readout = build("gaussian", shapes=SEVERAL, beside=2, l1=0.0, group=0.5)
    with torch.no_grad():
        parts = readout.weights[:, 0].split([3, 4, 2, 2], dim=1)
        expected = sum(part.norm(dim=1).mean() * part.shape[1] ** 0.5 for part in parts)
        torch.testing.assert_close(readout.penalty(), 0.5 * expected)
        over_units = build("gaussian", l1=0.0, group=0.5, group_over="units")
        torch.testing.assert_close(over_units.penalty(), 0.5 * over_units.weights[:, 0].square().mean(0).sqrt().sum())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_by_its_equations_and_its_jacobian(activation):
    """Forward by the paper's equations; its factors by the closed form against torch's reverse mode."""
    readout = build("mlp", activation=activation, pool=8).double().eval()
    values = torch.randn(6, 3 * 6 * 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    readout.initialize(torch.rand(UNITS).double(), torch.rand(UNITS).double() + 0.5)
    readout.absorb([(torch.rand(3, 6, 8).double(), torch.rand(3, 6, 8).double() + 0.5)])
    phi = ACTIVATIONS[activation]
    one, two, three = (layer.weight for layer in readout.layers)
    with torch.no_grad():
        first = phi(((values - readout.centre) / readout.spread) @ one.T)
        second = phi(first @ two.T) + first
        third = phi(second @ three.T) + second
        expected = readout.scale * (third @ readout.last.weight.T + readout.bias[:, 0])
        torch.testing.assert_close(readout([values.reshape(6, 3, 6, 8)]), expected)

    def response(flat):
        return readout([flat.reshape(1, 3, 6, 8)])[0]

    slow = torch.stack([jacrev(response)(each) for each in values]).detach()
    left, right = ResidualJacobian(readout.weights(), readout.slopes).jacobian_factors(values)
    torch.testing.assert_close((left @ right).detach(), slow.transpose(1, 2))
    same = (slow - slow[:1]).abs().max() < 1e-12
    assert bool(same) == (activation == "none")


def test_mlp_without_a_closed_form_says_so():
    with pytest.raises(ValueError, match="no closed-form Jacobian: loss poisson, 0 features"):
        build("mlp", loss="poisson").weights()


def frozen_toy(stimuli=480, units=UNITS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(stimuli, *shape, generator=generator) for shape in [(4, 3, 3), (3, 2, 2)]]
    drives = maps[0][:, :units, 1, 1].repeat(1, 2)[:, :units] + maps[1][:, 0].mean(dim=(1, 2))[:, None]
    responses = (drives + 2).clamp(min=0) + 0.2 * torch.rand(stimuli, units, generator=generator)
    order = torch.randperm(stimuli, generator=generator)
    return maps, responses, order.split([stimuli - 160, 80, 80])


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("loss", LOSSES)
def test_frozen_fit_predicts(name, loss):
    """Two blocks; a constant unit, one with gaps and a rate of zero somewhere are no harm; scale and mean are right."""
    maps, responses, (train, select, report) = frozen_toy()
    responses[:, 3], responses[::5, 1] = 1.5, torch.nan
    short = {"epochs": 20, "patience": 5, "learning_rate": 0.05}
    long = {"epochs": 60, "patience": 30, "learning_rate": 0.003}
    shown = defaults(name, loss=loss, **(long if name == "mlp" else short))
    readout = fit_frozen(FrozenFit(name, maps, responses, train, select, shown, 0))
    with torch.no_grad():
        found = readout([each[report] for each in maps])
    assert not readout.training
    assert found.isfinite().all()
    assert (found[:, 3] - 1.5).abs().mean() < 0.3
    for unit in (0, 1, 2, 4):
        seen = ~responses[report, unit].isnan()
        pair = torch.stack([found[seen, unit], responses[report, unit][seen]])
        assert torch.corrcoef(pair)[0, 1] > (0.45 if name == "mlp" else 0.75)
        assert (pair[0].mean() - pair[1].mean()).abs() < 0.25 * pair[1].std() + 0.1


def test_mlp_beats_its_linear_twin_on_a_quadratic_unit():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(900, 2, 2, 2, generator=generator)
    responses = (maps[:, 0, 0] * maps[:, 1, 1]).sum(dim=1, keepdim=True) + maps[:, :1, 0, 0].square()
    train, select, report = torch.arange(900).split([600, 100, 200])
    found = {}
    for activation in ("relu", "none"):
        given = defaults("mlp", hidden=48, activation=activation, epochs=250, patience=20, learning_rate=0.003)
        readout = fit_frozen(FrozenFit("mlp", [maps], responses, train, select, given, 0))
        found[activation] = torch.corrcoef(torch.cat([readout(maps[report]), responses[report]], dim=1).detach().T)[
            0, 1
        ]
    assert found["relu"] > 0.7
    assert found["none"] < 0.3


@pytest.mark.parametrize("name", GRADIENT)
def test_refit_has_seen_the_select_rows(name):
    """The first of both is the plain fit; the second predicts select rows better, and begins where the first did."""
    maps, responses, (train, select, report) = frozen_toy(240)
    responses = responses + torch.rand(responses.shape, generator=torch.Generator().manual_seed(5)) * 2
    given = defaults(name, epochs=12, patience=12, loss="gaussian", l1=0.0)
    plain = fit_frozen(FrozenFit(name, maps, responses, train, select, given, 3))
    wanted = FrozenFit(name, maps, responses, train, select, given, 3, refit=True)
    (((_, (first, second, _)),),) = fit_frozen_many([wanted])
    again = fit_frozen(FrozenFit(name, maps, responses, train, select, given, 3, refit=True))
    with torch.no_grad():
        assert torch.equal(plain(maps), first(maps))
        assert torch.equal(second(maps), again(maps))
        errors = [(each(maps) - responses).square().mean(dim=1) for each in (first, second)]
        assert errors[1][select].mean() < errors[0][select].mean()
        assert errors[1][report].mean() < 1.5 * errors[0][report].mean()


@pytest.mark.parametrize("name", GRADIENT)
def test_several_sizes_of_maps_and_a_single_channel(name):
    """Maps of 1 x 1, and one channel: nothing to search, nothing that divides by zero."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(60, 1, 1, 1, generator=generator)
    responses = maps[:, :, 0, 0].expand(-1, 2) + 4
    rows = torch.arange(60).split([40, 20])
    readout = fit_frozen(FrozenFit(name, [maps], responses, *rows, defaults(name, epochs=3, loss="gaussian"), 0))
    assert readout(maps).isfinite().all()


def test_balanced_loss_is_the_published_formula():
    """mean over areas of (area loss / area units) x total units, over as many entries: areas weigh the same."""
    readouts = {"V1": build("gaussian", 0), "AL": build("gaussian", 1)}
    generator = torch.Generator().manual_seed(0)
    responses = {"V1": torch.rand(7, UNITS, generator=generator), "AL": torch.rand(7, UNITS, generator=generator) * 9}
    wide = {"V1": readouts["V1"], "AL": READOUTS["gaussian"].load()(ONE, 2, defaults("gaussian"), 0)}
    responses["AL"] = responses["AL"][:, :2]
    twin = Twin(None, wide).eval()
    recording = ReadoutData(maps_of(ONE)[0], responses, torch.arange(7), torch.arange(7))
    batch = take(recording, torch.arange(7), torch.device("cpu"))
    with torch.no_grad():
        sums = {}
        for key, values in responses.items():
            rate = twin(batch.inputs, [key])[key]
            sums[key] = (rate - values * torch.log(rate + 1e-8)).sum()
        areas = torch.stack([sums["V1"] / UNITS, sums["AL"] / 2])
        torch.testing.assert_close(batch_loss(twin, batch, "areas"), areas.mean() * (UNITS + 2) / (7 * (UNITS + 2)))
        torch.testing.assert_close(batch_loss(twin, batch, "none"), sum(sums.values()) / (7 * (UNITS + 2)))


def test_fitted_twin_carries_the_correlation_losss_scale():
    """A correlation loss knows neither gain nor level: they are those of least squares on the train rows."""
    maps, responses, (train, select, _) = frozen_toy()
    twin = Twin(None, {"a": build("gaussian", shapes=[(4, 3, 3)], loss="correlation")})
    data = {"r": ReadoutData(maps[0], {"a": 100 * responses + 50}, train, select)}
    fit_twin(twin, data, FitSettings(0.03, 15))
    with torch.no_grad():
        found, seen = twin(maps[0], ["a"])["a"][train].double(), (100 * responses + 50)[train].double()
    for unit in range(UNITS):
        design = torch.stack([torch.ones(len(train)).double(), found[:, unit]], dim=1)
        line = torch.linalg.lstsq(design, seen[:, unit : unit + 1]).solution[:, 0]
        torch.testing.assert_close(line, torch.tensor([0.0, 1.0]).double(), atol=2e-2, rtol=1e-3)
