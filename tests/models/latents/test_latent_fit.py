"""Fits of twins with latent factors: of clips through a core, and of planted truths."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from scipy import stats

from models.backbones import BACKBONES
from models.latents.data import LatentData, LatentTraining
from models.latents.fit import _Stage, fit_latent
from models.latents.twin import LikelihoodSettings
from models.objectives.likelihoods import zig_links
from models.readouts import READOUTS

torch.set_num_threads(1)

DEFAULTS = {name: parameter.default for name, parameter in READOUTS["latent"].parameters.items()}
TINY = DEFAULTS | {"latents": 2, "samples": 2}
QUICK = LatentTraining(0.02, 3, 8, 1, 0, 0.0, 8, 20)
UNITS = 40


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def simulate(rank, clips=80, frames=20, units=UNITS, gain=1.0, seed=0, slope=0.5):
    """Features, responses and the truth of a zero-inflated gamma population with `rank` latents."""
    g = generator(seed)
    features = torch.randn(clips, 3, frames, 1, 1, generator=g)
    weights = slope * torch.randn(units, 2, 3, generator=g)
    loadings = gain * torch.randn(units, 2, rank, generator=g)
    latents = torch.randn(clips, frames, rank, generator=g)
    k, scale = 1 + 4 * torch.rand(units, generator=g), 0.5 + torch.rand(units, generator=g)
    stimulus = torch.einsum("bctij,uoc->btuo", features, weights)
    stimulus[..., 0] += torch.randn(units, generator=g)
    q, theta = zig_links(stimulus + torch.einsum("btm,uom->btuo", latents, loadings))
    theta = scale * theta
    random = np.random.default_rng(seed)
    above = 0.005 + torch.from_numpy(random.gamma(k.expand_as(theta).numpy())).float() * theta
    below = 0.005 * torch.rand(q.shape, generator=g)
    responses = torch.where(torch.rand(q.shape, generator=g) < q, above, below)
    alone = zig_links(stimulus)
    return features, responses, {"k": k, "q": alone[0], "theta": scale * alone[1], "loadings": loadings}


def data(features, responses, **changes):
    trials = torch.arange(len(responses))
    cut = [int(0.7 * len(trials)), int(0.15 * len(trials))]
    train, select, _ = trials.split([*cut, len(trials) - sum(cut)])
    return LatentData(features, responses, train, select, [0] * responses.shape[2], **changes)


def fitted(features, responses, parameters, training, seed=0):
    return fit_latent(None, {"a": data(features, responses)}, parameters, training, seed)


def correlation(a, b):
    a, b = a.flatten(0, 1), b.flatten(0, 1)
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    return (a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0))


def spectrum(twin):
    """Shares of the latents' variance along the singular directions of all loadings."""
    variance = torch.linalg.svdvals(twin.population().loadings().detach().flatten(0, 1)).square()
    return (variance / variance.sum()).tolist()


def gain_of_conditioning(twin, features, responses):
    """Correlation of the left-out units with and without the others, on the report trials."""
    rest = slice(int(0.85 * len(features)), None)
    given_units = torch.arange(UNITS) % 2 == 0
    alone = twin.predict_prior(features[rest], 20)
    conditioned = twin.predict_conditioned(features[rest], responses[rest], given_units)
    pair = [correlation(value, responses[rest])[~given_units].mean().item() for value in (conditioned, alone)]
    return pair[0] - pair[1], pair[1]


CORE = {name: parameter.default for name, parameter in BACKBONES["factorised3d"].parameters.items()} | {
    "channels": "3-4",
    "spatial_first": 3,
    "spatial_then": 3,
    "temporal_first": 3,
    "temporal_then": 2,
}


def core(**changes):
    return BACKBONES["factorised3d"].load()(CORE | changes, 0)


def clip_data(trials=10, frames=14, units=6, seed=0, **changes):
    g = generator(seed)
    clips = torch.randint(0, 256, (trials, 3, frames, 8, 9), dtype=torch.uint8, generator=g)
    responses = torch.rand(trials, frames, units, generator=g) * (torch.rand(trials, frames, units, generator=g) < 0.7)
    responses[:, :, 5] += clips[:, 0, :, 2, 3].float() / 64
    responses[1, 9:] = torch.nan  # a shorter clip
    responses[2, :, 3] = torch.nan
    parts = torch.arange(trials).split([trials - 4, 4])
    return LatentData(clips, responses, *parts, [0, 1, 0, 1, 1, 0], **changes)


