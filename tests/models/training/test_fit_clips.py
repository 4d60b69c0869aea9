"""Twins of clips: what belongs to which frame, what behaviour and gaze add, and what is cut out in training."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.backbones import BACKBONES
from models.readouts import READOUTS
from models.training.assembly import ReadoutPlan, assemble
from models.training.data import crop, take
from models.training.gradient_fit import FitSettings, ReadoutData, fit_twin, predict, refit_twin
from models.twin import Twin

torch.set_num_threads(1)

CPU = torch.device("cpu")
CLIPS, FRAMES, SIDE, UNITS = 50, 16, 9, 4
ROWS = torch.arange(CLIPS).split([36, 7, 7])
GAUSSIAN = {name: parameter.default for name, parameter in READOUTS["gaussian"].parameters.items()}
GAUSSIAN = {key: value for key, value in GAUSSIAN.items() if key not in BACKBONES["factorised3d"].idle}


def core(seed=0, **changes):
    given = {name: parameter.default for name, parameter in BACKBONES["factorised3d"].parameters.items()}
    small = {
        "channels": "4-4",
        "spatial_first": 3,
        "spatial_then": 1,
        "temporal_first": 3,
        "temporal_then": 2,
        "momentum": 0.2,
    }
    return BACKBONES["factorised3d"].load()(given | small | changes, seed)


def planted(seed=0, run=0.0, gaze=0, lag=1):
    """Coarse random clips in bytes; units see the brightness of a place one frame ago, plus running, plus noise.

    Where the animal looks, -1 to 1, moves the place by as many times `gaze` pixels to the right.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(CLIPS * FRAMES, 1, 5, 5, generator=generator)
    grey = F.interpolate(coarse, SIDE, mode="bilinear", align_corners=True).view(CLIPS, FRAMES, SIDE, SIDE)
    clips = (255 * grey[:, None].expand(-1, 3, -1, -1, -1)).to(torch.uint8)
    running = torch.randn(CLIPS, FRAMES, 1, generator=generator)
    look = torch.randint(-1, 2, (CLIPS, FRAMES), generator=generator)
    seen = torch.zeros(CLIPS, FRAMES, UNITS)
    for unit, (y, x) in enumerate([(2, 4), (6, 2), (4, 6), (4, 4)]):
        columns = (x + gaze * look)[:, lag:, None]
        seen[:, lag:, unit] = grey[:, : FRAMES - lag, y].gather(2, columns)[..., 0]
    noise = torch.randn(seen.shape, generator=generator)
    pupil = torch.stack([look.float(), torch.randn(look.shape, generator=generator)], dim=-1)
    return clips, 4 * seen + run * running + 0.3 * noise + 3, running, pupil


def recording(seed=0, planting=(0.0, 0), **changes):
    clips, responses, running, pupil = planted(seed, *planting)
    return dataclasses.replace(ReadoutData(clips, {"a": responses}, *ROWS[:2], running, pupil), **changes)


def fitted(data, settings=None, depth=1, behaviour=False, gaze=False, **changes):
    given = GAUSSIAN | {"loss": "gaussian", "l1": 0.0}
    twin = assemble(core(**changes), ReadoutPlan("gaussian", given, {"a": depth}), data, 0, behaviour, gaze)
    history = fit_twin(twin, data, settings or FitSettings(0.03, 12, 12, batch=4))
    return twin, history


def correlation(twin, data, rows=ROWS[2], behaviour=True):
    given = (data.behaviour[rows], data.pupil[rows]) if behaviour else (None, None)
    found = predict(twin, data.inputs[rows], ["a"], None, *given)["a"]
    seen = data.responses["a"][rows][:, -found.shape[1] :]
    pairs = zip(found.flatten(0, 1).T, seen.flatten(0, 1).T, strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])), found


@pytest.mark.parametrize("padding", ["causal", "none"])
def test_responses_belong_to_the_last_frames(padding):
    """Frames are independent noise: a shift by one frame would leave nothing to predict."""
    data = recording()
    twin, _ = fitted({"r": data}, padding=padding)
    found, predicted = correlation(twin, data)
    assert predicted.shape == (7, FRAMES - (3 if padding == "none" else 0), UNITS)
    assert found > 0.7


