"""The sheet's wiring: degree limits, growth, depth by hops, the rewired null, and its maps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import pdist

from benchmarks.rewired_sheet import BIN, rewired_null
from benchmarks.sheet_maps import gratings, map_smoothness, orientation_tuning, wiring_cost
from models.backbones import BACKBONES
from models.spiking_sheet.layers import (
    feed_forwardness,
    first_spike_latency,
    hop_counts,
    rank_correlation,
    strong_synapses,
)
from models.spiking_sheet.settings import SheetSettings
from models.spiking_sheet.wiring import (
    START_WEIGHT,
    Wiring,
    candidates,
    distances,
    draw_excitatory,
    prune,
    random_wiring,
    rewire,
    sheet_positions,
)

torch.set_num_threads(1)

DEFAULTS = {name: parameter.default for name, parameter in BACKBONES["sheet"].parameters.items()}


def small_settings(**changes):
    return SheetSettings.of(DEFAULTS | {"side": 7, "pixels": 3, "in_degree": 6, "out_degree": 7} | changes)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(held, seed=0):
    """Places, senders and first wiring of a sheet."""
    random = generator(seed)
    positions = sheet_positions(held, random)
    sends = torch.cat([draw_excitatory(held.neurons, random), torch.ones(held.inputs, dtype=torch.bool)])
    return positions, sends, random_wiring(positions, sends, held, random)


def synapses(wiring):
    """{(source, neuron): weight} of a table."""
    rows, slots = wiring.used.nonzero(as_tuple=True)
    sources, weights = wiring.sources[rows, slots].tolist(), wiring.weights[rows, slots].tolist()
    found = dict(zip(zip(sources, rows.tolist(), strict=True), weights, strict=True))
    assert len(found) == len(rows)  # no source twice in a row
    return found


def check(wiring, held, sends):
    """What must always hold."""
    senders = len(sends)
    assert wiring.sources.shape == wiring.weights.shape == (held.neurons, held.in_degree)
    assert wiring.in_degrees().max() <= held.in_degree
    assert wiring.out_degrees(senders).max() <= held.out_degree
    assert wiring.in_degrees().sum() == wiring.out_degrees(senders).sum() == len(synapses(wiring))
    assert not wiring.out_degrees(senders)[~sends].any()
    assert not (wiring.sources == torch.arange(held.neurons)[:, None]).any()
    assert not wiring.weights[~wiring.used].any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9), st.floats(0.0, 0.2), st.floats(0.5, 20.0))
def test_degree_limits_and_bookkeeping_hold_through_rewiring(seed, in_degree, out_degree, cost, reach):
    held = small_settings(in_degree=in_degree, out_degree=out_degree, wiring_cost=cost, growth_range=reach)
    positions, sends, wiring = drawn(held, seed)
    check(wiring, held, sends)
    random = generator(seed)
    for _ in range(4):
        weights = torch.rand(wiring.weights.shape, generator=random, dtype=torch.float64) * wiring.used
        activity = torch.rand(len(sends), generator=random, dtype=torch.float64) * sends
        activity *= torch.rand(len(sends), generator=random) < 0.5
        before = synapses(Wiring(wiring.sources, weights))
        wiring = rewire(Wiring(wiring.sources, weights), positions, activity, held, random)
        check(wiring, held, sends)
        for (source, neuron), weight in synapses(wiring).items():
            if (source, neuron) in before:
                assert weight == before[source, neuron]
            else:
                assert weight == START_WEIGHT
                assert activity[source] > 0


def plainly_pruned(found, positions, held):
    """Prune a dictionary of synapses: first by neuron, then by source, the most valuable ones kept."""
    for end, limit in ((1, held.in_degree), (0, held.out_degree)):
        kept = {}
        for owner in {pair[end] for pair in found}:
            own = [pair for pair in found if pair[end] == owner]
            own.sort(key=lambda p: found[p] - held.wiring_cost * math.dist(positions[p[0]], positions[p[1]]))
            kept |= {pair: found[pair] for pair in own[-limit:]}
        found = kept
    return found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 7), st.sampled_from([0.0, 0.05]))
def test_pruning_keeps_the_most_valuable(seed, in_degree, out_degree, cost):
    positions, _, wiring = drawn(small_settings(in_degree=9, out_degree=12), seed)
    held = small_settings(in_degree=in_degree, out_degree=out_degree, wiring_cost=cost)
    found = synapses(prune(wiring, positions, held))
    assert found == plainly_pruned(synapses(wiring), positions.tolist(), held)


def test_wiring_cost_decides_between_near_and_far():
    positions = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]], dtype=torch.float64)
    wiring = Wiring(torch.tensor([[1, 2], [-1, -1], [-1, -1]]), torch.tensor([[0.3, 0.35], [0, 0], [0, 0]]).double())
    kept = [
        int(prune(wiring, positions, small_settings(in_degree=1, wiring_cost=cost)).sources[0, 0])
        for cost in (0.0, 0.01)
    ]
    assert kept == [2, 1]


def test_growth_follows_activity_and_distance():
    """One new source for neuron 0, drawn 4000 times: P ~ activity exp(-d^2 / 2 reach^2), none that it has."""
    positions = torch.tensor([[0, 0], [1, 0], [0, 2], [3, 0], [2, 2], [0, 1]], dtype=torch.float64)
    activity = torch.tensor([5.0, 1.0, 2.0, 3.0, 0.0, 4.0], dtype=torch.float64)
    wiring = Wiring(torch.tensor([[5, -1]]), torch.tensor([[0.2, 0.0]]))
    random = generator()
    counts = np.zeros(6)
    for _ in range(4000):
        counts[int(candidates(wiring, positions, activity, 2.0, 1, random)[0, 0])] += 1
    expected = activity.numpy() * np.exp(-(positions.norm(dim=1).numpy() ** 2) / 8)
    assert counts[[0, 4, 5]].tolist() == [0, 0, 0]  # itself, a silent one, one that it has
    chosen = [1, 2, 3]
    assert stats.chisquare(counts[chosen], 4000 * expected[chosen] / expected[chosen].sum()).pvalue > 1e-3


def test_growth_runs_out_of_sources():
    positions = torch.tensor([[0, 0], [1, 0], [2, 0]], dtype=torch.float64)
    wiring = Wiring(torch.tensor([[-1], [-1]]), torch.zeros(2, 1))
    found = candidates(wiring, positions, torch.tensor([0.0, 0.0, 1.0]).double(), 2.0, 5, generator())
    assert found.shape == (2, 3)
    assert found.sort(dim=1).values.tolist() == [[-1, -1, 2], [-1, -1, 2]]


def test_places_of_neurons_and_inputs():
    held = small_settings(side=20, pixels=4)
    positions = sheet_positions(held, generator())
    offsets = positions[:400] - positions[:400].round()
    assert 0.2 < offsets.abs().max() <= 0.25
    inputs = positions[400:]
    assert torch.equal(inputs[:16], inputs[16:])  # on and off at one place
    assert inputs[:, 0].min() >= 0
    assert inputs[:, 0].max() <= 0.4 * 19
    assert inputs[:, 1].mean() == pytest.approx(9.5)
    assert inputs[1, 0] > inputs[0, 0]  # along a row of the picture, x grows
    assert inputs[1, 1] == inputs[0, 1]
    assert draw_excitatory(400, generator()).sum() == 320


def test_delays_grow_with_length():
    positions = torch.tensor([[0, 0], [1, 0], [7, 0], [900, 0]], dtype=torch.float64)
    wiring = Wiring(torch.tensor([[1, 2, 3, -1]]), torch.ones(1, 4))
    assert wiring.delays(positions, 1.0).tolist() == [[1, 4, 10, 1]]
    assert wiring.delays(positions, 0.5).tolist() == [[1, 7, 20, 1]]
    assert wiring.lengths(positions).tolist() == [[1, 7, 900, 0]]


# -- layers -----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5))
def test_hops_are_shortest_paths(seed, slots, inputs):
    """Against SciPy's breadth-first search over the strong synapses, from one node in front of all inputs."""
    random = np.random.default_rng(seed)
    neurons = 30
    sources = np.stack([random.choice(neurons + inputs, slots, replace=False) for _ in range(neurons)])
    sources[random.random(sources.shape) < 0.3] = -1
    weights = np.where(sources >= 0, random.random(sources.shape), 0.0)
    wiring = Wiring(torch.tensor(sources), torch.tensor(weights))
    rows, slots = np.nonzero((sources >= 0) & (weights > 0.5 * weights.max(axis=1, keepdims=True)))
    assert torch.equal(strong_synapses(wiring).nonzero(), torch.tensor(np.stack([rows, slots], axis=1)))
    size = neurons + inputs + 1
    graph = sparse.lil_matrix((size, size))
    graph[sources[rows, slots], rows] = 1
    graph[size - 1, neurons : size - 1] = 1
    expected = shortest_path(graph.tocsr(), unweighted=True, indices=size - 1)[:neurons] - 1
    expected[np.isinf(expected)] = neurons + 1
    assert hop_counts(wiring).tolist() == expected.tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_rank_correlation_is_spearmans(values):
    one, other = np.array(values, dtype=float).T
    found = rank_correlation(torch.tensor([*one, 7.0]), torch.tensor([*other, np.nan]))
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-9)


