import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch.nn import functional as F

from models.backbones import BACKBONES
from models.fit import (
    BestState,
    FitSettings,
    ReadoutData,
    batch_loss,
    fit_twin,
    penalty,
    predict,
    prepared,
    shuffled_batches,
)
from models.readouts.gaussian import GaussianReadout
from models.twin import Twin

torch.set_num_threads(1)

DEFAULTS = {name: parameter.default for name, parameter in BACKBONES["conv"].parameters.items()}
DEPTHS = {"mouse.1/V1": 0, "mouse.1/LM": 1, "mouse.2/V1": 0}
UNITS = 6


def core(seed=0, **changes):
    return BACKBONES["conv"].load()(DEFAULTS | {"layers": 2, "channels": 8, "kernel": 5} | changes, seed)


def twin(seed=0, **changes):
    readouts = {key: GaussianReadout(8, UNITS, seed + n) for n, key in enumerate(DEPTHS)}
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
                drawn = torch.randn(UNITS, 8, generator=generator) * 0.6 / maps.std(dim=(0, 2, 3))
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
    history = fit_twin(model, data, "poisson", FitSettings(learning_rate=0.01, epochs=25), l1=0.01)
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
        model = twin(1)
        fit_twin(model, data, "gaussian", FitSettings(epochs=2, seed=3))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_gradient_reaches_every_parameter():
    data, _ = planted(180)
    model = twin(1, smoothness=0.1)
    for recording in data.values():
        ready = prepared(model, recording)
        model.train()
        loss = batch_loss(model, ready, ready.train[:64], "poisson")
        (loss + penalty(model, tuple(ready.responses), 0.01)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_smoothness_enters_the_penalty():
    keys = tuple(DEPTHS)
    rough, plain = twin(1, smoothness=2.0), twin(1)
    expected = 2.0 * (rough.core.regularizer() / 2.0) + penalty(plain, keys, 0.5)
    torch.testing.assert_close(penalty(rough, keys, 0.5), expected)
    assert plain.regularizer().item() == 0.0


def test_responses_keep_their_units():
    """Scaling the responses of an area scales its predictions and leaves the fit as it was."""
    predictions = []
    for factor in (1.0, 50.0):
        data, _ = planted(180)
        data["mouse.1"].responses["mouse.1/LM"].mul_(factor)
        model = twin(1)
        fit_twin(model, data, "gaussian", FitSettings(epochs=3))
        predictions.append(predict(model, data["mouse.1"].inputs, ["mouse.1/LM"])["mouse.1/LM"] / factor)
    torch.testing.assert_close(*predictions, rtol=1e-3, atol=1e-3)


def test_unit_with_gaps_is_fitted_from_the_rest():
    """Every second response of a unit is missing; it is predicted well on exactly those rows."""
    data, rates = planted()
    key = "mouse.2/V1"
    data["mouse.2"].responses[key][::2, 0] = torch.nan
    model = twin(1)
    fit_twin(model, data, "poisson", FitSettings(learning_rate=0.01, epochs=25), l1=0.01)
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
    history = fit_twin(model, data, "poisson", FitSettings(learning_rate=0.02, epochs=40, patience=3))
    assert history.stopped_early
    assert len(history.select) == history.best_epoch + 4
    losses, entries = [], []
    for recording in data.values():
        losses.append(batch_loss(model, recording, recording.select, "poisson").item())
        entries.append(len(recording.responses))
    assert np.average(losses, weights=entries) == pytest.approx(min(history.select), rel=1e-5)


def test_diverging_fit_says_where():
    data, _ = planted(180)
    with pytest.raises(FloatingPointError, match=r"epoch 0 at learning rate 1e\+30"):
        fit_twin(twin(1), data, "gaussian", FitSettings(learning_rate=1e30, epochs=3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y, rows: y.sub_(100), "negative responses"),
        (lambda y, rows: y[:, 2].fill_(torch.nan), "1 units have no response in the train rows"),
        (lambda y, rows: y.index_fill_(0, rows.select, torch.nan), "no response in the select rows"),
    ],
)
def test_bad_data_is_refused(change, message):
    data, _ = planted(180)
    change(data["mouse.1"].responses["mouse.1/LM"], data["mouse.1"])
    with pytest.raises(ValueError, match=f"recording 'mouse.1', readout 'mouse.1/LM': {message}"):
        fit_twin(twin(1), data, "poisson", FitSettings())


def test_unknown_loss_lists_the_known_ones():
    data, _ = planted(180)
    with pytest.raises(ValueError, match="known: poisson, gaussian"):
        fit_twin(twin(1), data, "huber", FitSettings())


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
    readout, maps = GaussianReadout(4, 5, 0).eval(), torch.rand(3, 4, 6, 6)
    assert torch.equal(Twin(None, {"keys": readout}).eval()(maps, ["keys"])["keys"], readout(maps))


def test_twin_refuses_unknown_keys_and_missing_depths():
    with pytest.raises(KeyError, match="known: mouse"):
        twin()(torch.rand(1, 3, 24, 24), ["V9"])
    with pytest.raises(ValueError, match="depths are given for"):
        Twin(core(), {"V1": GaussianReadout(8, 2, 0)}, {"LM": 0})


def test_twin_state_through_safetensors():
    source, target, images = twin(1).eval(), twin(2).eval(), torch.rand(3, 3, 24, 24)
    target.load_state_dict(load(save(source.state_dict())))
    with torch.no_grad():
        one, two = (model(images, tuple(DEPTHS)) for model in (source, target))
    assert all(torch.equal(one[key], two[key]) for key in DEPTHS)
