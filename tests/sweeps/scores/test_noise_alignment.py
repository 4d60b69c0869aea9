"""What alignments share: reasons, normalised values, the error of an average over draws, noise that is as recorded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweeps.recordings.recording import Recording, RecordingFacts, StimulusSet
from sweeps.scores import matched
from sweeps.scores.matched import (
    AT_CHANCE,
    NO_REPEATS,
    NOT_TOLD_APART,
    TOO_FEW_UNITS,
    Averaged,
    BrainNoise,
    Measure,
    Reference,
    code,
    standard_error,
    unknown,
    unknown_noise,
)
from sweeps.scores.view import CellView

NAN = float("nan")


@pytest.mark.parametrize(
    ("share", "units", "reason"),
    [
        (0.0, 10, NO_REPEATS),
        (0.4, 10, TOO_FEW_UNITS),
        (0.5, 10, ""),
        (1.0, 1, TOO_FEW_UNITS),
        (1.0, 2, ""),
        (0.5, 2, TOO_FEW_UNITS),
        (0.5, 4, ""),
    ],
)
def test_noise_is_known_of_half_of_the_units_and_of_two(share: float, units: float, reason: str) -> None:
    assert unknown(share, units) == reason


def facts(repeated: dict[str, dict[str, float]], roles: tuple[str, ...] = ("fit",), repeats: int = 3) -> RecordingFacts:
    return RecordingFacts("r", "print", {"V1": 10, "V4": 2}, 60, 60, repeats, roles, repeated=repeated)


def test_gaps_of_a_recording_are_told_by_area() -> None:
    gaps = unknown_noise("objects", "captions")
    both = ("fit", "objects", "captions")
    assert gaps(facts({}, ("fit", "objects"))) == {}
    assert gaps(facts({}, both, repeats=1)) == {"V1": NO_REPEATS, "V4": NO_REPEATS}
    assert gaps(facts({}, both, repeats=2)) == {}
    assert gaps(facts({"objects": {"V1": 0.4, "V4": 1.0}}, both)) == {"V1": TOO_FEW_UNITS}
    lent = {"objects": {"V1": 0.0}, "fit": {"V1": 0.6, "V4": 0.0}, "captions": {"V4": 1.0}}
    assert gaps(facts(lent, both)) == {}
    assert gaps(facts({"objects": {"V1": 0.0, "V4": 0.0}}, both)) == {"V1": NO_REPEATS, "V4": NO_REPEATS}


def test_codes_of_reasons_begin_at_one() -> None:
    assert [code(reason) for reason in (NO_REPEATS, TOO_FEW_UNITS, AT_CHANCE, NOT_TOLD_APART)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("ceiling", "spread", "value", "normalised"),
    [
        (0.9, 0.1, 0.3, 0.0),
        (0.9, 0.1, 0.9, 1.0),
        (0.9, 0.1, 0.6, 0.5),
        (0.9, 0.2, 0.6, 0.5),
        (0.9, 0.21, 0.6, NAN),
        (0.3, 0.0, 0.6, NAN),
        (0.2, 0.0, 0.6, NAN),
    ],
)
def test_normalised_is_0_at_the_best_null_and_1_at_the_ceiling(
    ceiling: float, spread: float, value: float, normalised: float
) -> None:
    reference = Reference({"constant": 0.3, "white_noise": 0.1}, ceiling, spread - 1e-12)
    assert reference.null == 0.3
    assert reference.normalised(value) == pytest.approx(normalised, nan_ok=True)
    columns = reference.columns("x", Averaged(value, 0.05, np.zeros(1), 4))
    reason = columns.pop("x_reason")
    assert reason == 4.0 if math.isnan(normalised) else math.isnan(reason)
    expected = {"x_normalised": normalised, "x_null": 0.3, "x_ceiling": ceiling, "x_spread": 0.05}
    nulls = {"x_null_constant": 0.3, "x_null_white_noise": 0.1}
    assert columns == pytest.approx(expected | nulls, nan_ok=True)


MEAN = Measure(lambda responses, pairs: responses.mean(axis=2), lambda difference: float(difference.mean()))


def test_the_error_of_a_mean_over_draws_is_that_of_the_textbook() -> None:
    draws = list(np.random.default_rng(0).standard_normal((7, 1)))
    assert standard_error(MEAN, draws) == pytest.approx(np.std(draws, ddof=1) / np.sqrt(7))


def noise_of(repeats: np.ndarray, **options: Any) -> BrainNoise:
    """The noise of a recording's responses (stimuli, units, repeats)."""
    stimuli, units = repeats.shape[:2]
    fit = StimulusSet(pd.DataFrame({"group": np.arange(stimuli).astype(str)}), repeats, "k")
    recording = Recording("r", "print", np.full(units, "V1"), {"fit": fit})
    rows = np.arange(stimuli)[: options.get("rows")]
    predicted = np.zeros((len(rows), units))
    fields: dict[str, Any] = {"shown": {}, "tables": {}, "embed": len, "cell_id": "c", "seed": 0, "common_units": units}
    view = CellView(
        "report", 0, recording, np.arange(units), rows, predicted, predicted,
        remember=lambda key, compute: compute(), **fields,
    )  # fmt: skip
    return BrainNoise(view, "fit", options.get("stimuli", np.ones(len(rows), dtype=bool)))


def recorded(stimuli: int = 80, units: int = 6, repeats: int = 4, seed: int = 0) -> np.ndarray:
    """A signal of deviation 2 with noise of deviation 1 in every trial."""
    random = np.random.default_rng(seed)
    return 2 * random.standard_normal((stimuli, units, 1)) + random.standard_normal((stimuli, units, repeats))