def test_rank_correlation_of_one_pair_is_not_defined():
    assert math.isnan(rank_correlation(torch.tensor([1.0, np.nan]), torch.tensor([1.0, 2.0])))


def test_latency_is_of_the_first_spike():
    spikes = torch.zeros(10, 3, 2, dtype=torch.bool)
    spikes[[2, 5], 0, 0] = True
    spikes[6, 0, 1] = True
    spikes[0, 1, 0] = True
    found = first_spike_latency(spikes, 2.0)
    assert found[:2].tolist() == [8.0, 0.0]
    assert found[2].isnan()


def chain(length, noise=0.0):
    """Input -> 0 -> 1 -> ...; with `noise`, each neuron hears the last one too, with that weight."""
    sources = torch.tensor([[length, -1]] + [[k, length - 1] for k in range(length - 1)])
    weights = torch.tensor([[1.0, 0.0]] + [[1.0, noise]] * (length - 1), dtype=torch.float64)
    sources[-1, 1], weights[-1, 1] = -1, 0.0
    return Wiring(sources, weights)


def test_feed_forwardness_of_a_chain():
    assert hop_counts(chain(6)).tolist() == [1, 2, 3, 4, 5, 6]
    assert feed_forwardness(chain(6), hop_counts(chain(6))) == 1.0
    noisy = chain(6, 0.25)
    assert feed_forwardness(noisy, hop_counts(noisy)) == pytest.approx(6 / (6 + 4 * 0.25))


