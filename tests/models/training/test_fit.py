import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch.nn import functional as F

from models.backbones import BACKBONES
from models.readouts import READOUTS
from models.readouts.gaussian import GaussianReadout
from models.training.data import shuffled_batches, take
from models.training.gradient_fit import FitSettings, ReadoutData, fit_twin, predict, prepared, refit_twin
from models.training.state_copy import BestState
from models.training.training_loop import TrainingLoop
from models.training.twin_loss import batch_loss, penalty
from models.twin import Twin, map_shapes

torch.set_num_threads(1)

DEFAULTS = {name: parameter.default for name, parameter in BACKBONES["conv"].parameters.items()}
DEPTHS = {"mouse.1/V1": 0, "mouse.1/LM": 1, "mouse.2/V1": 0}
UNITS = 6
GAUSSIAN = {name: parameter.default for name, parameter in READOUTS["gaussian"].parameters.items()} | {"pool": None}
CPU = torch.device("cpu")


def readout(channels, units, seed, **changes):
    return GaussianReadout([(channels, 24, 24)], units, GAUSSIAN | changes, seed)


def core(seed=0, **changes):
    return BACKBONES["conv"].load()(DEFAULTS | {"layers": 2, "channels": 8, "kernel": 5} | changes, seed)


def twin(seed=0, loss="poisson", l1=0.01, **changes):
    readouts = {key: readout(8, UNITS, seed + n, loss=loss, l1=l1) for n, key in enumerate(DEPTHS)}
    return Twin(core(seed, **changes), readouts, DEPTHS)


def planted(stimuli=360, seed=0):
    """Two recordings of one linear-nonlinear teacher: noise-free rates, and data with Poisson responses."""
    generator = torch.Generator().manual_seed(seed)
    teacher = twin(99).eval()
    rates, data = {}, {}
    for name in ("mouse.1", "mouse.2"):
        keys = [key for key in DEPTHS if key.startswith(name)]
        coarse = torch.rand(stimuli, 3, 8, 8, generator=generator)
        images = F.interpolate(coarse, size=24, mode="bilinear")
        with torch.no_grad():
            for key in keys:
                maps = teacher.maps(images, [key])[key]
                teacher.readout(key).mean.copy_(torch.rand(UNITS, 2, generator=generator) * 1.4 - 0.7)
                drawn = torch.randn(UNITS, 1, 8, generator=generator) * 0.6 / maps.std(dim=(0, 2, 3))
                teacher.readout(key).weights.copy_(drawn)
                teacher.readout(key).bias.copy_(-drawn @ maps.mean(dim=(0, 2, 3)))
            rates |= {key: 3 * rate for key, rate in teacher(images, keys).items()}
        order = torch.randperm(stimuli, generator=generator)
        responses = {key: torch.poisson(rates[key], generator=generator) for key in keys}
        data[name] = ReadoutData(images, responses, order[: stimuli - 120], order[stimuli - 120 : -60])
    return data, rates


def held_out_correlation(model, data, rates):
    values = []
    for recording in data.values():
        report = np.setdiff1d(np.arange(len(recording.inputs)), torch.cat([recording.train, recording.select]).numpy())
        for key, found in predict(model, recording.inputs[report], tuple(recording.responses)).items():
            truth = rates[key][report]
            values += [np.corrcoef(found[:, unit], truth[:, unit])[0, 1] for unit in range(UNITS)]
    return float(np.nanmean(values))


def test_fit_improves_held_out_correlation():
    data, rates = planted()
    model = twin(1)
    before = held_out_correlation(model, data, rates)
    history = fit_twin(model, data, FitSettings(learning_rate=0.01, epochs=25))
    after = held_out_correlation(model, data, rates)
    assert abs(before) < 0.3
    assert after > 0.75
    assert history.select[history.best_epoch] == min(history.select) < history.select[0]
    assert not model.training


