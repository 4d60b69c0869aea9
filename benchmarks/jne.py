"""What streaming JNE costs: peak memory and time of a whole residual MLP, and its ratio to per-unit autograd.

One run prints, with its date, machine and commit:
1. time and peak memory of ``jne_streaming`` by closed-form factors, in a fresh process;
2. time of one reverse-mode backward per unit, measured on a few units and multiplied by the number of units:
   through the whole network, as a loop over its outputs does it, and the kinder way, from the hidden layer by the
   unit's own column of the last weight;
3. how far the two agree on those units.

    python benchmarks/jne.py --units 2000
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from machine import describe_machine

from metrics import ResidualJacobian, jne, jne_streaming


def network(sizes: argparse.Namespace) -> tuple[list[Any], Any]:
    """Weights (torch's default initialisation, no bias) and inputs of a ReLU residual MLP, from a fixed seed."""
    import torch

    torch.set_num_threads(sizes.threads)
    generator = torch.Generator().manual_seed(0)
    widths = [sizes.features, *[sizes.hidden] * (1 + sizes.blocks), sizes.units]
    dtype = getattr(torch, sizes.dtype)

    def weight(rows: int, columns: int) -> Any:
        return (2 * torch.rand(rows, columns, generator=generator, dtype=dtype) - 1) / rows**0.5

    weights = [weight(rows, columns) for rows, columns in pairwise(widths)]
    return weights, torch.randn(sizes.samples, sizes.features, generator=generator, dtype=dtype)


def hidden_layers(weights: list[Any], x: Any) -> tuple[list[Any], Any]:
    """The drive of every ReLU, and the last hidden layer."""
    drives = [x @ weights[0]]
    hidden = drives[0].relu()
    for weight in weights[1:-1]:
        drives.append(hidden @ weight)
        hidden = hidden + drives[-1].relu()
    return drives, hidden


def clocks() -> np.ndarray:
    """Seconds on the wall and of processor time of all threads; the second hardly minds a busy machine."""
    return np.array([time.perf_counter(), time.process_time()])


def stream(sizes: argparse.Namespace) -> tuple[np.ndarray, float, np.ndarray]:
    """Seconds (wall, processor), peak memory in GB and JNE of the whole network, in the calling process."""
    weights, inputs = network(sizes)
    model = ResidualJacobian(weights, lambda x: [(drive > 0).to(x.dtype) for drive in hidden_layers(weights, x)[0]])
    start = clocks()
    result = jne_streaming(model, inputs)
    seconds = clocks() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, result.jne.numpy()


def per_unit(sizes: argparse.Namespace, units: list[int], column: bool) -> tuple[np.ndarray, np.ndarray]:
    """Seconds (wall, processor) a unit of one backward per unit for all samples, without the forward; their JNE."""
    import torch

    weights, inputs = network(sizes)
    inputs.requires_grad_()
    hidden = hidden_layers(weights, inputs)[1]
    outputs = hidden if column else hidden @ weights[-1]

    def gradient(unit: int) -> Any:
        total = (hidden @ weights[-1][:, unit]).sum() if column else outputs[:, unit].sum()
        return torch.autograd.grad(total, inputs, retain_graph=True)[0]

    gradient(units[0])  # the first backward warms up
    start = clocks()
    gradients = [gradient(unit) for unit in units]
    seconds = (clocks() - start) / len(units)
    return seconds, np.array([jne(values[:, :, None]).item() for values in gradients])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"samples": 1000, "features": 768, "hidden": 1024, "blocks": 2, "units": 20_000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--autograd-units", type=int, default=20, help="units on which autograd is measured")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    return parser.parse_args()


def main() -> None:
    sizes = arguments()
    print(f"{describe_machine()}, {sizes.threads} threads, {sizes.dtype}")
    hidden = "-".join(map(str, [sizes.hidden] * (1 + sizes.blocks)))
    print(f"residual MLP {sizes.features}-{hidden}-{sizes.units}, ReLU, {sizes.samples} samples")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        seconds, peak, scores = fresh.submit(stream, sizes).result()
    whole = sizes.samples * sizes.features * sizes.units
    flops = 2 * whole * sizes.hidden
    print(f"jne_streaming, factors: {seconds[0]:.1f} s, {seconds[1]:.1f} s of processor; peak memory {peak:.2f} GB")
    print(f"  all Jacobians at once would be {whole * np.dtype(sizes.dtype).itemsize / 1e9:.1f} GB")
    print(f"  {flops:.1e} flop in the products with the last weight, {flops / seconds[0] / 1e9:.0f} Gflop/s over all")
    units = np.linspace(0, sizes.units - 1, min(sizes.autograd_units, sizes.units)).astype(int).tolist()
    for way, column in [("through all outputs", False), ("from the hidden layer by the unit's column", True)]:
        each, found = per_unit(sizes, units, column)
        total, off = each * sizes.units, np.abs(found / scores[units] - 1).max()
        print(f"autograd, one backward per unit, {way}: {each[0]:.3f} s, {each[1]:.3f} s of processor a unit")
        print(f"  measured on {len(units)} units; by count for {sizes.units}: {total[0]:.0f} s, {total[1]:.0f} s")
        wall, processor = total / seconds
        print(f"  {wall:.1f} x jne_streaming on the wall, {processor:.1f} x in processor time")
        print(f"  largest relative difference of JNE on those units: {off:.1e}")


if __name__ == "__main__":
    main()
