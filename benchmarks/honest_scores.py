"""Can noise win? Twins whose right order is known, through every alignment with a planted brain.

    python benchmarks/honest_scores.py --seeds 20

A brain whose units read a latent of the stimulus is drawn for every seed and condition; its nine twins are the
noise-free responses themselves (exact) and eight that are worse. For every alignment the mean over seeds is printed,
with what beats the exact twin: the 95 % interval (t) of the paired difference lies above 0. Seeds in which a score is
NaN are left out and counted. `1.0` of the normalised value is one half of the repeats against the other.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.scores import SCORES
from sweeps.scores.view import CellView

SCORED = ("prediction", "invariance_alignment", "dimensionality", "transfer_brain")
SCENES, OBJECTS, ROTATIONS, MEANING = 160, 8, 10, 3

Rates = dict[str, np.ndarray]


@dataclass(frozen=True)
class Condition:
    """A planted brain and how it was recorded. `shared` of the noise variance lies in `rank` factors of all units.

    `law`: the noise is "gaussian", grows with the rate ("poisson": rates are made positive, the variance is
    proportional to them), or is a "gain" of every trial beside it. `once` of the stimuli were shown once; `chance`:
    the views of all objects are alike but for their rotation; `missing` units were recorded once.
    """

    stimuli: int = 240
    units: int = 40
    repeats: int = 6
    snr: float = 1.0
    shared: float = 0.0
    rank: int = 1
    law: str = "gaussian"
    once: float = 0.0
    chance: bool = False
    missing: int = 0
    latent: int = 8

    def __str__(self) -> str:
        plain = Condition()
        changed = {name: value for name, value in self.__dict__.items() if value != getattr(plain, name)}
        return ", ".join(f"{name} {value}" for name, value in changed.items()) or "base"


BASE = (
    Condition(),
    *(Condition(repeats=repeats) for repeats in (2, 20, 1)),
    *(Condition(snr=snr) for snr in (0.2, 0.05)),
    *(Condition(stimuli=stimuli) for stimuli in (60, 1000)),
    *(Condition(units=units) for units in (10, 150)),
    Condition(shared=0.3),
    Condition(missing=1),
)
SHARED = tuple(Condition(rank=rank, shared=share) for rank in (1, 2, 5) for share in (0.3, 0.6, 0.8))
CORNERS = (
    Condition(once=0.8, repeats=8),
    Condition(once=0.8, repeats=8, rank=2, shared=0.6),
    Condition(once=0.8, repeats=2),
    Condition(chance=True),
    Condition(law="poisson"),
    Condition(law="poisson", once=0.8, repeats=8),
    Condition(law="gain"),
    Condition(law="gain", repeats=2),
)


def planted(condition: Condition, seed: int) -> tuple[Recording, Rates]:
    """A recording, and the noise-free responses to its stimuli by role."""
    random = np.random.default_rng([seed, 1])
    dim = condition.latent
    weights = random.standard_normal((dim, condition.units)) / np.sqrt(np.arange(1, dim + 1))[:, None]
    objects, rotations = random.standard_normal((OBJECTS, 1, dim)), 1.2 * random.standard_normal((ROTATIONS, dim))
    views = objects * (not condition.chance) + rotations + 0.3 * random.standard_normal((OBJECTS, ROTATIONS, dim))
    scenes = random.standard_normal((SCENES, dim))
    meaning = np.where(np.arange(dim) < MEANING, scenes, 0.0)
    latents = {
        "fit": random.standard_normal((condition.stimuli, dim)),
        "objects": views.reshape(-1, dim),
        "captions": scenes,
        "text": 0.6 * meaning,
    }
    rates = {role: latent @ weights for role, latent in latents.items()}
    if condition.law == "poisson":
        rates = {role: np.logaddexp(0.0, values) for role, values in rates.items()}
    deviation = rates["fit"].std(axis=0) / np.sqrt(condition.snr)
    factors = random.standard_normal((condition.rank, condition.units))
    factors /= np.sqrt((factors**2).sum(axis=0))
    repeats = {role: _recorded(values, deviation, factors, condition, random) for role, values in rates.items()}
    repeats["fit"][random.permutation(condition.stimuli)[: round(condition.once * condition.stimuli)], :, 1:] = np.nan
    repeats["fit"][:, : condition.missing, 1:] = np.nan
    captions = [" ".join(f"{value:.4f}" for value in scene[:MEANING]) for scene in scenes]
    pairs = np.repeat(np.arange(OBJECTS), ROTATIONS).astype(str), np.tile(36 * np.arange(ROTATIONS), OBJECTS)
    tables = {
        "fit": pd.DataFrame({"group": np.arange(condition.stimuli).astype(str)}),
        "objects": pd.DataFrame({"object": pairs[0], "transform": pairs[1]}),
        "captions": pd.DataFrame({"caption": captions}),
        "text": pd.DataFrame({"caption": captions}),
    }
    sets = {role: StimulusSet(table, repeats[role], role) for role, table in tables.items()}
    return Recording("planted", f"{seed} {condition}", np.array(["A"] * condition.units), sets), rates


def _recorded(
    rates: np.ndarray, deviation: np.ndarray, factors: np.ndarray, condition: Condition, random: np.random.Generator
) -> np.ndarray:
    """Responses (stimuli, units, repeats) with noise."""
    shape = (*rates.shape, condition.repeats)
    common = random.standard_normal((len(rates), condition.repeats, len(factors))) @ factors
    own = random.standard_normal(shape)
    noise = np.sqrt(1 - condition.shared) * own + np.sqrt(condition.shared) * common.transpose(0, 2, 1)
    if condition.law == "poisson":
        return rates[:, :, None] + noise * (deviation * np.sqrt(rates / rates.mean(axis=0)))[:, :, None]
    if condition.law == "gain":
        gains = 1 + 0.7 * random.standard_normal((len(rates), 1, condition.repeats))
        return rates[:, :, None] * gains + noise * deviation[:, None]
    return rates[:, :, None] + noise * deviation[:, None]


def twins(rates: Rates, seed: int) -> dict[str, Rates]:
    """Nine twins of noise-free responses, by name."""
    random = np.random.default_rng([seed, 2])
    mean, deviation, units = rates["fit"].mean(axis=0), rates["fit"].std(axis=0), rates["fit"].shape[1]
    order, axes = random.permutation(units), np.linalg.svd(rates["fit"] - mean, full_matrices=False)[2]
    changes = {
        "exact": lambda values: values,
        "gain .5": lambda values: mean + 0.5 * (values - mean),
        "noise = signal": lambda values: values + deviation * random.standard_normal(values.shape),
        "2 dimensions": lambda values: mean + (values - mean) @ axes[:2].T @ axes[:2],
        "units permuted": lambda values: values[:, order],
        "stimuli shuffled": lambda values: values[random.permutation(len(values))],
        "white noise": lambda values: mean + deviation * random.standard_normal(values.shape),
        "constant": lambda values: np.broadcast_to(mean, values.shape).copy(),
        "rank one": lambda values: mean + (values - mean) @ axes[:1].T * deviation,
    }
    return {name: {role: change(values) for role, values in rates.items()} for name, change in changes.items()}


def view_of(recording: Recording, shown: Rates, memory: dict[Any, Any]) -> CellView:
    """A twin beside the recording."""

    def remember(key: Any, compute: Any) -> Any:
        if key not in memory:
            memory[key] = compute()
        return memory[key]

    predicted = shown["fit"]
    return CellView(
        split="report",
        split_seed=0,
        recording=recording,
        units=np.arange(predicted.shape[1]),
        rows=np.arange(len(predicted)),
        predicted=predicted,
        baseline=np.zeros_like(predicted),
        shown={"recorded.objects": shown["objects"], "recorded.captions": shown["captions"]},
        tables={},
        embed=lambda captions: np.array([[float(word) for word in caption.split()] for caption in captions]),
        cell_id="cell",
        seed=1,
        common_units=predicted.shape[1],
        remember=remember,
    )


def measured(
    condition: Condition, seed: int, names: Sequence[str] = SCORED, only: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """All columns of the scores, by twin; of all nine, or of those in `only`."""
    recording, rates = planted(condition, seed)
    memory: dict[Any, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        views = {name: view_of(recording, shown, memory) for name, shown in twins(rates, seed).items()}
        views = {name: views[name] for name in only or views}
        return {name: _columns(view, names) for name, view in views.items()}


def _columns(view: CellView, names: Sequence[str]) -> dict[str, float]:
    return {column: value for name in names for column, value in SCORES[name].load()(view).items()}


def table_of(results: Sequence[Mapping[str, Mapping[str, float]]], columns: Sequence[str]) -> pd.DataFrame:
    """Means over seeds, a row for every twin."""
    return pd.DataFrame(
        {
            twin: {column: pd.Series([result[twin][column] for result in results]).mean() for column in columns}
            for twin in results[0]
        }
    ).T


def better(results: Sequence[Mapping[str, Mapping[str, float]]], column: str) -> dict[str, tuple[float, float]]:
    """Twins that beat the exact one: mean and half 95 % interval of the paired difference over seeds."""
    found = {}
    for twin in results[0]:
        apart = np.array([result[twin][column] - result["exact"][column] for result in results])
        apart = apart[np.isfinite(apart)]
        if len(apart) < 2 or twin == "exact":
            continue
        half = float(t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart)))
        if apart.mean() - half > 1e-9:
            found[twin] = float(apart.mean()), half
    return found


def report(condition: Condition, results: Sequence[Mapping[str, Mapping[str, float]]]) -> None:
    """Print one block."""
    normalised = [f"{name}_normalised" for name in SCORED[1:]]
    table = table_of(results, [*SCORED, *normalised, "dimensionality_spread", "transfer_brain_spread"])
    short = {"invariance_alignment": "inv", "dimensionality": "dim", "transfer_brain": "transfer", "normalised": "0-1"}
    for long, name in short.items():
        table.columns = [column.replace(long, name) for column in table.columns]
    missing = {name: sum(np.isnan(result["exact"][name]) for result in results) for name in SCORED}
    print(
        f"\n{condition} ({len(results)} seeds; NaN: {', '.join(f'{k} {v}' for k, v in missing.items() if v) or 'none'})"
    )
    print(table.to_string(float_format="{:.3f}".format))
    for name in SCORED:
        for twin, (mean, half) in better(results, name).items():
            print(f"  {name}: {twin} beats exact by {mean:.4f} ± {half:.4f}")


def main() -> None:
    """Run all conditions and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--blocks",
        nargs="+",
        choices=["base", "shared", "corners", "all-shared"],
        default=["base", "shared", "corners"],
    )
    options = parser.parse_args()
    everywhere = tuple(replace(one, rank=two.rank, shared=two.shared) for one in BASE for two in SHARED)
    blocks = {"base": BASE, "shared": SHARED, "corners": CORNERS, "all-shared": everywhere}
    for condition in (one for block in options.blocks for one in blocks[block]):
        report(condition, [measured(condition, seed) for seed in range(options.seeds)])


if __name__ == "__main__":
    main()
