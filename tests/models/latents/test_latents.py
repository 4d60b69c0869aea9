"""Twins with latent factors, piece by piece: against torch's distributions and against the scores."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from metrics.prediction.likelihood import poisson_log_likelihood, zero_inflated_gamma_log_likelihood
from models.backbones import BACKBONES
from models.latents.populations import ClipReadout, PopulationSpec
from models.latents.recognition import Recognition, divergence, hidden_entries, sample_prior
from models.latents.twin import LatentTwin, LikelihoodSettings
from models.objectives.likelihoods import zero_inflated_gamma_mean
from models.readouts import READOUTS

torch.set_num_threads(1)

DEFAULTS = {name: parameter.default for name, parameter in READOUTS["latent"].parameters.items()}
TINY = DEFAULTS | {"latents": 2, "samples": 2}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_twin_lies_where_its_core_lies():
    parameters = {key: held.default for key, held in BACKBONES["factorised3d"].parameters.items()} | {"channels": "4-4"}
    core = BACKBONES["factorised3d"].load()(parameters, 0).to("meta")
    twin = LatentTwin(core, {"a": PopulationSpec((0, 1))}, TINY, 0)
    assert twin.device == torch.device("meta")
    placed = [*twin.to(twin.device).parameters(), *twin.buffers()]
    assert {each.device for each in placed} == {torch.device("meta")}
    assert LatentTwin(None, {"a": PopulationSpec((0,))}, TINY, 0, features=3).device == torch.device("cpu")


def test_both_divergences_of_the_notes():
    mean, spread = torch.full((1, 1, 1), 0.7), torch.full((1, 1, 1), 0.3)
    assert divergence(mean, spread, "posterior-prior").item() == pytest.approx(0.99, abs=0.005)
    assert divergence(mean, spread, "prior-posterior").item() == pytest.approx(6.57, abs=0.005)
    with pytest.raises(ValueError, match="posterior-prior or prior-posterior, not 'both'"):
        divergence(mean, spread, "both")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.9]), st.integers(1, 6))
def test_divergence_against_torch(seed, memory, frames):
    g = generator(seed)
    mean = torch.randn(2, frames, 3, generator=g, dtype=torch.float64)
    spread = 0.2 + torch.rand(2, frames, 3, generator=g, dtype=torch.float64)
    forward, backward = (divergence(mean, spread, each, memory) for each in ("posterior-prior", "prior-posterior"))
    steps = torch.arange(frames, dtype=torch.float64)
    covariance = torch.as_tensor(memory, dtype=torch.float64) ** (steps[:, None] - steps).abs()
    for upto in range(1, frames + 1):  # the first n frames are the divergence of those frames
        prior = MultivariateNormal(torch.zeros(upto, dtype=torch.float64), covariance[:upto, :upto])
        parts = [mean[:, :upto].transpose(1, 2), torch.diag_embed(spread[:, :upto].transpose(1, 2).square())]
        posterior = MultivariateNormal(*parts)
        torch.testing.assert_close(forward[:, :upto].sum(dim=1), kl_divergence(posterior, prior).sum(dim=1))
        torch.testing.assert_close(backward[:, :upto].sum(dim=1), kl_divergence(prior, posterior).sum(dim=1))
    if memory == 0.0:
        expected = kl_divergence(Normal(mean, spread), Normal(0.0, 1.0)).sum(dim=2)
        torch.testing.assert_close(forward, expected)


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_prior_has_its_moments(memory):
    draws = sample_prior((3000, 4, 5), memory, generator())
    assert draws.mean().abs() < 0.02
    covariance = torch.cov(draws.permute(1, 0, 2).flatten(1))
    steps = torch.arange(4.0)
    expected = torch.as_tensor(memory) ** (steps[:, None] - steps).abs()
    torch.testing.assert_close(covariance, expected, rtol=0, atol=0.04)


@pytest.mark.parametrize("mask", ["entry", "unit"])
def test_masks_hide_what_was_observed_at_their_rate(mask):
    observed = torch.ones(300, 10, 20, dtype=torch.bool)
    observed[:, 3] = False
    hidden = hidden_entries(observed, 0.3, mask, generator())
    assert not hidden[:, 3].any()
    assert hidden.float().mean() / 0.9 == pytest.approx(0.3, abs=0.01)
    same = (hidden[:, 0] == hidden[:, 1]).float().mean()
    assert same == 1.0 if mask == "unit" else same == pytest.approx(0.58, abs=0.02)
    assert hidden[:, 0].float().mean(dim=0).min() > 0.2
    assert not hidden_entries(observed, 0.0, mask, generator()).any()


@pytest.mark.parametrize("posterior", ["scalar", "diagonal", "time"])
def test_recognition(posterior):
    network, values = Recognition(3, posterior, 0), torch.randn(2, 9, 42, generator=generator())
    mean, spread = network(values)
    assert mean.shape == spread.shape == (2, 9, 3)
    torch.testing.assert_close(spread, torch.ones(2, 9, 3))
    later = values.clone()
    later[:, 5:] += 1
    assert torch.equal(network(later)[0][:, :5], mean[:, :5])
    assert not torch.equal(network(later)[0][:, 5:], mean[:, 5:])
    for value in network.parameters():
        value.data += 0.1 * torch.randn(value.shape, generator=generator(1))
    spread = network(values)[1]
    kinds = {"scalar": (1, 1, 1), "diagonal": (1, 1, 3), "time": (2, 9, 3)}[posterior]
    assert len(spread.unique()) == np.prod(kinds)
    sum(value.square().sum() for value in network(values)).backward()
    assert all(value.grad.abs().sum() > 0 for value in network.parameters())


def twin_of(parameters=TINY, units=5, depths=(0,), core=None, seed=0, coordinates=None, features=3):
    spec = PopulationSpec([depths[unit % len(depths)] for unit in range(units)], coordinates)
    twin = LatentTwin(core, {"a": spec}, parameters, seed, features)
    twin.population().scale.copy_(0.5 + torch.rand(units, generator=generator(seed)))
    return twin.eval()


def loaded(twin, size=1.0):
    """The twin with planted loadings, weights and shapes."""
    population, g = twin.population(), generator(3)
    population.free.data.copy_(size * torch.randn(population.free.shape, generator=g))
    population.readouts[0].weights.data.copy_(torch.randn(population.readouts[0].weights.shape, generator=g))
    population.log_k.data.copy_(torch.rand(population.units, generator=g))
    return twin


def test_visible_entries_are_scored_and_divided():
    population, responses = twin_of().population(), torch.rand(2, 6, 5, generator=generator())
    population.centre.fill_(0.3)
    population.spread.fill_(2.0)
    visible = torch.rand(2, 6, 5, generator=generator(1)) < 0.5
    responses[0, 0, 0] = torch.nan
    scored = torch.zeros(2, 6, 5)
    seen = visible & ~responses.isnan()
    scored[seen] = (responses[seen] - 0.3) / 2.0 / 0.5
    torch.testing.assert_close(population.embedded(responses, visible, 0.5), population.embedding(scored))


def test_outcome_is_the_formula():
    twin, latents = loaded(twin_of()), torch.randn(4, 2, 6, 2, generator=generator())
    drives, population = torch.randn(2, 6, 5, 2, generator=generator(1)), twin.population()
    q, theta = twin.outcome(drives, population, latents)
    u, v = population.free[:, 0], population.free[:, 1]
    for unit in range(5):
        a = drives[..., unit, 0] + (latents * u[unit]).sum(dim=-1)
        b = drives[..., unit, 1] + (latents * v[unit]).sum(dim=-1)
        torch.testing.assert_close(q[..., unit], 0.99999 * torch.sigmoid(a) + 1e-6)
        expected = torch.where(b > 0, b + 1, b.exp()) + 1e-6
        torch.testing.assert_close(theta[..., unit], population.scale[unit] * expected)


@pytest.mark.parametrize("likelihood", ["zero-inflated-gamma", "poisson"])
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_log_likelihood_is_the_one_that_is_scored(likelihood, joint, memory):
    """The same samples, put into the functions of `metrics`: per unit, jointly, with missing responses, in bits."""
    twin = loaded(twin_of(TINY | {"likelihood": likelihood, "memory": memory}))
    clips, population = torch.randn(3, 3, 7, 1, 1, generator=generator()), twin.population()
    responses = torch.poisson(torch.full((3, 7, 5), 1.0), generator=generator())
    responses[0, :, 2], responses[1, 3], responses[:, :, 4] = torch.nan, torch.nan, torch.nan
    found = twin.log_likelihood(clips, responses, LikelihoodSettings(6, joint, bits=True, seed=4))
    g = generator(4)
    with torch.no_grad():
        drives = population.drives(twin.maps(clips, population))
        samples = torch.stack([sample_prior((3, 7, 2), memory, g) for _ in range(6)])
        outcome = [value.flatten(1, 2).numpy() for value in twin.outcome(drives, population, samples)]
        k = population.shapes().numpy()
    rows = responses.flatten(0, 1).numpy()
    if likelihood == "poisson":
        expected = poisson_log_likelihood(rows, *outcome, joint=joint, bits=True)
    else:
        expected = zero_inflated_gamma_log_likelihood(rows, *outcome, k, joint=joint, bits=True)
    np.testing.assert_allclose(found.flatten(), expected, rtol=1e-4, atol=1e-5)
    assert np.isnan(expected).any()


def test_only_the_joint_likelihood_credits_what_units_share():
    """Responses from a twin's own latents: jointly they are more likely than its units, each alone, add up to."""
    twin = loaded(twin_of(TINY | {"latents": 1, "likelihood": "poisson"}, 12))
    clips, population = torch.randn(20, 3, 20, 1, 1, generator=generator()), twin.population()
    with torch.no_grad():
        latents = sample_prior((20, 20, 1), 0.0, generator(8))
        rates = twin.outcome(population.drives({0: clips}), population, latents)[0]
    responses = torch.poisson(rates, generator=generator(9))
    joint = twin.log_likelihood(clips, responses, LikelihoodSettings(200, joint=True)).mean()
    alone = twin.log_likelihood(clips, responses, LikelihoodSettings(200)).sum()
    assert joint - alone > 0.3
    population.free.data.zero_()
    joint = twin.log_likelihood(clips, responses, LikelihoodSettings(2, joint=True)).mean()
    alone = twin.log_likelihood(clips, responses, LikelihoodSettings(2)).sum()
    torch.testing.assert_close(joint, alone, rtol=1e-4, atol=1e-4)


