"""What a sheet costs: pictures side by side against a plain loop over neurons and time, of the same sheet.

One run prints, with its date, machine and commit:
1. seconds that a sheet of the default size needs to learn;
2. seconds a picture of `simulate`, 64 pictures at once, and of a plain Python loop over steps, neurons and synapses on
   a few of the same pictures, with their ratio; the spikes of the two are compared, one by one;
3. what came out: neurons at each depth, feed-forwardness beside that of rewired nulls, wiring cost, smoothness.

    OMP_NUM_THREADS=1 python benchmarks/sheet.py
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from machine import describe_machine
from rewired_sheet import rewired_null
from sheet_maps import map_smoothness, wiring_cost

from models.backbones import BACKBONES
from models.backbones.sheet import SheetBackbone
from models.spiking_sheet.encoding import draws, input_rates, poisson_spikes
from models.spiking_sheet.layers import feed_forwardness, first_spike_latency, hop_counts, rank_correlation
from models.spiking_sheet.natural import dead_leaves
from models.spiking_sheet.neurons import BATCH, FLOOR, MEMBRANE, exactly, lateral_kernel


def plain_loop(network: SheetBackbone, shown: np.ndarray) -> np.ndarray:
    """Spikes (steps, neurons) for the input spikes (steps, inputs) of one picture, in plain Python."""
    settings, decay = network.settings, math.exp(-network.settings.step / MEMBRANE)
    places = network.positions[: settings.neurons]
    kernel = exactly(lateral_kernel(places, network.excitatory, settings.excitation, settings.inhibition)).tolist()
    delays = network.wiring.delays(network.positions, settings.step).tolist()
    rows = [
        [synapse for synapse in zip(*lists, strict=True) if synapse[0] >= 0]
        for lists in zip(network.sources.tolist(), network.weights.tolist(), delays, strict=True)
    ]
    threshold, potential = network.threshold.tolist(), [0.0] * settings.neurons
    past: list[list[bool]] = []
    for inputs in shown.tolist():
        last = [j for j in range(settings.neurons) if past and past[-1][j]]
        fired = []
        for i, synapses in enumerate(rows):
            drive = sum(kernel[i][j] for j in last)
            for source, weight, delay in synapses:
                if delay <= len(past) and past[-delay][source]:
                    drive += weight
            potential[i] = max(potential[i] * decay + drive, FLOOR)
            fired.append(potential[i] > threshold[i])
            potential[i] = 0.0 if fired[i] else potential[i]
        past.append(fired + inputs)
    return np.array(past)[:, : settings.neurons]


def compare(network: SheetBackbone, pictures: torch.Tensor, looped: int) -> None:
    """Print seconds a picture both ways, and how many spikes differ."""
    network.spikes(pictures[:2])
    start = time.perf_counter()
    spikes = network.spikes(pictures)
    ours = (time.perf_counter() - start) / len(pictures)
    settings = network.settings
    uniform = draws(settings.shown, settings.inputs, network.stream(2))
    shown = poisson_spikes(input_rates(pictures[:looped], settings.pixels), uniform, settings.step).numpy()
    start = time.perf_counter()
    plain = [plain_loop(network, shown[:, :, index]) for index in range(looped)]
    theirs = (time.perf_counter() - start) / looped
    differ = sum(int((found != spikes[:, :, index].numpy()).sum()) for index, found in enumerate(plain))
    print(f"{len(pictures)} pictures at once: {1000 * ours:.1f} ms a picture")
    print(f"plain loop, {looped} of them: {theirs:.2f} s a picture, {theirs / ours:.0f} x as long")
    print(f"  {differ} of {sum(int(found.sum()) for found in plain)} spikes differ")


def describe(network: SheetBackbone, pictures: torch.Tensor, nulls: int) -> None:
    """Print what became of the sheet."""
    spikes = torch.cat([network.spikes(part) for part in pictures.split(BATCH)], dim=2)
    latency = first_spike_latency(spikes, network.settings.step)
    counts = spikes.sum(dim=0).T.float()
    drawn = [rewired_null(network.wiring, network.positions, seed)[0] for seed in range(nulls)]
    expected = [feed_forwardness(null, hop_counts(null)) for null in drawn]
    blocks = [network.members(number) for number in range(network.layers)]
    smooth = [map_smoothness(network.positions[block], counts[:, block], 4.0) for block in blocks]
    print(f"  neurons by depth {[len(block) for block in blocks]}, {counts.mean():.2f} spikes a picture")
    print(f"  rank correlation of hops and latency {rank_correlation(network.hops.double(), latency):.2f}")
    found = feed_forwardness(network.wiring, network.hops)
    print(f"  feed-forwardness {found:.3f}; {nulls} nulls {min(expected):.3f} to {max(expected):.3f}")
    print(f"  wiring cost {wiring_cost(network.wiring, network.positions):.0f} weight x cells")
    print(f"  smoothness within 4 cells by depth {', '.join(f'{value:.2f}' for value in smooth)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"side": 30, "pictures": 200, "looped": 2, "nulls": 10, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    print(f"{describe_machine()}, {torch.get_num_threads()} threads")
    defaults = {name: parameter.default for name, parameter in BACKBONES["sheet"].parameters.items()}
    pictures = dead_leaves(2 * BATCH, 64, 12345)
    for change in ({}, {"rule": "fixed"}, {"wiring_cost": 0.0}):
        network = SheetBackbone(defaults | {"side": options.side, "pictures": options.pictures} | change, options.seed)
        start = time.perf_counter()
        network.learn()
        print(f"sheet of {network.settings.neurons} neurons, {change or 'defaults'}")
        print(f"  learned from {options.pictures} pictures in {time.perf_counter() - start:.1f} s")
        describe(network, pictures, options.nulls)
        if not change:
            compare(network, pictures[:BATCH], options.looped)


if __name__ == "__main__":
    main()
