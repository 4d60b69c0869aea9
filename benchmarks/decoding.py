"""What object decoding costs: the closed-form decoder of every sweep against scikit-learn, and the two batteries.

One run prints, with its date, machine and commit, for 20 objects x 15 rotations and each number of units:
1. ``object_decoding`` against the same work in scikit-learn, StandardScaler and RidgeClassifier on the same folds,
   with both accuracies;
2. ``object_decoding`` against more work, StandardScaler, PCA and LinearSVC on the same folds;
3. ``rotation_decoding`` and ``object_discriminability``, all repetitions, and the former against one repetition of
   the same fits in scikit-learn, multiplied by the repetitions.

    python benchmarks/decoding.py --units 50 500 --repetitions 50
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from machine import describe_machine
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from metrics import object_decoding, object_discriminability, rotation_decoding
from metrics.invariance.decoding import transform_folds

OBJECTS, ROTATIONS, FOLDS, COMPONENTS, HELD_OUT, RUNS = 20, 15, 5, 100, 3, 5
Views = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulate(units: int) -> Views:
    """Responses, objects and angles: a part that names the object, one that turns with it, and noise; fixed seed."""
    rng = np.random.default_rng(0)
    objects = np.repeat(np.arange(OBJECTS), ROTATIONS)
    angles = np.tile(np.arange(ROTATIONS) * 360 / ROTATIONS, OBJECTS)
    fixed, cosine, sine = rng.normal(size=(3, OBJECTS, units))
    turn = np.deg2rad(angles)[:, None]
    turning = np.cos(turn) * cosine[objects] + np.sin(turn) * sine[objects]
    return fixed[objects] + turning + 2 * rng.normal(size=(len(objects), units)), objects, angles


def plain_loop(views: Views, make: Callable[[], Pipeline]) -> float:
    """Accuracy of a scikit-learn pipeline, fitted anew for every fold of ``object_decoding``."""
    responses, objects, angles = views
    fold, hits = transform_folds(angles, FOLDS), 0
    for held in range(FOLDS):
        test = fold == held
        hits += int((make().fit(responses[~test], objects[~test]).predict(responses[test]) == objects[test]).sum())
    return hits / len(objects)


def one_repetition(views: Views) -> None:
    """One repetition of ``rotation_decoding``: scaler and PCA without two objects, LinearSVC on all, every fold."""
    responses, objects, angles = views
    place = np.unique(angles, return_inverse=True)[1]
    for centre in range(ROTATIONS):
        away = (place - centre + ROTATIONS // 2) % ROTATIONS - ROTATIONS // 2
        train, test = np.abs(away) > HELD_OUT // 2, (away == 0) & (objects < 2)
        fit = responses[train & (objects >= 2)]
        steps = make_pipeline(StandardScaler(), PCA(min(COMPONENTS, *fit.shape))).fit(fit)
        machine = LinearSVC(C=1.0, max_iter=10_000).fit(steps.transform(responses[train]), objects[train])
        machine.predict(steps.transform(responses[test]))


def timed(call: Callable[[], Any], runs: int = RUNS) -> tuple[float, Any]:
    """The fastest of several runs, in seconds, and the result."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def decoder(views: Views) -> None:
    """Print parts 1 and 2."""
    seconds, accuracy = timed(lambda: object_decoding(*views, folds=FOLDS))
    units = views[0].shape[1]
    print(f"  object_decoding: {seconds * 1e3:.1f} ms, accuracy {accuracy:.3f}")
    others = {
        "same work, StandardScaler and RidgeClassifier": lambda: make_pipeline(
            StandardScaler(), RidgeClassifier(alpha=units)
        ),
        f"more work, StandardScaler, PCA({COMPONENTS}) and LinearSVC": lambda: make_pipeline(
            StandardScaler(), PCA(min(COMPONENTS, units)), LinearSVC(max_iter=10_000)
        ),
    }
    for name, make in others.items():
        other, reached = timed(lambda make=make: plain_loop(views, make))
        print(f"  {name}: {other * 1e3:.1f} ms = {other / seconds:.1f} x, accuracy {reached:.3f}")


def batteries(views: Views, repetitions: int) -> None:
    """Print part 3; the discriminability's groups are pairs of neighbouring rotations of one object."""
    responses, objects, _ = views
    seconds, accuracy = timed(lambda: rotation_decoding(*views, repetitions=repetitions), runs=1)
    print(f"  rotation_decoding, {repetitions} repetitions: {seconds:.1f} s, accuracy {accuracy:.3f}")
    other, _ = timed(lambda: one_repetition(views), runs=1)
    ratio = other * repetitions / seconds
    print(f"    the same fits in scikit-learn: {other:.2f} s a repetition, {ratio:.1f} x as long by count")
    shared, accuracy = timed(lambda: rotation_decoding(*views, repetitions=repetitions, scaler="all classes"), runs=1)
    print(f"    scaler='all classes', one fit a fold: {shared:.1f} s, accuracy {accuracy:.3f}")
    clips = objects * ROTATIONS + (np.arange(len(objects)) % ROTATIONS) // 2
    seconds, bits = timed(lambda: object_discriminability(responses, objects, clips, repetitions=repetitions), runs=1)
    print(f"  object_discriminability, {repetitions} repetitions: {seconds:.1f} s, {bits:.2f} bits")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--repetitions", type=int, default=50, help="of the batteries; 0 leaves them out")
    return parser.parse_args()


def main() -> None:
    sizes = arguments()
    print(f"{describe_machine()}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    print(f"{OBJECTS} objects x {ROTATIONS} rotations, {FOLDS} folds; the decoders' times are the best of {RUNS} runs")
    for units in sizes.units:
        print(f"{units} units")
        views = simulate(units)
        decoder(views)
        if sizes.repetitions:
            batteries(views, sizes.repetitions)


if __name__ == "__main__":
    main()