def test_fit_is_deterministic_and_ignores_the_global_seed():
    data, _ = planted(180)
    states = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        model = twin(1, "gaussian")
        fit_twin(model, data, FitSettings(epochs=2, seed=3))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_gradient_reaches_every_parameter():
    data, _ = planted(180)
    model = twin(1, smoothness=0.1)
    for ready in prepared(model, list(data.values())):
        model.train()
        loss = batch_loss(model, take(ready, ready.train[:64], CPU))
        (loss + penalty(model, tuple(ready.responses))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_smoothness_enters_the_penalty():
    keys = tuple(DEPTHS)
    rough, plain = twin(1, smoothness=2.0, l1=0.5), twin(1, l1=0.5)
    penalties = torch.cat([plain.readout(key).weights.abs().sum(dim=(1, 2)) for key in keys])
    expected = 2.0 * (rough.core.regularizer() / 2.0) + 0.5 * penalties.mean()
    torch.testing.assert_close(penalty(rough, keys), expected)
    assert plain.regularizer().item() == 0.0


def test_responses_keep_their_units():
    """Scaling the responses of an area scales its predictions and leaves the fit as it was."""
    predictions = []
    for factor in (1.0, 50.0):
        data, _ = planted(180)
        data["mouse.1"].responses["mouse.1/LM"].mul_(factor)
        model = twin(1, "gaussian")
        fit_twin(model, data, FitSettings(epochs=3))
        predictions.append(predict(model, data["mouse.1"].inputs, ["mouse.1/LM"])["mouse.1/LM"] / factor)
    torch.testing.assert_close(*predictions, rtol=1e-3, atol=1e-3)


def test_unit_with_gaps_is_fitted_from_the_rest():
    """Every second response of a unit is missing; it is predicted well on exactly those rows."""
    data, rates = planted()
    key = "mouse.2/V1"
    data["mouse.2"].responses[key][::2, 0] = torch.nan
    model = twin(1)
    fit_twin(model, data, FitSettings(learning_rate=0.01, epochs=25))
    found = predict(model, data["mouse.2"].inputs, [key])[key]
    assert found.isfinite().all()
    assert np.corrcoef(found[::2, 0], rates[key][::2, 0])[0, 1] > 0.5


def test_best_state_is_a_copy():
    model = twin()
    best = BestState(model)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    best.offer(1.0, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    best.offer(2.0, 1)
    best.offer(float("nan"), 2)
    best.restore()
    assert best.epoch == 0
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())


def test_early_stopping_restores_the_best_state():
    """Noise cannot be learned: the select loss soon rises, and the twin goes back to before it did."""
    data, _ = planted(180)
    for recording in data.values():
        for values in recording.responses.values():
            values.copy_(values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))])
    model = twin(1)
    history = fit_twin(model, data, FitSettings(learning_rate=0.02, epochs=40, patience=3))
    assert history.stopped_early
    assert len(history.select) == history.best_epoch + 4
    losses, entries = [], []
    for recording in data.values():
        losses.append(batch_loss(model, take(recording, recording.select, CPU)).item())
        entries.append(len(recording.responses))
    assert np.average(losses, weights=entries) == pytest.approx(min(history.select), rel=1e-5)


def test_diverging_fit_says_where():
    data, _ = planted(180)
    with pytest.raises(FloatingPointError, match=r"epoch 0 at learning rate 1e\+30"):
        fit_twin(twin(1, "gaussian"), data, FitSettings(learning_rate=1e30, epochs=3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y, rows: y.sub_(100), "negative responses"),
        (lambda y, rows: y.fill_(torch.nan), "no response in the train rows"),
        (lambda y, rows: y.index_fill_(0, rows.select, torch.nan), "no response in the select rows"),
    ],
)
def test_bad_data_is_refused(change, message):
    data, _ = planted(180)
    change(data["mouse.1"].responses["mouse.1/LM"], data["mouse.1"])
    with pytest.raises(ValueError, match=f"recording 'mouse.1', readout 'mouse.1/LM': {message}"):
        fit_twin(twin(1), data, FitSettings())


@pytest.mark.parametrize("loss", ["poisson", "gaussian", "correlation", "zero-inflated-gamma"])
def test_a_unit_without_a_response_leaves_the_others_as_they_were(loss):
    """Nothing of it reaches the core, whose gradient is the sum over the others."""
    data, _ = planted(180)
    held = data["mouse.1"].responses["mouse.1/LM"]
    held[:, 2] = torch.nan
    fitted = twin(1, loss)
    fit_twin(fitted, data, FitSettings(epochs=2))
    assert all(each.isfinite().all() for each in fitted.state_dict().values())


