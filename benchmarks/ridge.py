"""The ridge engine against himalaya and scikit-learn: fit with an alpha for every target, predict new stimuli.

    OMP_NUM_THREADS=2 python benchmarks/ridge.py [--sizes 1000x400x1500 2000x1000x5000 119x4096x6000] [--runs 3]

Features have variances that fall as 1/k, targets are a linear function of them plus noise of their own level. Every
side starts from the same float32 arrays, tries the same alphas (ALPHAS times the mean diagonal of the kernel), takes
the one with the smallest squared left-out error for each target, fits the intercept, and predicts n/5 new stimuli.

leave one out: ours is a decomposition and fit_ridge with every stimulus its own group; scikit-learn is
    RidgeCV(alpha_per_target=True), which computes in float64 whatever it is given, in both of its modes.
k folds: ours is the same call with the folds as groups (5 folds, 7 of 17 stimuli where n = 119); himalaya is RidgeCV,
    or KernelRidgeCV where there are fewer stimuli than features, on the same folds, in NumPy and torch, float32 and
    float64, with all alphas in one batch (its default) and one at a time.

Ours returns float64. Printed for each setting: the fastest of the runs, which alternate between the sides, with
processor seconds, both as multiples of ours; the share of targets with our alpha; and the largest difference from our
predictions over those targets, in units of their standard deviation. Every side runs in this one process.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from himalaya.backend import set_backend
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import RidgeCV as HimalayaRidgeCV
from machine import describe_machine
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from models.linear.ridge import ALPHAS, decompose_features, decompose_kernel, fit_ridge

Fit = tuple[np.ndarray, np.ndarray]
"""Chosen alpha of every target (absolute), and predictions (new stimuli, targets)."""

Sides = dict[str, Callable[[], Fit]]


@dataclass(frozen=True)
class Problem:
    """Features and responses in float32, features of new stimuli, absolute alphas, and a fold for each stimulus."""

    features: np.ndarray
    responses: np.ndarray
    new: np.ndarray
    alphas: np.ndarray
    folds: np.ndarray


def simulate(stimuli: int, features: int, targets: int) -> Problem:
    """A problem of some size with a fixed seed; targets range from hardly to well predictable."""
    random = np.random.default_rng(0)
    spread = np.arange(1, features + 1) ** -0.5
    drawn = random.standard_normal((stimuli + stimuli // 5, features)) * spread
    clean = drawn @ random.standard_normal((features, targets))
    level = np.exp(random.uniform(-1, 2, targets))
    responses = clean[:stimuli] + level * clean.std(axis=0) * random.standard_normal((stimuli, targets))
    drawn, responses = drawn.astype(np.float32), responses.astype(np.float32)
    centred = drawn[:stimuli] - drawn[:stimuli].mean(axis=0, dtype=np.float64)
    alphas = np.array(ALPHAS) * (centred**2).sum() / stimuli
    count = next(folds for folds in (5, 7, stimuli) if stimuli % folds == 0)
    return Problem(drawn[:stimuli], responses, drawn[stimuli:], alphas, np.arange(stimuli) // (stimuli // count))


def ours(problem: Problem, groups: np.ndarray) -> Fit:
    """The engine: a decomposition, the fit in dual form, and predictions from the kernel to new stimuli."""
    features = torch.from_numpy(problem.features)
    kernel = (features @ features.T).double()
    stimuli, columns = features.shape
    primal = stimuli > columns + 1
    parts = decompose_features(features) if primal else decompose_kernel(features.double() @ features.double().T)
    fitted = fit_ridge(parts, kernel, torch.from_numpy(problem.responses), groups, left_out=False)
    shown = torch.from_numpy(problem.new) @ features.T
    return fitted.alpha.numpy() * parts.scale, fitted.predict(shown).numpy()


def scikit_learn(problem: Problem, mode: str) -> Fit:
    """Leave-one-out in closed form."""
    fitted = RidgeCV(problem.alphas, gcv_mode=mode, alpha_per_target=True).fit(problem.features, problem.responses)
    return fitted.alpha_, fitted.predict(problem.new)


def himalaya(problem: Problem, backend: str, dtype: str, batch: int | None) -> Fit:
    """Cross-validation over the folds; the default score is the negative squared error."""
    arrays = set_backend(backend)
    x, y, new = (arrays.asarray(array.astype(dtype)) for array in (problem.features, problem.responses, problem.new))
    kind = HimalayaRidgeCV if x.shape[0] > x.shape[1] else KernelRidgeCV
    folds = KFold(int(problem.folds.max()) + 1)
    alphas = problem.alphas.astype(dtype)
    fitted = kind(alphas, fit_intercept=True, cv=folds, solver_params={"n_alphas_batch": batch}).fit(x, y)
    return arrays.to_numpy(fitted.best_alphas_), arrays.to_numpy(fitted.predict(new))


def leave_one_out(problem: Problem) -> Sides:
    """Ours and scikit-learn, each stimulus left out alone."""
    sides: Sides = {"ours": lambda: ours(problem, np.arange(len(problem.features)))}
    for mode in ("eigen", "svd"):
        sides[f"scikit-learn, {mode}, float64"] = partial(scikit_learn, problem, mode)
    return sides


def in_folds(problem: Problem) -> Sides:
    """Ours and himalaya, the same folds left out."""
    sides: Sides = {"ours": lambda: ours(problem, problem.folds)}
    for dtype in ("float32", "float64"):
        for backend in ("numpy", "torch"):
            for batch, words in ((None, "all alphas"), (1, "one alpha")):
                sides[f"himalaya, {backend}, {words} at once, {dtype}"] = partial(
                    himalaya, problem, backend, dtype, batch
                )
    return sides


def race(sides: Sides, runs: int) -> dict[str, tuple[float, float, Fit]]:
    """Fastest run of every side, in seconds and processor seconds, and what it found; the sides take turns."""
    best: dict[str, tuple[float, float, Fit]] = {}
    for _ in range(runs):
        for name, call in sides.items():
            wall, processor = time.perf_counter(), time.process_time()
            found = call()
            spent = time.perf_counter() - wall, time.process_time() - processor
            before = best.get(name, (np.inf, np.inf, found))
            best[name] = min(spent[0], before[0]), min(spent[1], before[1]), found
    return best


def compare(title: str, sides: Sides, runs: int) -> None:
    """Print one table: ours first, the others as multiples of it."""
    found = race(sides, runs)
    wall, processor, (alphas, predicted) = found["ours"]
    print(f"  {title}\n    {'ours, float64':44}{wall:8.3f} s {processor:8.3f} s of processor", flush=True)
    for name, (other, spent, (chosen, shown)) in found.items():
        if name == "ours":
            continue
        same = np.isclose(chosen, alphas, rtol=1e-4)
        apart = (np.abs(shown - predicted) / predicted.std(axis=0))[:, same].max()
        ratios = f"{other:8.3f} s = {other / wall:5.1f} x {spent:8.3f} s = {spent / processor:5.1f} x"
        print(f"    {name:44}{ratios}   alphas {same.mean():7.2%}  apart {apart:.0e}", flush=True)
    for dtype in ("float32", "float64"):
        peers = [each for name, each in found.items() if name.endswith(dtype) and name != "ours"]
        if peers:
            fastest, least = min(each[0] for each in peers), min(each[1] for each in peers)
            print(f"    fastest other in {dtype}: {fastest / wall:.1f} x, in processor time {least / processor:.1f} x")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["1000x400x1500", "2000x1000x5000", "119x4096x6000"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--against", nargs="+", default=["scikit-learn", "himalaya"])
    return parser.parse_args()


def main() -> None:
    options = arguments()
    warnings.filterwarnings("ignore", module="himalaya")
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    print(f"{describe_machine()}, OMP_NUM_THREADS={threads}, {len(ALPHAS)} alphas, best of {options.runs} runs")
    for size in options.sizes:
        print(f"{size} (stimuli x features x targets)")
        problem = simulate(*(int(each) for each in size.split("x")))
        if "scikit-learn" in options.against:
            compare("leave one out", leave_one_out(problem), options.runs)
        if "himalaya" in options.against:
            compare(f"{int(problem.folds.max()) + 1} folds", in_folds(problem), options.runs)


if __name__ == "__main__":
    main()
