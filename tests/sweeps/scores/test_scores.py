"""What the scores of a cell compute, against closed forms and planted cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import poisson
from torch.nn import functional as F

import metrics
from sweeps.planning.trial_scores import join_scores
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.scores import SCORES, cell_columns, standard_scores, trial_columns
from sweeps.scores.view import CellView
from sweeps.storage.columns import column_notes

UNITS = 30


def view_of(
    predicted: np.ndarray,
    repeats: np.ndarray,
    sets: Mapping[str, StimulusSet] | None = None,
    shown: Mapping[str, np.ndarray] | None = None,
    **others: Any,
) -> CellView:
    """A view of planted predictions and recorded repeats (stimuli, units, repeats)."""
    table = pd.DataFrame({"group": np.arange(len(repeats)).astype(str)})
    numbers = np.arange(len(repeats), dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    fit = StimulusSet(table, repeats, "fit", lambda rows: numbers[rows])
    units = repeats.shape[1]
    recording = Recording("planted", "print", np.array(["V1"] * units), {"fit": fit, **(sets or {})})
    held: dict[str, Any] = {
        "split": "report",
        "split_seed": 0,
        "recording": recording,
        "units": np.arange(units),
        "rows": np.arange(len(repeats)),
        "predicted": predicted,
        "baseline": np.zeros_like(predicted),
        "shown": shown or {},
        "tables": {},
        "embed": lambda captions: np.array([[float(word) for word in caption.split()] for caption in captions]),
        "cell_id": "cell",
        "seed": 1,
        "common_units": units,
        "remember": lambda key, compute: compute(),
    }
    return CellView(**{**held, **others})


def score(name: str, view: CellView) -> dict[str, float]:
    found = SCORES[name].load()(view)
    assert set(found) == set(SCORES[name].columns)
    return found


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_documented_and_has_a_version(name: str) -> None:
    one = SCORES[name]
    assert one.load().__doc__
    assert one.name == name
    assert isinstance(one.version, int)
    assert one.seconds > 0
    assert set(one.ordered) <= set(one.columns)
    for column in (*one.columns, *one.trial_columns):
        assert column_notes(f"score.{column}")["score"] == one.summary


def test_no_two_scores_write_the_same_column_and_the_standard_ones_are_cheap() -> None:
    columns = [*cell_columns(list(SCORES)), *trial_columns(list(SCORES))]
    assert len(columns) == len(set(columns))
    assert all(SCORES[name].seconds <= 0.3 for name in standard_scores())


def test_likelihood_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    rate = random.uniform(1, 9, (50, UNITS))
    counts = random.poisson(rate[:, :, None], (50, UNITS, 4)).astype(float)
    found = score("likelihood", view_of(rate, counts))
    null = counts.mean(axis=(0, 2), keepdims=True)
    gain = poisson.logpmf(counts, rate[:, :, None]) - poisson.logpmf(counts, np.broadcast_to(null, counts.shape))
    assert found["likelihood"] == pytest.approx(gain.mean() / np.log(2), rel=1e-6)
    assert found["likelihood_units"] == UNITS
    rate[3, 0] = -0.1
    assert score("likelihood", view_of(rate, counts))["likelihood_units"] == UNITS - 1
    assert np.isnan(score("likelihood", view_of(rate, counts - 3))["likelihood"])


def test_feve_counts_its_units_and_is_nan_without_repeats() -> None:
    random = np.random.default_rng(1)
    signal = random.standard_normal((200, UNITS))
    repeats = signal[:, :, None] + random.standard_normal((200, UNITS, 6))
    repeats[:, :5] -= signal[:, :5, None]  # nothing to explain in five units
    signal[:, :5] = 0.0
    found = score("feve", view_of(signal, repeats))
    assert found["feve_units"] == UNITS  # none is left out for its responses on the scored stimuli
    assert found["feve"] == pytest.approx(1.0, abs=0.03)
    assert np.isnan(score("feve", view_of(signal, repeats[:, :, :1]))["feve"])


def nonlinear(gain: float) -> tuple[Callable[[], Any], np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    maps = random.standard_normal((40, 3, 2, 2)).astype(np.float32)
    weights = random.standard_normal((12, UNITS)).astype(np.float32)

    def readout(values: torch.Tensor) -> torch.Tensor:
        return gain * (F.elu(values.flatten(1) @ torch.from_numpy(weights)) + 1)

    def planted(pictures: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(maps)[(pictures[:, 0, 0, 0] * 255).round().long()]  # a picture tells its number

    predictor = SimpleNamespace(device=torch.device("cpu"), parts=[(planted, readout)])
    return lambda: predictor, weights, maps.reshape(40, -1) @ weights


def test_nonlinearity_is_the_closed_form_of_the_readout() -> None:
    predictor, weights, drive = nonlinear(2.0)
    repeats = np.ones((40, UNITS, 2))
    found = score("nonlinearity", view_of(repeats[:, :, 0], repeats, predictor=predictor, linear=False))
    slope = 2.0 * np.where(drive > 0, 1.0, np.exp(drive))  # J = weights x slope
    apart = np.abs(slope - slope.mean(axis=0)) * np.abs(weights).sum(axis=0)
    assert found["nonlinearity"] == pytest.approx(apart.std(axis=0).mean(), rel=1e-4)
    assert found["nonlinearity_deviation"] == pytest.approx(apart.mean(axis=0).mean(), rel=1e-4)
    assert found["nonlinearity_scale_free"] == pytest.approx((apart.std(axis=0) / apart.mean(axis=0)).mean(), rel=1e-4)
    assert found["nonlinearity_units"] == UNITS
    linear = score("nonlinearity", view_of(repeats[:, :, 0], repeats, predictor=predictor))
    assert np.isnan(linear["nonlinearity"])


def two_modalities(
    seed: int, gain: np.ndarray, noise: float = 0.3, scenes: int = 160
) -> tuple[dict[str, StimulusSet], np.ndarray, np.ndarray]:
    """Captioned scenes whose meaning (3 numbers, told by the captions) is seen, and read with a gain for each unit."""
    random = np.random.default_rng(seed)
    meaning = random.standard_normal((scenes, 3)).round(3)
    private, weights = random.standard_normal((scenes, UNITS)), random.standard_normal((3, UNITS))
    seen, read = meaning @ weights + private, gain * (meaning @ weights)
    table = pd.DataFrame({"caption": [" ".join(map(str, row)) for row in meaning]})
    noisy = [held[:, :, None] + noise * random.standard_normal((scenes, UNITS, 4)) for held in (seen, read)]
    sets = {"captions": StimulusSet(table, noisy[0], "c"), "text": StimulusSet(table, noisy[1], "t")}
    return sets, seen, private


def transfer(sets: Mapping[str, StimulusSet], twin: np.ndarray) -> dict[str, float]:
    repeats = np.ones((4, UNITS, 2))
    return score("transfer_brain", view_of(repeats[:, :, 0], repeats, sets, {"recorded.captions": twin}))


def test_the_true_twin_transfers_as_the_brain_does() -> None:
    sets, seen, private = two_modalities(0, np.full(UNITS, 1.0))
    true, without = transfer(sets, seen), transfer(sets, private)
    assert true["transfer_brain"] > 0.95 > 0.6 > without["transfer_brain"]
    assert true["transfer_brain_r"] == pytest.approx(true["brain_transfer_r"], abs=0.05)
    assert true["transfer_brain_r"] > 0.8 > 0.2 > abs(true["transfer_brain_null"])
    assert true["transfer_ratio"] == pytest.approx(1.0, abs=0.1)
    assert true["transfer_ratio_units"] == UNITS
    assert true["transfer_reading"] > 0.9
    assert true["transfer_reading_to_seeing"] > 0.5
    assert true["transfer_seeing"] > 0.9
    assert abs(without["transfer_brain_r"]) < 0.2


def test_signs_are_kept_and_ratios_need_a_unit_that_reads() -> None:
    gain = np.repeat([1.0, -1.0, 0.0], UNITS // 3)
    sets, seen, _ = two_modalities(1, gain)
    found = transfer(sets, seen)
    assert found["transfer_ratio_units"] == pytest.approx(2 * UNITS // 3, abs=2)
    assert abs(found["transfer_ratio"]) < 0.2  # half of the units that read do so with the opposite sign
    assert found["transfer_brain"] > 0.9  # and the twin shares that with the brain


def battery_view(objects: int, seed: int, repeats: int = 3) -> CellView:
    """A view of a twin that was shown `objects` objects at 6 rotations, beside a brain that saw them too."""
    random = np.random.default_rng(5)
    names, turns = np.repeat([f"o{i}" for i in range(objects)], 6), np.tile(np.arange(6) * 60.0, objects)
    table = pd.DataFrame({"object": names, "transform": turns})
    seen = random.standard_normal((objects, UNITS)).repeat(6, axis=0) + 0.5 * random.standard_normal(
        (len(names), UNITS)
    )
    noisy = seen[:, :, None] + 0.5 * random.standard_normal((len(names), UNITS, 3))
    fit = random.standard_normal((20, UNITS, repeats))
    others = {"tables": {"objects": table}, "seed": seed, "common_units": UNITS - 5}
    sets = {"objects": StimulusSet(table, noisy, "o")}
    return view_of(fit[:, :, 0], fit, sets, {"probe.objects": seen}, **others)


@pytest.fixture
def few_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rotation_decoding", "object_discriminability"):
        quick = partial(getattr(metrics, name), repetitions=3)
        monkeypatch.setattr(f"sweeps.scores.invariance_battery.{name}", quick)


@pytest.mark.usefixtures("few_repetitions")
def test_the_brains_battery_is_the_same_for_every_twin() -> None:
    first, second = (score("invariance-battery", battery_view(12, seed)) for seed in (1, 2))
    assert first["rotation_decoding"] > 0.5
    assert 0 < first["object_discriminability"] <= np.log2(6)
    assert first["rotation_decoding_clean"] >= first["rotation_decoding"]
    for name in ("brain_rotation_decoding", "brain_object_discriminability"):
        assert first[name] == second[name]
        assert np.isfinite(first[name])
        assert 0 < first[f"{name.removeprefix('brain_')}_se"] < 1
    assert first == second  # draws are seeded by what was recorded: the cell's own seed is made from names as well
    assert first["rotation_decoding_at_chance"] == 0


@pytest.mark.usefixtures("few_repetitions")
def test_a_battery_without_enough_objects_or_noise_is_nan() -> None:
    assert all(np.isnan(value) for value in score("invariance-battery", battery_view(4, 0)).values())
    silent = score("invariance-battery", battery_view(12, 0, repeats=1))
    assert np.isnan(silent["rotation_decoding"])
    assert silent["rotation_decoding_clean"] > 0.5


def test_the_battery_of_dimensions_knows_a_planted_one() -> None:
    random = np.random.default_rng(6)
    signal = random.standard_normal((300, 4)) @ random.standard_normal((4, UNITS))
    repeats = signal[:, :, None] + 2.0 * random.standard_normal((300, UNITS, 6))
    maps = random.standard_normal((300, 8, 3, 3)).astype(np.float32)
    found = score("dimensionality-battery", view_of(signal, repeats, maps=lambda: maps))
    assert found["levina_bickel"] == pytest.approx(4, abs=0.7)
    assert found["gride_2"] == pytest.approx(4, abs=0.8)
    assert 0 < found["clean_participation_ratio_se"] < found["clean_participation_ratio"] / 2
    assert found["brain_levina_bickel"] > 6  # noise has every dimension
    true = metrics.participation_ratio(signal / signal.std(axis=0))
    assert found["clean_participation_ratio"] == pytest.approx(true, rel=1e-6)
    averaged = repeats.mean(axis=2) / repeats.mean(axis=2).std(axis=0)
    plain, halves = metrics.participation_ratio(averaged), found["brain_cross_validated_participation_ratio"]
    assert abs(halves - true) < 0.5 * abs(plain - true)
    assert found["shuffled_participation_ratio"] > 0.8 * UNITS
    assert found["features_pooled_participation_ratio"] == pytest.approx(8, abs=0.5)
    assert found["features_flat_participation_ratio"] == pytest.approx(300 * 72 / 372, rel=0.1)


def test_taus_of_a_trial_follow_the_recorded_order() -> None:
    rows = [{"recording": "a", "area": f"A{i}", "score.invariance": value} for i, value in enumerate([0.1, 0.2, 0.4])]
    assert join_scores(rows, ["invariance"])["score.invariance_tau"] == pytest.approx(1.0)
    rows[1]["score.invariance"] = 0.5
    assert join_scores(rows, ["invariance"])["score.invariance_tau"] == pytest.approx(1 / 3)
    assert np.isnan(join_scores(rows[:2], ["invariance"])["score.invariance_tau"])
    rows[1]["score.invariance"] = float("nan")
    assert np.isnan(join_scores(rows, ["invariance"])["score.invariance_tau"])


def test_receptive_fields_of_a_localised_twin_have_their_planted_size() -> None:
    side, sigmas = 56, np.array([4.0, 6.0, 8.0])
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    windows = [torch.exp(-((rows - 26) ** 2 + (columns - 30) ** 2) / (2 * sigma**2)) for sigma in sigmas]
    weights = torch.stack(windows).flatten(1).T / side

    def readout(pictures: torch.Tensor) -> torch.Tensor:
        return F.softplus(pictures.mean(dim=1).flatten(1) @ weights)

    class Localised:
        shape, device = (side, side), torch.device("cpu")

        def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
            return readout(pictures)

    repeats = np.ones((4, 3, 2))
    for sigma, unit in zip(sigmas, range(3), strict=True):
        one = view_of(repeats[:, :1, 0], repeats[:, :1], predictor=lambda unit=unit: _Only(Localised(), unit))
        found = score("receptive-field", one)
        assert found["receptive_field_units"] == 1
        assert found["receptive_field"] == pytest.approx(np.pi * sigma**2 / side**2, rel=0.3)


class _Only:
    """One unit of a predictor."""

    def __init__(self, predictor: Any, unit: int) -> None:
        self.predictor, self.unit = predictor, unit
        self.shape, self.device = predictor.shape, predictor.device

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.predictor(pictures)[:, self.unit : self.unit + 1]