@pytest.mark.parametrize(
    ("padding", "changes"),
    [
        ("causal", {}),
        ("none", {"likelihood": "poisson", "posterior": "time", "mask": "unit", "pretrained": False}),
        ("causal", {"loadings": "position", "position": "coordinates", "posterior": "diagonal", "mixing": True}),
        ("none", {"kl": "prior-posterior", "kl_weight": 5.0, "memory": 0.5, "shape": "fixed"}),
    ],
)
def test_fit_of_clips(changes, padding):
    places = torch.rand(6, 3, generator=generator()) * 500
    held = {"a": clip_data(coordinates=places), "b": clip_data(6, 12, seed=1, coordinates=places)}
    state = torch.random.get_rng_state()
    fit = fit_latent(core(padding=padding), held, TINY | changes, LatentTraining(0.01, 2, 8, 1, 2, 0.0, 4, 10), 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    twin, clips, responses = fit.twin, held["a"].clips, held["a"].responses
    assert not twin.training
    assert fit.stages == ([2, 2] if (TINY | changes)["pretrained"] else [2])
    assert float(twin.core.mean) == pytest.approx(0.5, abs=0.02)
    lost = 0 if padding == "causal" else 3
    for found in (
        twin.predict_prior(clips, 2, key="a"),
        twin.predict_conditioned(clips, responses, key="a"),
        twin.log_likelihood(clips, responses, LikelihoodSettings(2, joint=True), key="a"),
    ):
        assert found.shape[:2] == (10, 14)
        assert found[:, :lost].isnan().all()
        assert found[0, lost:].isfinite().all()
    assert twin.log_likelihood(clips, responses, LikelihoodSettings(2), key="a").isfinite().all()


def test_seed_decides_everything_and_state_goes_through_safetensors():
    held, training = {"a": clip_data()}, LatentTraining(0.01, 1, 8, 1, 0, 0.0, 4, 10)
    one, same, other = (fit_latent(core(), held, TINY, training, seed).twin for seed in (0, 0, 1))
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])
    clips, responses = held["a"].clips, held["a"].responses
    assert not torch.equal(other.predict_prior(clips, 2), one.predict_prior(clips, 2))
    other.load_state_dict(load(save({key: value.contiguous() for key, value in one.state_dict().items()})))
    assert torch.equal(other.infer(responses)[0], one.infer(responses)[0])
    torch.testing.assert_close(other.predict_prior(clips, 2), one.predict_prior(clips, 2))


@pytest.mark.parametrize("changes", [{}, {"loadings": "position", "posterior": "time", "mixing": True}])
def test_gradient_reaches_every_parameter(changes):
    held = {"a": clip_data(coordinates=torch.rand(6, 2, generator=generator()))}
    parameters = TINY | changes | {"position": "coordinates"}
    fit = fit_latent(core(), held, parameters, LatentTraining(0.01, 1, 8, 1, 0, 0.0, 4, 10), 0)
    twin, stage = fit.twin, _Stage(fit.twin, held, parameters, QUICK, 0, True)
    twin.train()
    trials = held["a"].train
    clips, responses = held["a"].crops(trials, 10, generator())
    (stage.loss("a", clips, responses) + twin.regularizer()).backward()
    silent = {key for key, value in twin.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0}
    assert not silent


def test_positions_start_where_the_responses_are():
    still = LatentTraining(1e-6, 1, 1, 0, 0, 0.0, 8, 14)
    fit = fit_latent(core(), {"a": clip_data(40)}, TINY | {"latents": 0}, still, 0)
    found = fit.twin.population().readouts[0].centres()[2]  # unit 5 follows one pixel; the next is 0.29 away
    torch.testing.assert_close(found, torch.tensor([3 / 4 - 1, 2 / 3.5 - 1]), rtol=0, atol=0.3)