def test_weight_among_neurons_that_no_input_reaches_is_not_forward():
    wiring = Wiring(torch.tensor([[1], [0], [3]]), torch.ones(3, 1, dtype=torch.float64))
    hops = hop_counts(wiring)
    assert hops.tolist() == [4, 4, 1]
    assert feed_forwardness(wiring, hops) == pytest.approx(1 / 3)


def test_null_keeps_degrees_and_lengths():
    held = small_settings(side=14, pixels=4, in_degree=10, out_degree=12)
    positions, _, wiring = drawn(held)
    null, trades = rewired_null(wiring, positions, 0)
    assert trades > 0.2 * len(synapses(wiring))
    assert torch.equal(null.in_degrees(), wiring.in_degrees())
    assert torch.equal(null.out_degrees(len(positions)), wiring.out_degrees(len(positions)))
    assert torch.equal(null.weights, wiring.weights)
    assert len(synapses(null)) == len(synapses(wiring))
    assert not (null.sources == torch.arange(held.neurons)[:, None]).any()
    lengths = [kept.lengths(positions)[kept.used].numpy() for kept in (wiring, null)]
    histograms = [np.bincount((values / BIN).astype(int)) for values in lengths]
    assert np.array_equal(*histograms)
    assert stats.ks_2samp(*lengths).statistic < 0.05
    moved = (null.sources != wiring.sources)[wiring.used].double().mean()
    assert moved > 0.3
    again, other = (rewired_null(wiring, positions, seed)[0] for seed in (0, 1))
    assert torch.equal(again.sources, null.sources)
    assert not torch.equal(other.sources, null.sources)