def test_an_epoch_has_every_train_row_once():
    data, _ = planted(200)
    generator = torch.Generator().manual_seed(0)
    seen = {id(recording): [] for recording in data.values()}
    for recording, rows in shuffled_batches(list(data.values()), 32, generator):
        assert len(rows) <= 32
        seen[id(recording)] += rows.tolist()
    for recording in data.values():
        assert sorted(seen[id(recording)]) == sorted(recording.train.tolist())


def test_twin_reads_each_area_at_its_depth():
    model, images = twin(1).eval(), torch.rand(3, 3, 24, 24)
    with torch.no_grad():
        found = model(images, ["mouse.1/LM", "mouse.1/V1"])
        maps = model.core.forward_blocks(images, [0, 1])
        assert torch.equal(found["mouse.1/LM"], model.readout("mouse.1/LM")(maps[1]))
        assert torch.equal(found["mouse.1/V1"], model.readout("mouse.1/V1")(maps[0]))


def test_twin_computes_no_deeper_than_asked():
    model = twin(1)
    with torch.no_grad():
        model.core.layers[1].conv.weight.fill_(torch.nan)
        assert model(torch.rand(3, 3, 24, 24), ["mouse.1/V1"])["mouse.1/V1"].isfinite().all()


def test_twin_without_a_core_reads_maps():
    reader, maps = readout(4, 5, 0).eval(), torch.rand(3, 4, 6, 6)
    assert torch.equal(Twin(None, {"keys": reader}).eval()(maps, ["keys"])["keys"], reader(maps))


def test_twin_refuses_unknown_keys_and_missing_depths():
    with pytest.raises(KeyError, match="known: mouse"):
        twin()(torch.rand(1, 3, 24, 24), ["V9"])
    with pytest.raises(ValueError, match="depths are given for"):
        Twin(core(), {"V1": readout(8, 2, 0)}, {"LM": 0})


def test_twin_state_through_safetensors():
    source, target, images = twin(1).eval(), twin(2).eval(), torch.rand(3, 3, 24, 24)
    target.load_state_dict(load(save(source.state_dict())))
    with torch.no_grad():
        one, two = (model(images, tuple(DEPTHS)) for model in (source, target))
    assert all(torch.equal(one[key], two[key]) for key in DEPTHS)


def test_area_reads_several_blocks_together():
    """A tuple of blocks is what a readout of both maps gives, whatever else is read of the core."""
    readouts = {"one": readout(8, 3, 0), "both": GaussianReadout([(8, 24, 24)] * 2, 3, GAUSSIAN, 1)}
    model, images = Twin(core(), readouts, {"one": 1, "both": (1, 0)}).eval(), torch.rand(4, 3, 24, 24)
    with torch.no_grad():
        maps = model.core.forward_blocks(images, [1, 0])
        found = model(images, ["both", "one"])
        assert torch.equal(found["both"], readouts["both"](maps))
        assert torch.equal(found["one"], readouts["one"](maps[0]))
        assert isinstance(model.maps(images, ["both"])["both"], list)
    assert map_shapes(model.core, images, (1, 0)) == [(8, 24, 24)] * 2
    data = {"r": ReadoutData(torch.rand(60, 3, 24, 24), {"both": torch.rand(60, 3), "one": torch.rand(60, 3)}, *ROWS)}
    fit_twin(model, data, FitSettings(epochs=2))
    assert predict(model, images, ["both"])["both"].isfinite().all()


ROWS = torch.arange(60).split([40, 20])


def test_bytes_are_the_same_images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, 3, 24, 24), dtype=torch.uint8, generator=generator)
    responses, found = {"mouse.1/V1": torch.rand(60, UNITS, generator=generator)}, []
    for inputs in (pixels, pixels.float() / 255):
        model = Twin(core(), {"mouse.1/V1": readout(8, UNITS, 0)}, {"mouse.1/V1": 1})
        fit_twin(model, {"r": ReadoutData(inputs, responses, *ROWS)}, FitSettings(epochs=2))
        found.append(predict(model, inputs, ["mouse.1/V1"])["mouse.1/V1"])
    assert torch.equal(*found)


def test_decays_find_a_lower_loss():
    """At a rate that is too high for the end, going back and slowing down beats stopping."""
    data, _ = planted(180)
    found = {}
    for decays in (0, 2):
        history = fit_twin(twin(1), data, FitSettings(learning_rate=0.06, epochs=20, patience=1, decays=decays))
        found[decays] = min(history.select)
        assert history.rates[-1] == pytest.approx(0.06) or decays
    assert found[2] < found[0]