def test_repeated_clips_are_held_once():
    plain = clip_data()
    twice = LatentData(
        torch.cat([plain.clips, plain.clips]), torch.cat([plain.responses] * 2), plain.train, plain.select, plain.depths
    )
    shown = LatentData(
        plain.clips, twice.responses, plain.train, plain.select, plain.depths, shown=torch.arange(10).repeat(2)
    )
    training = LatentTraining(0.01, 1, 8, 1, 0, 0.0, 4, 10)
    fits = [fit_latent(core(), {"a": each}, TINY, training, 0) for each in (twice, shown)]
    assert fits[0].select == fits[1].select


def test_crops_are_of_clip_and_response_alike():
    held = clip_data(6, 30)
    clips, responses = held.crops(torch.tensor([5, 0, 3]), 7, generator())
    assert clips.shape == (3, 3, 7, 8, 9)
    assert clips.dtype == torch.float32
    starts = []
    for row, trial in enumerate((5, 0, 3)):
        whole = held.clips[trial].float() / 255
        start = next(s for s in range(24) if torch.equal(whole[:, s : s + 7], clips[row]))
        torch.testing.assert_close(responses[row], held.responses[trial, start : start + 7], equal_nan=True)
        starts.append(start)
    assert len(set(starts)) > 1
    assert held.crops(held.train, 99, generator())[0].shape[2] == 30


def test_what_cannot_be_fitted():
    good = clip_data()
    cases = {
        r"responses are \(10, 13, 6\), expected \(trials, frames, units\) = \(10, 14, 6\)": {
            "responses": good.responses[:, 1:]
        },
        "no response in the train trials": {"responses": torch.full_like(good.responses, torch.nan)},
        "responses are negative, which neither likelihood allows": {"responses": good.responses - 0.5},
        "6 train and 0 select trials": {"select": good.select[:0]},
    }
    for message, changes in cases.items():
        values = {**good.__dict__, **changes}
        with pytest.raises(ValueError, match=rf"recording 'a': .*{message}"):
            fit_latent(core(), {"a": LatentData(**values)}, TINY, QUICK, 0)
    with pytest.raises(ValueError, match="loadings from cortical coordinates need coordinates"):
        fit_latent(core(), {"a": good}, TINY | {"loadings": "position"}, QUICK, 0)
    wild = LatentTraining(1e30, 3, 8, 1, 0, 0.0, 4, 10)
    with pytest.raises(FloatingPointError, match="at learning rate 1e"):
        fit_latent(core(), {"a": good}, TINY, wild, 0)


def test_a_unit_without_a_response_leaves_the_others_as_finite_as_they_were():
    held = clip_data()
    held = LatentData(**{**held.__dict__, "responses": held.responses.index_fill(2, torch.tensor([2]), torch.nan)})
    twin = fit_latent(core(), {"a": held}, TINY, QUICK, 0).twin
    assert all(each.isfinite().all() for each in twin.state_dict().values())
    seen = held.responses[held.train]
    assert twin.predict_conditioned(held.stimulus(held.train), seen)[:, -1].isfinite().all()


def test_drives_of_zero_are_the_model_without_stimulus():
    """Before training: q is the share above rho, theta that of SciPy's gamma, the rate the mean response."""
    features, responses, _ = simulate(0, clips=30, units=4, slope=0.0)
    still = LatentTraining(1e-9, 1, 1, 0, 0, 0.0, 8, 20)
    held = {"a": data(features, responses)}
    for parameters in (TINY | {"latents": 0}, TINY | {"latents": 0, "likelihood": "poisson"}):
        population = fit_latent(None, held, parameters, still, 0).twin.population()
        rows = responses[held["a"].train].flatten(0, 1).double().numpy()
        if parameters["likelihood"] == "poisson":
            np.testing.assert_allclose(population.scale, rows.mean(axis=0), rtol=1e-4)
            continue
        share = torch.sigmoid(population.readouts[0].bias[:, 0]).detach()
        np.testing.assert_allclose(share, (rows > 0.005).mean(axis=0), rtol=1e-3)
        fits = [stats.gamma.fit(unit[unit > 0.005], floc=0.005) for unit in rows.T]
        np.testing.assert_allclose(population.shapes().detach(), [fit[0] for fit in fits], rtol=1e-3)
        np.testing.assert_allclose(population.scale, [fit[2] for fit in fits], rtol=1e-3)


