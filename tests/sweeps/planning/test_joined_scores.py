"""A trial's numbers: the mean over areas of the mean over an area's recordings; sums and maxima of what it took."""

from __future__ import annotations

import math
from typing import Any

import pytest

from metrics import dimensionality_alignment
from sweeps.planning.trial_scores import join_costs, join_scores

MEASURES = ("participation_ratio", "two_nn")


def row(recording: str, area: str, value: float | None, **columns: Any) -> dict[str, Any]:
    return {"recording": recording, "area": area, "select.prediction": value, "score.prediction": value, **columns}


def joined(*rows: dict[str, Any], **options: Any) -> float:
    found = join_scores(rows, ["prediction"], **options)["score.prediction"]
    assert found == found or math.isnan(join_scores(rows, ["prediction"])["select.prediction"])
    return found


def test_areas_count_alike_however_many_recordings_they_have() -> None:
    assert joined(row("a", "V1", 1.0), row("b", "V1", 3.0), row("a", "V4", 8.0)) == pytest.approx(5.0)
    assert joined(row("a", "V4", 8.0), row("b", "V1", 3.0), row("a", "V1", 1.0)) == pytest.approx(5.0)
    assert joined(row("a", "V1", 0.25)) == 0.25


@pytest.mark.parametrize("missing", [None, math.nan])
def test_missing_values_are_left_out(missing: float | None) -> None:
    assert joined(row("a", "V1", missing), row("b", "V1", 3.0), row("a", "V4", 8.0)) == pytest.approx(5.5)
    assert joined(row("a", "V1", missing), row("b", "V1", missing), row("a", "V4", 8.0)) == 8.0
    assert math.isnan(joined(row("a", "V1", missing), row("a", "V4", missing)))


def test_columns_that_no_row_has_are_nan_and_foreign_ones_have_means_alone() -> None:
    rows = [row("a", "V1", 1.0, **{"score.lab": 2.0}), row("a", "V4", 2.0, **{"score.lab": 4.0})]
    found = join_scores(rows, ["prediction"], ["score.lab"])
    assert found["score.lab"] == 3.0
    assert math.isnan(found["score.prediction_ceiled"])
    assert "score.lab" not in join_scores(rows, ["prediction"])
    assert "score.dimensionality" not in found


def curve(recording: str, values: list[float | None], brain: list[float]) -> list[dict[str, Any]]:
    """Rows of a recording's areas, whose two measures are these values and ten times them, alike on both splits."""
    return [
        {
            "recording": recording,
            "area": f"A{place}",
            **{
                f"{split}.{prefix}{measure}": None if number is None else number * factor
                for split in ("select", "score")
                for measure, factor in zip(MEASURES, (1, 10), strict=True)
                for prefix, number in (("", own), ("brain_", theirs))
            },
        }
        for place, (own, theirs) in enumerate(zip(values, brain, strict=True))
    ]


def test_curves_are_those_of_each_recording_and_their_mean() -> None:
    first, second = ([2.0, 4.0, 3.0], [4.0, 8.0, 16.0]), ([2.0, 4.0, 8.0, 16.0], [4.0, 8.0, 16.0, 31.0])
    found = join_scores([*curve("a", *first), *curve("b", *second)], ["dimensionality"])  # type: ignore[arg-type]
    alone = [dimensionality_alignment(*pair) for pair in (first, second)]
    assert alone[0].tau != alone[1].tau
    for split in ("select", "score"):
        for measure in MEASURES:
            for name, part in (("tau", "tau"), ("curve_distance", "curve_distance"), ("collapse", "collapse")):
                mean = (getattr(alone[0], part) + getattr(alone[1], part)) / 2
                assert found[f"{split}.{measure}_{name}"] == pytest.approx(mean)


@pytest.mark.parametrize("values", [[2.0, 4.0], [2.0, None, 8.0], [2.0, math.inf, 8.0]], ids=str)
def test_a_recording_of_two_areas_or_without_a_value_has_no_curve(values: list[float | None]) -> None:
    brain = [4.0, 8.0, 16.0]
    found = join_scores(curve("a", values, brain[: len(values)]), ["dimensionality"])
    assert math.isnan(found["score.two_nn_tau"])
    beside = [*curve("a", values, brain[: len(values)]), *curve("b", [1.0, 2.0, 3.0], brain)]
    assert join_scores(beside, ["dimensionality"])["score.two_nn_tau"] == 1.0


def test_costs_are_sums_maxima_and_names_once() -> None:
    rows = [
        {"seconds": 1.5, "peak_memory_mb": 10.0, "device": "cpu", "host": "b", "data_fingerprint": "y"},
        {"seconds": None, "peak_memory_mb": 30.0, "device": "cpu", "host": "a", "data_fingerprint": "x"},
        {"seconds": 2.0, "peak_memory_mb": None, "device": None, "host": "b", "data_fingerprint": "x"},
    ]
    costs = {"seconds": 3.5, "peak_memory_mb": 30.0, "device": "cpu", "host": "a b", "data_fingerprint": "x y"}
    assert join_costs(rows) == costs
    nothing = dict.fromkeys(costs)
    assert join_costs([nothing]) == {**dict.fromkeys(costs, ""), "seconds": 0.0, "peak_memory_mb": 0.0}