def test_prior_predictions():
    clips = torch.randn(6, 3, 7, 1, 1, generator=generator())
    still = loaded(twin_of(), 0.0)
    population = still.population()
    q, theta = still.outcome(population.drives({0: clips}), population)
    expected = zero_inflated_gamma_mean(q, theta, population.shapes()).detach()
    for average in ("mean", "parameters"):
        torch.testing.assert_close(still.predict_prior(clips, 3, average), expected)
    moving = loaded(twin_of())
    mean, separate = (moving.predict_prior(clips, 400, each) for each in ("mean", "parameters"))
    u, v = moving.population().loadings().detach().unbind(dim=1)
    together = (u * v).sum(dim=1)  # the covariance of the two drives: what the separate average leaves out
    assert torch.equal((mean - separate).mean(dim=(0, 1)).sign(), together.sign())
    assert torch.equal(moving.predict_prior(clips, 5), moving.predict_prior(clips, 5))
    assert not torch.equal(moving.predict_prior(clips, 5), moving.predict_prior(clips, 5, seed=1))
    with pytest.raises(ValueError, match="average must be mean or parameters, not 'median'"):
        moving.predict_prior(clips, average="median")


def test_conditioning_sees_the_given_units_alone():
    twin = loaded(twin_of())
    clips, responses = torch.randn(6, 3, 7, 1, 1), torch.rand(6, 7, 5)
    given_units = torch.tensor([True, True, False, False, True])
    before = twin.predict_conditioned(clips, responses, given_units)
    changed = responses.clone()
    changed[:, :, 2:4] = 5.0
    assert torch.equal(twin.predict_conditioned(clips, changed, given_units), before)
    changed[:, :, 1] = 5.0
    assert not torch.equal(twin.predict_conditioned(clips, changed, given_units), before)
    mean, spread = twin.infer(responses, given_units)
    outcome = twin.outcome(twin.population().drives({0: clips}), twin.population(), mean)
    torch.testing.assert_close(before, twin.mean_response(outcome, twin.population()).detach())
    assert (spread > 0).all()
    scored = twin.log_likelihood(clips, responses, LikelihoodSettings(3), given=given_units)
    assert torch.equal(scored.isnan(), given_units)
    with pytest.raises(ValueError, match="a mask of 5 units with one at least"):
        twin.infer(responses, torch.zeros(5, dtype=torch.bool))