def test_null_undoes_planted_layers():
    """Four columns of neurons, each hearing the one before it: all weight runs forward, in no null does it."""
    random = np.random.default_rng(0)
    column = np.arange(80) // 20
    sources = np.stack([random.choice(np.arange(20) + (80 if c == 0 else 20 * (c - 1)), 6, False) for c in column])
    wiring = Wiring(torch.tensor(sources), torch.ones(80, 6, dtype=torch.float64))
    places = np.concatenate([random.uniform(0, 3, (80, 2)), random.uniform(0, 3, (20, 2))])
    assert feed_forwardness(wiring, hop_counts(wiring)) == 1.0
    nulls = [rewired_null(wiring, torch.tensor(places), seed)[0] for seed in range(5)]
    assert max(feed_forwardness(null, hop_counts(null)) for null in nulls) < 0.8


def test_null_of_what_cannot_trade():
    wiring = chain(2)
    null, trades = rewired_null(wiring, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), 0)
    assert trades == 0
    assert torch.equal(null.sources, wiring.sources)


# -- maps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preferred", [0.0, 0.4, 2.9])
def test_orientation_tuning_of_a_cosine(preferred):
    """r = 1 + m cos(2 (angle - preferred)) has selectivity m / 2."""
    _, angle = gratings(12, 3, 16, 2.0)
    responses = 1 + 0.6 * torch.cos(2 * (angle - preferred))[:, None]
    selectivity, preference = orientation_tuning(responses, angle)
    assert float(selectivity) == pytest.approx(0.3)
    assert float(torch.sin(preference - preferred)) == pytest.approx(0.0, abs=1e-9)
    silent, _ = orientation_tuning(torch.zeros(36, 1), angle)
    assert silent.isnan()


def test_gratings_have_their_orientation_and_frequency():
    pictures, angle = gratings(4, 2, 32, 4.0)
    assert pictures.shape == (8, 3, 32, 32)
    assert angle.tolist() == pytest.approx([k * math.pi / 4 for k in range(4) for _ in range(2)])
    for picture, turn in zip(pictures[:, 0].double().numpy(), (0, 0, None, None, 1, 1), strict=False):
        power = np.abs(np.fft.fft2(picture - picture.mean()))[:17, :17]
        if turn is not None:  # the wave runs along x, then along y
            assert np.unravel_index(power.argmax(), power.shape) == ((0, 4) if turn == 0 else (4, 0))


def test_map_smoothness_is_the_correlation_over_pairs():
    random = np.random.default_rng(0)
    positions, responses = random.random((20, 2)), random.random((12, 20))
    apart, unlike = pdist(positions), pdist(responses.T, "correlation")
    found = map_smoothness(torch.tensor(positions), torch.tensor(responses))
    assert found == pytest.approx(np.corrcoef(apart, unlike)[0, 1])
    near = apart <= 0.3
    found = map_smoothness(torch.tensor(positions), torch.tensor(responses), 0.3)
    assert found == pytest.approx(np.corrcoef(apart[near], unlike[near])[0, 1])


def test_planted_map_is_smooth_and_a_shuffled_one_is_not():
    random = generator()
    positions = 10 * torch.rand(150, 2, generator=random, dtype=torch.float64)
    waves = torch.linspace(0, 2, 30, dtype=torch.float64)[:, None] * positions[:, 0] / 3
    responses = torch.cat([waves.cos(), torch.ones(30, 1)], dim=1)
    placed = torch.cat([positions, positions.new_zeros(1, 2)])  # the last unit is constant, and left out
    assert map_smoothness(placed, responses) > 0.5
    order = torch.randperm(150, generator=random)
    assert abs(map_smoothness(positions[order], responses[:, :150])) < 0.1
    assert math.isnan(map_smoothness(positions[:2], responses[:, :2]))


def test_wiring_cost_by_hand():
    positions = torch.tensor([[0, 0], [3, 4], [0, 1]], dtype=torch.float64)
    wiring = Wiring(torch.tensor([[1, 2], [0, -1]]), torch.tensor([[0.5, 0.25], [1.0, 0.0]]).double())
    assert wiring_cost(wiring, positions) == pytest.approx(0.5 * 5 + 0.25 * 1 + 5)
    assert distances(positions, positions)[0, 1] == 5