def test_stage_ends_in_its_best_state():
    features, responses, _ = simulate(1, clips=20, units=10)
    held, parameters = {"a": data(features, responses)}, TINY | {"pretrained": False}
    training = LatentTraining(0.3, 40, 1, 1, 0, 0.0, 4, 20)  # far too fast: it gets worse in between
    fit = fit_latent(None, held, parameters, training, 0)
    stage = _Stage(fit.twin, held, parameters, training, 0, True)
    assert stage.select_loss() == pytest.approx(min(fit.select), rel=1e-6)
    assert fit.select[fit.best_epoch] == min(fit.select) < fit.select[-1]
    assert len(fit.select) == fit.stages[0] < 40


def test_planted_parameters_without_latents():
    """k within 15 % where 800 responses tell it, far closer than what fits all responses; q and theta as planted."""
    features, responses, truth = simulate(0, clips=160, units=12)
    fit = fitted(features, responses, DEFAULTS | {"latents": 0}, LatentTraining(0.04, 15, 8, 1, 0, 0.0, 8, 20))
    population = fit.twin.population()
    with torch.no_grad():
        q, theta = fit.twin.outcome(population.drives({0: features}), population)
        error = (population.shapes() / truth["k"] - 1).abs()
    known = (responses[:112] > 0.005).sum(dim=(0, 1)) > 800
    assert known.sum() > 5
    assert error[known].max() < 0.15
    assert correlation(q, truth["q"]).median() > 0.9
    assert correlation(theta, truth["theta"]).median() > 0.9
    for found, planted in ((q, truth["q"]), (theta, truth["theta"])):
        means = torch.stack([found.mean(dim=(0, 1)), planted.mean(dim=(0, 1))])
        assert torch.corrcoef(means)[0, 1] > 0.9
    frozen = fitted(features, responses, DEFAULTS | {"latents": 0, "shape": "fixed"}, QUICK).twin.population()
    assert (frozen.shapes() / truth["k"] - 1).abs().median() > 2 * error.median()


LATENT = DEFAULTS | {"latents": 3, "samples": 2, "kl_weight": 0.3, "pretrained": False}


def test_planted_latent_is_found():
    features, responses, _ = simulate(1)
    twin = fitted(features, responses, LATENT, LatentTraining(0.02, 15, 20, 1, 0, 0.0, 8, 20)).twin
    gain, alone = gain_of_conditioning(twin, features, responses)
    assert gain > 0.08
    assert alone > 0.2
    assert spectrum(twin)[0] > 0.9


def test_without_a_planted_latent_there_is_nothing_to_gain():
    features, responses, _ = simulate(0)
    parameters = LATENT | {"kl_weight": 1.0}
    twin = fitted(features, responses, parameters, LatentTraining(0.02, 10, 20, 1, 0, 0.0, 8, 20)).twin
    gain, alone = gain_of_conditioning(twin, features, responses)
    assert abs(gain) < 0.01
    assert alone > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("kl_weight", [0.3, 1.0])
def test_planted_rank_is_recovered(rank, kl_weight):
    """With four latents allowed, those that are not needed get nothing; joint and conditional likelihoods rise."""
    features, responses, _ = simulate(rank, clips=120, gain=0.9)
    parameters = LATENT | {"latents": 4, "kl_weight": kl_weight, "pretrained": True}
    fit = fitted(features, responses, parameters, LatentTraining(0.02, 30, 8, 2, 0, 0.0, 8, 20))
    shares = np.array(spectrum(fit.twin))
    assert shares[:rank].sum() > 0.95
    assert shares[rank - 1] > 0.1
    assert round(1 / (shares**2).sum()) == rank
    assert gain_of_conditioning(fit.twin, features, responses)[0] > 0.05
    still = fitted(features, responses, parameters | {"latents": 0}, LatentTraining(0.02, 30, 8, 2, 0, 0.0, 8, 20))
    rest, units = slice(102, None), torch.arange(UNITS) % 2 == 0
    joint = LikelihoodSettings(100, joint=True)
    pair = [each.twin.log_likelihood(features[rest], responses[rest], joint).mean() for each in (fit, still)]
    assert pair[0] > pair[1] + 1
    pair = [
        each.twin.log_likelihood(features[rest], responses[rest], LikelihoodSettings(50), given=units).nanmean()
        for each in (fit, still)
    ]
    assert pair[0] > pair[1] + 0.01