@pytest.mark.parametrize("depth", [0, (0, 1)])
def test_blocks_of_different_length_are_read_at_the_same_frames(depth):
    data = recording()
    twin, _ = fitted({"r": data}, depth=depth, padding="none")
    found, predicted = correlation(twin, data)
    assert predicted.shape[1] == FRAMES - (2 if depth == 0 else 3)
    assert found > 0.7


def test_behaviour_is_worth_what_was_planted():
    """Running adds a variance of 1.5^2 to less from the stimulus: without the branch it is out of reach."""
    data = recording(planting=(1.5, 0))
    alone, told = (correlation(fitted({"r": data}, behaviour=each)[0], data)[0] for each in (False, True))
    assert told > alone + 0.2


@pytest.mark.slow
def test_gaze_moves_the_readouts_as_planted():
    """Looking right moves all positions right, and predictions gain by it."""
    data = recording(planting=(0.0, 2))
    fixed, (moved, _) = fitted({"r": data})[0], fitted({"r": data}, gaze=True)
    assert correlation(moved, data)[0] > correlation(fixed, data)[0] + 0.1
    shifts = moved.shifter("a")(torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))[:, 0].detach()
    np.testing.assert_allclose(shifts.diff(), 2 * 2 / (SIDE - 1), atol=0.2)


def test_missing_behaviour_is_the_mean():
    data = recording()
    twin, _ = fitted({"r": data}, FitSettings(0.02, 1, batch=8), behaviour=True, gaze=True)
    mean = [
        each.flatten(0, 1)[None].mean(dim=1, keepdim=True) for each in (data.behaviour[ROWS[0]], data.pupil[ROWS[0]])
    ]
    given = [each.expand(CLIPS, FRAMES, -1) for each in mean]
    absent, meant = (predict(twin, data.inputs, ["a"], None, *each)["a"] for each in ((None, None), given))
    torch.testing.assert_close(absent, meant)
    holes = [torch.full_like(each, torch.nan) for each in given]
    torch.testing.assert_close(predict(twin, data.inputs, ["a"], None, *holes)["a"], absent)