def test_noise_is_as_large_as_that_of_the_averages_and_the_same_for_every_twin() -> None:
    repeats = recorded()
    first, second = noise_of(repeats), noise_of(repeats)
    numbers = np.arange(40)
    pairs = first.pairs(numbers)
    assert pairs.shape == (40, 80, 6)
    assert (pairs**2).mean() == pytest.approx(1 / 4, rel=0.1)
    np.testing.assert_array_equal(second.pairs(numbers[::-1]), pairs[::-1])
    np.testing.assert_array_equal(first.pairs(numbers[3:5]), pairs[3:5])
    assert len({number.tobytes() for number in pairs}) == 40
    assert math.isnan(first.reason)


def test_noise_that_does_not_fit_into_memory_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    repeats, numbers = recorded(), np.arange(5)
    pairs = noise_of(repeats).pairs(numbers)
    monkeypatch.setattr(matched, "KEPT", 80 * 6 * 5)
    exact = noise_of(repeats)
    exact.pairs(numbers)
    assert len(exact._kept) == 5
    monkeypatch.setattr(matched, "KEPT", 80 * 6 * 5 - 1)
    tight = noise_of(repeats)
    np.testing.assert_array_equal(tight.pairs(numbers), pairs)
    assert tight._kept == {}


def test_what_was_shown_once_and_what_is_not_compared() -> None:
    repeats = recorded()
    repeats[:5, 2, 1:] = np.nan
    mask = np.arange(80) < 40
    noise = noise_of(repeats, stimuli=mask)
    assert noise.pairs(np.arange(2)).shape == (2, 40, 6)
    assert noise.repeated.tolist() == [False] * 5 + [True] * 35
    assert noise_of(recorded(repeats=1)).reason == 1.0
    once = recorded()
    once[:, 2:, 1:] = np.nan
    assert noise_of(once).reason == 2.0


def test_the_signal_is_what_is_left_of_the_averages_without_noise() -> None:
    repeats = recorded(stimuli=4000, units=3)
    np.testing.assert_allclose(noise_of(repeats).signal(repeats.mean(axis=2)), 2.0, rtol=0.05)
    flat = recorded(stimuli=4000, units=3) - recorded(stimuli=4000, units=3).mean(axis=2, keepdims=True)
    assert (noise_of(flat).signal(flat.mean(axis=2)) == 0).all()


def correlation_measure(observed: np.ndarray) -> Measure:
    """1 - mean squared difference over stimuli and units, less what noise alone gives the brain."""
    return Measure(
        lambda responses, pairs: ((responses - observed) ** 2).mean(axis=(1, 2))[:, None],
        lambda difference: 1 - float(difference.mean()),
    )


def test_a_score_is_averaged_over_both_signs_of_every_draw_until_it_is_precise() -> None:
    repeats = recorded()
    observed, noise = repeats.mean(axis=2), noise_of(repeats)
    measure = correlation_measure(observed)
    result = noise.averaged(measure, lambda number: observed)
    squares = [(noise.pairs(np.array([number])) ** 2).mean() for number in range(result.draws)]
    assert result.value == pytest.approx(1 - np.mean(squares))  # plus and minus: the mixed term is gone
    assert result.draws % matched.PAIRS == 0
    assert result.draws == matched.PAIRS or result.spread < matched.PRECISION
    noisy = Measure(lambda responses, pairs: responses[:, :1, 0] ** 3 * 1000, lambda difference: float(difference[0]))
    assert noise.averaged(noisy, lambda number: observed + number).draws == matched.MOST_PAIRS


def test_the_ceiling_halves_the_difference_of_two_halves() -> None:
    repeats = recorded()
    observed, noise = repeats.mean(axis=2), noise_of(repeats)
    linear = Measure(
        lambda responses, pairs: responses.mean(axis=2), lambda difference: float(np.abs(difference).sum())
    )
    found = noise.ceiling(linear, observed)
    expected = [
        np.abs(noise.pairs(np.array([number]))[0].mean(axis=1)).sum() for number in range(matched.CEILING_PAIRS)
    ]
    np.testing.assert_allclose(found, expected)  # (o + n) - (o - n) = 2 n, halved


@pytest.mark.parametrize("shuffled", [False, True])
def test_null_twins_know_the_mean_the_size_or_other_stimuli(shuffled: bool) -> None:
    repeats = recorded(stimuli=400, units=4)
    observed, noise = repeats.mean(axis=2), noise_of(repeats)
    reference = noise.reference(correlation_measure(observed), observed, shuffled)
    assert set(reference.nulls) == {"constant", "white_noise"} | ({"shuffled"} if shuffled else set())
    variance, own = observed.var(axis=0).mean(), (noise.pairs(np.arange(8)) ** 2).mean()
    assert reference.nulls["constant"] == pytest.approx(1 - variance - own, abs=0.05)
    assert reference.nulls["white_noise"] == pytest.approx(1 - 2 * variance, abs=0.4)
    if shuffled:
        assert reference.nulls["shuffled"] == pytest.approx(1 - 2 * variance, abs=0.4)
    halves = noise.ceiling(correlation_measure(observed), observed)
    assert (reference.ceiling, reference.spread) == pytest.approx((halves.mean(), halves.std(ddof=1)))


def test_stimuli_that_were_shown_once_take_their_noise_from_those_of_other_splits() -> None:
    repeats = recorded()
    repeats[:40, :, 1:] = np.nan
    noise = noise_of(repeats, rows=40)
    assert math.isnan(noise.reason)
    assert (noise.pairs(np.arange(40)) ** 2).mean() == pytest.approx(1.0, rel=0.2)  # of one trial, not of an average
    assert not noise.repeated.any()