def test_unknown_recording():
    with pytest.raises(KeyError, match="unknown recording 'b'; known: a"):
        twin_of().population("b")


def test_mixing_starts_as_the_features_and_looks_ahead():
    maps = torch.randn(2, 6, 30, 4, 4, generator=generator())
    plain, mixing = (ClipReadout(6, 3, 2, generator(1), mixing=each).eval() for each in (False, True))
    torch.testing.assert_close(mixing(maps), plain(maps))
    mixing.taps.data.copy_(torch.randn(mixing.taps.shape, generator=generator(2)))
    changed = maps.clone()
    changed[:, :, 20:] += 1.0
    apart = (mixing(maps) - mixing(changed)).abs().sum(dim=(0, 2, 3)) > 1e-4
    assert apart.tolist() == [frame >= 15 for frame in range(30)]


def test_noise_of_positions_in_training_only():
    readout, maps = ClipReadout(2, 4, 1, generator()), torch.randn(2, 2, 5, 6, 6)
    assert not torch.equal(readout(maps), readout(maps))
    readout.covariance.data.copy_(torch.tensor([[0.2, 0.1], [0.0, 0.3]]).expand(4, 2, 2))
    readout.mean.data.zero_()
    places = readout.positions(20_000)[:, 0]
    torch.testing.assert_close(torch.cov(places.T), torch.tensor([[0.05, 0.03], [0.03, 0.09]]), rtol=0, atol=0.004)
    assert readout.positions(50).abs().max() <= 1
    readout.eval()
    assert torch.equal(readout(maps), readout(maps))