def test_behaviour_is_z_scored_within_each_recording():
    """A recording whose speed has another offset and unit is told nothing by them."""
    data = {"r": recording(), "s": recording(1)}
    moved = data["s"].behaviour * 40.0 + 100.0
    data["s"] = dataclasses.replace(data["s"], responses={"b": data["s"].responses["a"]}, behaviour=moved)
    twin = assemble(core(), ReadoutPlan("gaussian", GAUSSIAN, {"a": 1, "b": 1}), data, 0, behaviour=True)
    fit_twin(twin, data, FitSettings(0.01, 1, batch=8))
    for name, held in data.items():
        scored = twin.branch.standardized(name)(held.behaviour[ROWS[0]]).flatten(0, 1)
        torch.testing.assert_close(scored.mean(dim=0), torch.zeros(scored.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(scored.std(dim=0, correction=0), torch.ones(scored.shape[1]), atol=1e-4, rtol=0)
    with pytest.raises(KeyError, match="unknown recording 'q'; known: r, s"):
        twin.branch.standardized("q")
    silent = {name: dataclasses.replace(held, behaviour=None) for name, held in data.items()}
    with pytest.raises(ValueError, match="behaviour is asked for, but no recording has any"):
        assemble(core(), ReadoutPlan("gaussian", GAUSSIAN, {"a": 1, "b": 1}), silent, 0, behaviour=True)


def test_gradient_reaches_the_branch_and_the_shifters():
    data = {"r": recording(), "s": recording(1)}
    data["s"] = dataclasses.replace(data["s"], responses={"b": data["s"].responses["a"]})
    twin = assemble(core(), ReadoutPlan("gaussian", GAUSSIAN, {"a": 1, "b": (0, 1)}), data, 0, True, True).train()
    for name, held in data.items():
        batch = take(held, ROWS[0][:3], CPU)
        views = twin.views(batch.inputs, [{"r": "a", "s": "b"}[name]], batch.behaviour, batch.pupil)
        sum(outcome[0].square().mean() for outcome in twin.outcomes(views).values()).backward()
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not (name.startswith("core.") and name.endswith("bias")):
            assert parameter.grad.abs().sum() > 0, name
    assert len(twin.shifters) == 2


def test_crops_keep_frames_and_responses_together():
    """Every frame holds its clip's and its own number, and so do responses, behaviour and pupil."""
    code = 100.0 * torch.arange(5)[:, None] + torch.arange(12)
    clips = code[:, None, :, None, None].expand(5, 3, 12, 2, 2)
    data = ReadoutData(clips, {"a": code[..., None]}, *ROWS[:2], code[..., None], code[..., None].expand(5, 12, 2))
    rows, draws, starts = torch.tensor([3, 0, 4]), torch.Generator().manual_seed(0), []
    for _ in range(40):
        window = crop(data, rows, FitSettings(frames=7), draws)
        batch = take(data, rows, CPU, **window)
        assert batch.inputs.shape == (3, 3, 7, 2, 2)
        expected = 100.0 * rows[:, None] + window["starts"][:, None] + torch.arange(7)
        for values in (
            batch.inputs[:, 0, :, 0, 0],
            batch.responses["a"][..., 0],
            batch.behaviour[..., 0],
            batch.pupil[..., 1],
        ):
            assert torch.equal(values, expected)
        starts += window["starts"].tolist()
    assert set(starts) == set(range(6))  # every start there is
    assert crop(data, rows, FitSettings(frames=12), draws) == {}
    assert crop(data, rows, FitSettings(), draws) == {}


def test_fit_with_everything_on_is_deterministic_and_learns():
    """Crops, warm-up, decays, weight decay, all recordings together, gaps, and a second fit on all rows."""
    found = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        data = {"r": recording(), "s": recording(1, train=ROWS[0][:9])}
        data["s"] = dataclasses.replace(data["s"], responses={"b": data["s"].responses["a"].clone()})
        data["s"].responses["b"][:, :4], data["s"].responses["b"][3] = torch.nan, torch.nan
        settings = FitSettings(0.02, 4, 1, 6, 7, weight_decay=0.01, warmup=2, decays=1, together=True, frames=10)
        given = GAUSSIAN | {"loss": "gaussian", "balance": "areas"}
        twin = assemble(core(padding="none"), ReadoutPlan("gaussian", given, {"a": 1, "b": 0}), data, 0, True, True)
        history = fit_twin(twin, data, settings)
        refit_twin(twin, data, settings, history)
        found.append(twin.state_dict())
        assert min(history.select) < history.select[0]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_input_statistics_are_those_of_the_train_clips():
    data = recording()
    twin, _ = fitted({"r": data}, FitSettings(0.01, 1, batch=8))
    pixels = data.inputs[ROWS[0]].double() / 255
    assert float(twin.core.mean) == pytest.approx(float(pixels.mean()), rel=1e-5)
    assert float(twin.core.std) == pytest.approx(float(pixels.mean(dim=1).std(correction=0)), rel=1e-5)


def test_what_does_not_fit_is_refused():
    data = recording()
    with pytest.raises(ValueError, match=r"behaviour is \(50, 15, 1\), expected \(50, 16, 'k'\)"):
        fitted({"r": dataclasses.replace(data, behaviour=data.behaviour[:, :15])})
    with pytest.raises(ValueError, match=r"responses are \(50, 4\), expected \(50, 16, 4\)"):
        fitted({"r": dataclasses.replace(data, responses={"a": data.responses["a"][:, 0]})})
    without = {"r": dataclasses.replace(data, behaviour=None, pupil=None)}
    with pytest.raises(ValueError, match="behaviour is asked for"):
        fitted(without, behaviour=True)
    with pytest.raises(ValueError, match="no recording has the pupil's position"):
        fitted(without, gaze=True)
    readout = fitted(without, FitSettings(0.01, 1, batch=8))[0].readout("a")
    with pytest.raises(ValueError, match="every readout needs its recording's shifter"):
        Twin(core(), {"a": readout}, {"a": 1}, None, {"r": torch.nn.Linear(2, 2)}, {"a": "s"})


def test_skipped_frames_are_left_out():
    """Responses to the first frames that are missing, or wild but masked, make no difference to a core that pads."""
    data, settings, found = recording(), FitSettings(0.02, 2, batch=4), []
    for start in (3, FRAMES // 2):
        gaps = data.responses["a"].clone()
        gaps[:, :start] = torch.nan
        twin, history = fitted({"r": dataclasses.replace(data, responses={"a": gaps})}, settings)
        assert np.isfinite(history.train + history.select).all()
        scale, _ = torch.std_mean(gaps[ROWS[0], start:].flatten(0, 1), dim=0, correction=0)
        torch.testing.assert_close(twin.readout("a").scale, scale, rtol=1e-4, atol=0)
        found.append(correlation(twin, data)[1])
    assert not torch.equal(*found)
