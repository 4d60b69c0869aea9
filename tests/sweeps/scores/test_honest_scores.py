"""Alignments that noise cannot win: planted twins through the scores, few seeds of benchmarks/honest_scores.py."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from processes import ROOT

from sweeps.recordings.recording import Recording
from sweeps.scores import SCORES
from sweeps.scores.matched import AT_CHANCE, NO_REPEATS, TOO_FEW_UNITS

sys.path.insert(0, str(ROOT / "benchmarks"))
from honest_scores import Condition, measured, planted, twins, view_of

ALIGNMENTS = ("invariance_alignment", "dimensionality", "transfer_brain")
NOISE = ("white noise", "constant")
SMALL = Condition(stimuli=120, units=30)
SHOWN = ("exact", "noise = signal", "2 dimensions", *NOISE)


def columns(condition: Condition, names: tuple[str, ...] = ALIGNMENTS, seeds: int = 2) -> dict[str, dict[str, float]]:
    """Means over seeds of every column, by twin."""
    results = [measured(condition, seed, names, SHOWN) for seed in range(seeds)]
    return {
        twin: {name: float(np.mean([result[twin][name] for result in results])) for name in results[0][twin]}
        for twin in results[0]
    }


@pytest.mark.parametrize(
    "condition",
    [SMALL, replace(SMALL, rank=2, shared=0.6), replace(SMALL, repeats=2, law="gain"), replace(SMALL, missing=3)],
    ids=str,
)
def test_the_exact_twin_is_best_or_tied_and_noise_is_far_below(condition: Condition) -> None:
    found = columns(condition)
    for name in ALIGNMENTS:
        exact = found["exact"][name]
        assert exact > 0.85
        assert all(values[name] < exact + 0.03 for values in found.values()), name
        assert all(found[twin][name] < exact - 0.2 for twin in NOISE), name
        assert found["exact"][f"{name}_normalised"] == pytest.approx(1, abs=0.2)
        assert found["constant"][f"{name}_normalised"] < 0.35
        assert found["exact"][f"{name}_spread"] < 0.012


@pytest.mark.parametrize(
    "condition",
    [
        replace(SMALL, once=0.8, repeats=8),
        replace(SMALL, once=0.8, repeats=2, rank=2, shared=0.6, stimuli=240),
        replace(SMALL, once=0.8, repeats=8, law="poisson"),
        replace(SMALL, law="poisson"),
    ],
    ids=str,
)
def test_stimuli_that_were_shown_once_get_the_noise_of_one_trial(condition: Condition) -> None:
    found = columns(condition, ("dimensionality",))
    exact = found["exact"]["dimensionality"]
    assert exact > 0.88
    assert all(values["dimensionality"] < exact + 0.03 for values in found.values())
    assert all(found[twin]["dimensionality"] < exact - 0.15 for twin in ("noise = signal", *NOISE))


def test_without_repeats_every_alignment_is_nan_with_its_reason() -> None:
    found = measured(replace(SMALL, repeats=1), 0, ALIGNMENTS, SHOWN)
    for values in found.values():
        for name in ALIGNMENTS:
            assert np.isnan(values[name])
            assert np.isnan(values[f"{name}_normalised"])
            assert SCORES[name].reason(values[f"{name}_reason"]) == NO_REPEATS
        assert values["noise_matched"] == 0
        assert np.isfinite(values["brain_two_nn"]), "the brain's own value needs no repeats"
        assert np.isnan(values["two_nn"])


def test_units_whose_noise_is_not_known_are_left_out_and_counted() -> None:
    few, many = (
        measured(replace(SMALL, missing=missing), 0, ("dimensionality",), ["exact"])["exact"] for missing in (3, 20)
    )
    assert few["noise_matched"] == pytest.approx(27 / 30)
    assert few["dimensionality"] > 0.85
    assert np.isnan(many["dimensionality"])
    assert SCORES["dimensionality"].reason(many["dimensionality_reason"]) == TOO_FEW_UNITS


def test_an_alignment_with_a_brain_at_chance_is_nan() -> None:
    results = [measured(replace(SMALL, chance=True), seed, ("invariance_alignment",), ["exact"]) for seed in range(4)]
    values = [result["exact"] for result in results]
    assert sum(np.isnan(value["invariance_alignment"]) for value in values) >= 3  # at the level of 5 %
    reasons = [value["invariance_alignment_reason"] for value in values if np.isnan(value["invariance_alignment"])]
    assert {SCORES["invariance_alignment"].reason(code) for code in reasons} == {AT_CHANCE}


def test_a_brain_that_reads_nothing_of_what_it_sees_has_no_transfer_to_be_near_to() -> None:
    recording, rates = planted(SMALL, 0)
    random = np.random.default_rng(0)
    text = recording.sets["text"]
    noise = replace(text, responses=random.standard_normal(text.responses.shape))
    deaf = replace(recording, sets={**recording.sets, "text": noise})
    found = SCORES["transfer_brain"].load()(view_of(deaf, rates, {}))
    assert np.isnan(found["transfer_brain"])
    assert SCORES["transfer_brain"].reason(found["transfer_brain_reason"]) == AT_CHANCE


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_copies_under_other_names_and_cells_have_equal_scores(name: str) -> None:
    """Half of the units are drawn, since another area is smaller."""
    recording, rates = planted(SMALL, 1)
    twin = twins(rates, 1)["noise = signal"]
    copies = [
        Recording(f"copy{number}", f"print{number}", np.array([f"V{number}"] * 30), recording.sets)
        for number in range(3)
    ]
    views = [
        replace(view_of(copy, twin, {}), cell_id=copy.name, seed=number, common_units=15)
        for number, copy in enumerate(copies)
    ]
    first, *others = (SCORES[name].load()(view) for view in views)
    for other in others:
        np.testing.assert_array_equal(list(first.values()), list(other.values()))


def test_the_spread_tells_how_far_other_draws_would_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    recording, rates = planted(SMALL, 2)
    twin = twins(rates, 2)["2 dimensions"]
    values, spreads = [], []
    for seed in range(8):
        view = view_of(recording, twin, {})
        monkeypatch.setattr(type(view), "brain_seed", seed)
        found = SCORES["dimensionality"].load()(view)
        values.append(found["dimensionality"])
        spreads.append(found["dimensionality_spread"])
    assert 0.3 < np.std(values, ddof=1) / np.mean(spreads) < 3