def test_weight_decay_is_decoupled():
    """After one step the two differ by learning_rate * weight_decay * what the parameters were."""
    data, _ = planted(180)
    states, start = [], None
    for decay in (0.0, 0.5):
        model = twin(1)
        one = {"mouse.1": data["mouse.1"]}
        history = fit_twin(model, one, FitSettings(learning_rate=0.02, epochs=1, batch=None, weight_decay=decay))
        states.append({name: parameter.detach() for name, parameter in model.named_parameters()})
        start = history.start
    for name, plain in states[0].items():
        if "mouse%2E2" not in name:
            torch.testing.assert_close(plain - states[1][name], 0.02 * 0.5 * start.state[name], rtol=1e-3, atol=1e-6)


def test_a_step_together_has_the_mean_gradient():
    """Gradients of one step over both recordings against the mean of each recording's own, without noise."""
    data, _ = planted(180)
    model = twin(1)
    ready = prepared(model, list(data.values()))
    with torch.no_grad():
        for key in DEPTHS:
            model.readout(key).spread.zero_()
    model.train()
    grads = []
    for recording in ready:
        model.zero_grad()
        loss = batch_loss(model, take(recording, recording.train, CPU)) + penalty(model, tuple(recording.responses))
        grads.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True))
    TrainingLoop(model, ready, FitSettings(batch=None, together=True)).epoch(1e-3)
    for (name, parameter), *each in zip(model.named_parameters(), *grads, strict=True):
        if name.endswith("spread"):  # its gradient is made of the noise
            continue
        torch.testing.assert_close(parameter.grad, torch.stack(each).mean(dim=0), rtol=1e-3, atol=1e-5)


def without_places(seed):
    """A twin whose readouts have no starting positions, which depend on the rows that are searched."""
    given = {name: parameter.default for name, parameter in READOUTS["mlp"].parameters.items()}
    make, given = READOUTS["mlp"].load(), given | {"hidden": 8, "pool": 4}
    return Twin(core(seed), {key: make([(8, 24, 24)], UNITS, given, seed) for key in DEPTHS}, DEPTHS)


def test_refit_is_a_fit_of_that_length_on_all_rows():
    """From where the first fit began, with the seeds it had: the very same numbers."""
    data, _ = planted(240)
    settings = FitSettings(learning_rate=0.003, epochs=4, patience=4, seed=2)
    model, other = without_places(1), without_places(1)
    history = fit_twin(model, data, settings)
    assert len(history.rates) == history.best_epoch + 1
    refit_twin(model, data, settings, history)
    together = {
        name: ReadoutData(each.inputs, each.responses, torch.cat([each.train, each.select]), each.select)
        for name, each in data.items()
    }
    whole = fit_twin(other, together, FitSettings(learning_rate=0.003, epochs=history.best_epoch + 1, seed=2))
    assert whole.best_epoch == history.best_epoch
    assert not model.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_areas_weigh_the_same_where_that_is_asked():
    """Ten times the units of one area: its share of the loss grows with `none`, and not with `areas`."""
    data, _ = planted(180)
    recording = data["mouse.1"]
    many = {key: values.repeat(1, 10 if key.endswith("LM") else 1) for key, values in recording.responses.items()}
    losses = {}
    for name, responses in (("one", recording.responses), ("ten", many)):
        readouts = {key: readout(8, values.shape[1], 3) for key, values in responses.items()}
        model = Twin(core(), readouts, {key: DEPTHS[key] for key in responses}).eval()
        for each in readouts.values():
            with torch.no_grad():
                each.weights.zero_()
                each.bias.fill_(0.5)
        batch = take(ReadoutData(recording.inputs, responses, *ROWS), torch.arange(50), CPU)
        losses[name] = {balance: batch_loss(model, batch, balance).item() for balance in ("none", "areas")}
    assert losses["one"]["areas"] == pytest.approx(losses["ten"]["areas"], rel=1e-5)
    assert losses["one"]["none"] == pytest.approx(losses["one"]["areas"], rel=1e-5)
    assert losses["ten"]["none"] != pytest.approx(losses["one"]["none"], rel=1e-3)
