"""The spiking sheet: neurons, plasticity, encoding, and learning."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from models.backbones import BACKBONES
from models.spiking_sheet.encoding import HIGHEST_RATE, draws, input_rates, poisson_spikes
from models.spiking_sheet.learning import Learner, young_sheet
from models.spiking_sheet.natural import dead_leaves
from models.spiking_sheet.neurons import FLOOR, exactly, lateral_kernel, membrane_step, simulate
from models.spiking_sheet.plasticity import POTENTIATION, Traces, normalise, stdp_step, threshold_step
from models.spiking_sheet.settings import SheetSettings
from models.spiking_sheet.wiring import Wiring

torch.set_num_threads(1)

DEFAULTS = {name: parameter.default for name, parameter in BACKBONES["sheet"].parameters.items()}
SMALL = {"side": 8, "pixels": 4, "in_degree": 8, "out_degree": 12, "layers": 2}
SMALL |= {"growth_range": 1.5, "pictures": 20, "presentation": 60.0, "gap": 20.0, "step": 2.0}


def small_settings(**changes):
    return SheetSettings.of(DEFAULTS | SMALL | changes)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# -- neurons ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.floats(0.06, 2.0), st.floats(0.2, 3.0), st.sampled_from([0.5, 1.0, 2.0]))
def test_interval_under_constant_drive_is_the_closed_form(drive, threshold, step):
    """v_n = I (1 - a^n) / (1 - a) crosses at n = ln(1 - theta (1 - a) / I) / ln(a); below I / (1 - a) never."""
    decay = math.exp(-step / 20.0)
    potential, level = torch.zeros(1, dtype=torch.float64), torch.tensor([threshold], dtype=torch.float64)
    times = []
    for time in range(1, 400):
        potential, spikes = membrane_step(potential, torch.full_like(potential, drive), level, step)
        times += [time] if spikes else []
    room = 1 - threshold * (1 - decay) / drive
    if room <= 0:
        assert not times
        return
    exact = math.log(room) / math.log(decay)
    interval = max(math.floor(exact + 1e-9) + 1, 1)
    if abs(exact - round(exact)) > 1e-6:  # else rounding decides on which side of the threshold the crossing is
        assert times == list(range(interval, 400, interval))


def test_interval_tends_to_the_formula_of_continuous_time():
    """T = tau ln(u / (u - theta)) for a drive that holds the membrane at u, as steps become small."""
    steady, step = 1.5, 0.02
    drive = torch.tensor([steady * (1 - math.exp(-step / 20.0))], dtype=torch.float64)
    potential, spikes, count = torch.zeros(1, dtype=torch.float64), torch.zeros(1), 0
    while not spikes and count < 5000:
        potential, spikes = membrane_step(potential, drive, torch.ones(1, dtype=torch.float64), step)
        count += 1
    assert count * step == pytest.approx(20 * math.log(1.5 / 0.5), abs=2 * step)


def test_inhibition_stops_at_the_floor():
    potential, spikes = membrane_step(torch.zeros(2), torch.tensor([-50.0, -0.5]), torch.ones(2), 1.0)
    assert potential.tolist() == [FLOOR, -0.5]
    assert not spikes.any()


def test_lateral_kernel_by_hand():
    positions = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)
    found = lateral_kernel(positions, torch.tensor([True, False, True]), 1.5, 4.0)
    assert found[1, 0] == pytest.approx(0.1 * math.exp(-25 / 4.5))
    assert found[0, 1] == pytest.approx(-0.2 * math.exp(-25 / 32))
    assert found[0, 2] == pytest.approx(0.1 * math.exp(-1 / 4.5))
    assert found.diagonal().tolist() == [0, 0, 0]


def plain_spikes(sheet, held, spikes):
    """The sheet at rest, neuron by neuron and step by step, with nothing of torch in the loop."""
    kernel = lateral_kernel(sheet.positions[: held.neurons], sheet.excitatory, held.excitation, held.inhibition)
    kernel, weights = exactly(kernel).double().numpy(), exactly(sheet.wiring.weights).double().numpy()
    sources, delays = sheet.wiring.sources.numpy(), sheet.wiring.delays(sheet.positions, held.step).numpy()
    threshold, potential = sheet.threshold.float().double().numpy(), np.zeros(held.neurons)
    past, own = [], np.zeros(held.neurons)
    for shown in spikes.numpy():
        fired = np.zeros(held.neurons)
        for i in range(held.neurons):
            drive = sum(kernel[i, j] for j in range(held.neurons) if own[j])
            for source, weight, delay in zip(sources[i], weights[i], delays[i], strict=True):
                if source >= 0 and delay <= len(past):
                    drive += weight * past[-delay][source]
            potential[i] = max(potential[i] * math.exp(-held.step / 20.0) + drive, -1.0)
            if potential[i] > threshold[i]:
                fired[i], potential[i] = 1, 0.0
        own = fired
        past.append(np.concatenate([fired, shown]))
    return np.stack(past)[:, : held.neurons]


def input_spikes(held, stimuli, seed=3):
    rates = 60.0 * torch.rand(stimuli, held.inputs, generator=generator(seed), dtype=torch.float64)
    return poisson_spikes(rates, draws(held.shown, held.inputs, generator(seed)), held.step)


def run(sheet, held, spikes):
    lateral = lateral_kernel(sheet.positions[: held.neurons], sheet.excitatory, held.excitation, held.inhibition)
    delays = sheet.wiring.delays(sheet.positions, held.step)
    return simulate(sheet.wiring, sheet.threshold, lateral, delays, spikes, held.step)


def test_simulation_equals_a_plain_loop():
    held = small_settings(presentation=80.0)
    sheet = young_sheet(held, generator())
    sheet.threshold *= 0.4
    spikes = input_spikes(held, 3)
    found = run(sheet, held, spikes).double().numpy()
    assert found.sum() > 50
    for stimulus in range(3):
        assert np.array_equal(found[:, :, stimulus], plain_spikes(sheet, held, spikes[:, :, stimulus]))


def test_learner_without_plasticity_equals_the_simulation():
    """Two programs, one for one picture that learns and one for many that do not, give the same spikes."""
    held = small_settings(homeostasis=0.0, rule="fixed", presentation=200.0)
    sheet = young_sheet(held, generator())
    sheet.wiring = Wiring(sheet.wiring.sources, exactly(sheet.wiring.weights).double())
    spikes = input_spikes(held, 1)
    learner = Learner(sheet, held, generator())
    learner.sent = exactly(learner.sent).double()
    shown = learner.show(spikes[:, :, 0])
    assert torch.equal(shown > 0, run(sheet, held, spikes)[:, :, 0])


# -- plasticity -------------------------------------------------------------------------------------


def pairs(arrivals, spikes, asymmetry, step):
    """Sum over all pairs of the window of STDP, for one synapse."""
    total = 0.0
    for arrival in np.flatnonzero(arrivals):
        for spike in np.flatnonzero(spikes):
            lag = (spike - arrival) * step
            total += math.exp(-lag / 20) if lag >= 0 else -asymmetry * math.exp(lag / 20)
    return POTENTIATION * total


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 2.0), st.sampled_from([1.0, 2.5]))
def test_stdp_is_the_sum_over_pairs(seed, asymmetry, step):
    random = np.random.default_rng(seed)
    arrivals, spikes = random.random((40, 3, 2)) < 0.1, random.random((40, 3)) < 0.1
    weights = torch.full((3, 2), 0.5, dtype=torch.float64)
    traces = Traces.empty(Wiring(torch.zeros(3, 2), weights))
    for arrived, fired in zip(torch.tensor(arrivals).double(), torch.tensor(spikes), strict=True):
        stdp_step(weights, traces, arrived.flatten().nonzero()[:, 0], fired, asymmetry, step)
    expected = [[pairs(arrivals[:, i, k], spikes[:, i], asymmetry, step) for k in range(2)] for i in range(3)]
    np.testing.assert_allclose(weights.numpy() - 0.5, expected, atol=1e-12)


@pytest.mark.parametrize("lag", [-30, -1, 0, 1, 30])
def test_one_pair(lag):
    weights = torch.full((1, 1), 0.5, dtype=torch.float64)
    traces = Traces.empty(Wiring(torch.zeros(1, 1), weights))
    for time in range(80):
        arrived = torch.zeros(int(time == 40), dtype=torch.long)
        stdp_step(weights, traces, arrived, torch.tensor([time == 40 + lag]), 1.2, 1.0)
    change = 0.01 * math.exp(-lag / 20) if lag >= 0 else -0.012 * math.exp(lag / 20)
    assert float(weights) - 0.5 == pytest.approx(change)


def test_weights_stay_within_their_bounds():
    weights = torch.rand(20, 5, generator=generator(), dtype=torch.float64)
    traces = Traces.empty(Wiring(torch.zeros(20, 5), weights))
    random = generator(1)
    seen = []
    for _ in range(400):
        arrived = (torch.rand(100, generator=random) < 0.3).nonzero()[:, 0]
        stdp_step(weights, traces, arrived, torch.rand(20, generator=random) < 0.3, 1.2, 1.0)
        seen += [float(weights.min()), float(weights.max())]
    assert min(seen) == 0.0
    assert max(seen) <= 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
def test_normalised_rows_keep_their_sum(seed, slots, in_degree):
    random = np.random.default_rng(seed)
    sources = np.where(random.random((6, slots)) < 0.8, random.integers(0, 50, (6, slots)), -1)
    weights = np.where(sources >= 0, random.random((6, slots)) ** 3, 0.0)
    weights[0] = 0.0  # a row without weight
    found = normalise(Wiring(torch.tensor(sources), torch.tensor(weights)), in_degree).weights.numpy()
    held = (sources >= 0).sum(axis=1)
    np.testing.assert_allclose(found.sum(axis=1), np.minimum(0.2 * in_degree, held), atol=1e-9)
    assert (found[sources < 0] == 0).all()
    assert found.max() <= 1 + 1e-12


def test_normalisation_is_one_factor_below_the_bound():
    weights = np.array([0.9, 0.3, 0.02, 0.01, 0.0])
    factor = optimize.brentq(lambda c: np.minimum(c * weights, 1).sum() - 2.4, 0.1, 1e3)
    found = normalise(Wiring(torch.arange(5)[None], torch.tensor(weights)[None]), 12).weights[0]
    np.testing.assert_allclose(found, np.minimum(factor * weights, 1), atol=1e-9)


def test_thresholds_bring_a_neuron_to_its_rate():
    threshold, potential = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    fired = []
    for _ in range(6_000):
        potential, spikes = membrane_step(potential, torch.full_like(potential, 0.3), threshold, 1.0)
        threshold_step(threshold, spikes, 0.2, 20.0, 1.0)
        fired.append(bool(spikes))
    assert np.mean(fired[3_000:]) * 1000 == pytest.approx(20.0, rel=0.05)


def test_sums_of_weights_are_constant_while_learning():
    held = small_settings()
    sheet = young_sheet(held, generator())
    before = sheet.wiring.weights.clone()
    learner = Learner(sheet, held, generator(1))
    rates = 60.0 * torch.rand(14, held.inputs, generator=generator(2), dtype=torch.float64)
    for row in rates:
        learner.learn(row[None])
        expected = torch.minimum(sheet.wiring.in_degrees().double(), torch.tensor(0.2 * held.in_degree))
        torch.testing.assert_close(sheet.wiring.weights.sum(dim=1), expected)
        assert sheet.wiring.in_degrees().max() <= held.in_degree
        assert sheet.wiring.out_degrees(len(sheet.positions)).max() <= held.out_degree
        assert not sheet.wiring.out_degrees(len(sheet.positions))[~sheet.sends].any()
    assert (sheet.wiring.weights - before).abs().max() > 0.05


# -- encoding and pictures --------------------------------------------------------------------------


def test_uniform_pictures_are_silent_and_inverted_ones_swap_on_and_off():
    flat = torch.tensor([0.0, 0.3, 1.0])[:, None, None, None].expand(-1, 3, 40, 40)
    assert input_rates(flat, 8).abs().max() < 1e-9
    pictures = dead_leaves(3, 40, 0)
    rates, swapped = input_rates(pictures, 8), input_rates(1 - pictures, 8)
    torch.testing.assert_close(rates[:, :64], swapped[:, 64:], atol=1e-4, rtol=0)
    assert not (rates[:, :64] * rates[:, 64:]).any()
    assert rates.max() <= HIGHEST_RATE
    assert 2 < rates.mean() < 20


def test_a_bright_spot_drives_its_own_on_centre():
    picture = torch.full((1, 3, 32, 32), 0.2)
    picture[:, :, 8:12, 20:24] = 1.0
    assert int(input_rates(picture, 8)[0].argmax()) == 2 * 8 + 5


@pytest.mark.parametrize("step", [0.5, 1.0, 4.0])
def test_input_spikes_have_the_asked_rates(step):
    rates = torch.tensor([[0.0, 5.0, 30.0, 60.0]], dtype=torch.float64)
    spikes = poisson_spikes(rates, draws(20_000, 4, generator()), step)
    counts = spikes.sum(dim=0)[:, 0]
    for count, rate in zip(counts.tolist(), rates[0].tolist(), strict=True):
        assert stats.binomtest(count, 20_000, rate * step / 1000).pvalue > 1e-3 if rate else count == 0


def test_dead_leaves_have_the_spectrum_of_scenes():
    """Power falls with about the square of the frequency; picture i depends on (seed, i) alone."""
    pictures = dead_leaves(30, 64, 0)
    assert pictures.shape == (30, 3, 64, 64)
    assert pictures.dtype == torch.float32
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert torch.equal(dead_leaves(3, 64, 0), pictures[:3])
    assert not torch.equal(dead_leaves(1, 64, 1), pictures[:1])
    grey = pictures.mean(dim=1).numpy()
    window = np.hanning(64)[:, None] * np.hanning(64)
    power = (np.abs(np.fft.fft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)) ** 2).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64) * 64, np.fft.fftfreq(64) * 64))
    means = [power[(frequency >= f) & (frequency < f + 1)].mean() for f in range(3, 20)]
    slope = np.polyfit(np.log(np.arange(3, 20) + 0.5), np.log(means), 1)[0]
    assert -3.2 < slope < -1.6


# -- learning ---------------------------------------------------------------------------------------


class PlainSheet:
    """A sheet that learns, synapse by synapse in plain Python: the equations once more, in another order."""

    def __init__(self, sheet, held):
        self.held, self.threshold = held, sheet.threshold.tolist()
        kernel = lateral_kernel(sheet.positions[: held.neurons], sheet.excitatory, held.excitation, held.inhibition)
        self.kernel, self.potential = kernel.tolist(), [0.0] * held.neurons
        self.fired, self.past = [0.0] * held.neurons, []
        tables = (sheet.wiring.sources, sheet.wiring.weights, sheet.wiring.delays(sheet.positions, held.step))
        rows = zip(*(table.tolist() for table in tables), strict=True)
        self.rows = [
            [{"from": j, "weight": w, "delay": d, "trace": 0.0} for j, w, d in zip(*row, strict=True) if j >= 0]
            for row in rows
        ]

    def step(self, shown):
        before = self.past[-1] if self.past else [0.0] * self.held.neurons
        spikes = [self.neuron(i, before) for i in range(self.held.neurons)]
        self.past.append(spikes + shown)

    def neuron(self, i, before):
        held, fade = self.held, math.exp(-self.held.step / 20)
        drive = sum(weight for weight, spike in zip(self.kernel[i], before, strict=False) if spike)
        self.fired[i] *= fade
        for synapse in self.rows[i]:
            delay = synapse["delay"]
            arrival = self.past[-delay][synapse["from"]] if delay <= len(self.past) else 0.0
            drive += synapse["weight"] * arrival
            synapse["trace"] = synapse["trace"] * fade + arrival
            synapse["weight"] = max(synapse["weight"] - 0.01 * held.asymmetry * self.fired[i] * arrival, 0.0)
        self.potential[i] = max(self.potential[i] * fade + drive, -1.0)
        spike = float(self.potential[i] > self.threshold[i])
        if spike:
            self.potential[i] = 0.0
        for synapse in self.rows[i]:
            synapse["weight"] = min(synapse["weight"] + 0.01 * synapse["trace"] * spike, 1.0)
        self.fired[i] += spike
        self.threshold[i] = max(self.threshold[i] + held.homeostasis * (spike - held.rate * held.step / 1000), 0.1)
        return spike


def test_learning_equals_a_plain_loop():
    held = small_settings(side=5, pixels=2, growth_range=3.0)
    sheet = young_sheet(held, generator())
    sheet.threshold *= 0.4
    plain, learner = PlainSheet(sheet, held), Learner(sheet, held, generator())
    uniform = draws(120, held.inputs, generator(5))
    spikes = poisson_spikes(torch.full((1, held.inputs), 50.0).double(), uniform, held.step)[:, :, 0]
    found = torch.cat([learner.show(spikes[:50]), learner.show(spikes[50:])])
    for shown in spikes.double().tolist():
        plain.step(shown)
    assert found.sum() > 50
    assert found.tolist() == [row[: held.neurons] for row in plain.past]
    assert sheet.threshold.tolist() == pytest.approx(plain.threshold)
    for row, used, synapses in zip(sheet.wiring.weights, sheet.wiring.used, plain.rows, strict=True):
        assert row[used].tolist() == pytest.approx([synapse["weight"] for synapse in synapses])


def synchronous_groups(held, group, seed):
    """Input spikes (steps, inputs): each of two groups fires together, at 20 Hz, and misses one spike in five."""
    random = generator(seed)
    together = torch.rand(held.shown, 2, generator=random) < 0.02 * held.step
    kept = torch.rand(held.shown, held.inputs, generator=random) < 0.8
    return together[:, group] & kept


def segregation(wiring, group, neurons):
    """Mean over neurons of abs(one - other) / (one + other), the weight that they receive from each group of inputs."""
    side = torch.cat([torch.zeros(neurons), 2.0 * group - 1.0])
    signed = side[wiring.sources.clamp(min=0)] * wiring.weights
    total = signed.abs().sum(dim=1)
    return float((signed.sum(dim=1).abs() / total)[total > 0.5].mean())


def test_groups_of_inputs_that_fire_together_segregate():
    """Planted: each neuron comes to hear one of two groups; of two halves that are no groups it hears both."""
    held = small_settings(growth_range=20.0, in_degree=12, wiring_cost=0.0)
    group = torch.arange(held.inputs) % 2
    sheet = young_sheet(held, generator())
    other = torch.arange(held.inputs) // 2 % 2
    before = [segregation(sheet.wiring, half, held.neurons) for half in (group, other)]
    learner = Learner(sheet, held, generator(1))
    for picture in range(120):
        learner.show(synchronous_groups(held, group, picture))
        sheet.wiring = normalise(sheet.wiring, held.in_degree)
    after = [segregation(sheet.wiring, half, held.neurons) for half in (group, other)]
    assert after[0] > before[0] + 0.2
    assert abs(after[1] - before[1]) < 0.1
