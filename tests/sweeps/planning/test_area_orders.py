"""Orders of areas that a trial is compared with: published, stated by the experiment, or as recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline import plan_of, run_inline, trials_of

from metrics import AREA_ORDERS, area_order_from_errors, kendall_tau
from sweeps.errors import InputError
from sweeps.planning.trial_scores import join_scores
from sweeps.scores import SCORES

MOUSE = ("V1", "LM", "RL", "AL")
PUBLISHED = {
    "object_discriminability": ("invariance-battery", "object_discriminability", (0.096, 0.146, 0.075, 0.153)),
    "receptive_field": ("receptive-field", "receptive_field_area", (566.0, 713.0, 699.0, 741.0)),
    "rotation_decoding": ("invariance-battery", "rotation_decoding", (0.63, 0.70, 0.83, 0.91)),
}
"""Score, name in AREA_ORDERS and the values of mouse areas (Luconi et al. 2025) of every observable."""


def cells(column: str, values: dict[str, float], recording: str = "m", **beside: float) -> list[dict[str, Any]]:
    """Cell rows of one recording: a value per area, and further columns alike in all."""
    more = {f"score.{column}_{name}": value for name, value in beside.items()}
    return [{"recording": recording, "area": area, f"score.{column}": v, **more} for area, v in values.items()]


def joined(score: str, column: str, rows: list[dict[str, Any]], **orders: Any) -> dict[str, float]:
    """The columns of a trial beside a tau, by their endings."""
    found = join_scores(rows, [score], **orders)
    start = f"score.{column}_tau"
    return {name.removeprefix(start): value for name, value in found.items() if name.startswith(start)}


@pytest.mark.parametrize("column", PUBLISHED)
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(MOUSE), extra=st.booleans())
def test_published_values_follow_their_published_order_however_areas_are_recorded(
    column: str, order: list[str], extra: bool
) -> None:
    score, name, values = PUBLISHED[column]
    by_area = {area: dict(zip(MOUSE, values, strict=True))[area] for area in order}
    rows = cells(column, {"PM": 0.5, **by_area} if extra else by_area)
    found = joined(score, column, rows)
    assert (found[""], found["_order"]) == (pytest.approx(1.0), 1.0)
    three = joined(score, column, cells(column, dict(list(by_area.items())[:3])))
    assert three[""] == pytest.approx(1.0)
    backwards = {area: -AREA_ORDERS[name][area] for area in order}
    assert joined(score, column, cells(column, backwards))[""] == pytest.approx(-1.0)


def test_other_areas_and_other_observables_keep_the_recorded_order_and_say_so() -> None:
    monkey = joined("receptive-field", "receptive_field", cells("receptive_field", {"V1": 1, "V2": 3, "V4": 2}))
    assert (monkey[""], monkey["_order"]) == (pytest.approx(1 / 3), 0.0)
    own = joined("invariance", "invariance", cells("invariance", dict(zip(MOUSE, (1, 2, 3, 4), strict=True))))
    assert (own[""], own["_order"]) == (pytest.approx(1.0), 0.0)
    both = [
        *cells("receptive_field", {"V1": 1, "V2": 3, "V4": 2}),
        *cells("receptive_field", {"AL": 4, "RL": 2, "V1": 1}, "n"),
    ]
    mixed = joined("receptive-field", "receptive_field", both)
    assert (mixed[""], mixed["_order"]) == (pytest.approx(2 / 3), 0.5)


def test_the_experiments_order_comes_first_and_ranks_only_the_areas_that_it_names() -> None:
    values = dict(zip(MOUSE, (4.0, 3.0, 9.0, 1.0), strict=True))
    orders = {"invariance": {"AL": 0.0, "LM": 1.0, "V1": 2.0}}
    found = joined("invariance", "invariance", cells("invariance", values), orders=orders)
    assert (found[""], found["_order"]) == (pytest.approx(1.0), 1.0)
    values["RL"] = float("nan")  # not ranked, so that it need not be there
    assert joined("invariance", "invariance", cells("invariance", values), orders=orders)[""] == pytest.approx(1.0)
    assert np.isnan(joined("invariance", "invariance", cells("invariance", values))[""])


def test_interval_and_p_are_those_of_the_errors_and_missing_without() -> None:
    values, errors = (0.1, 0.4, 0.3, 0.8), (0.05, 0.1, 0.1, 0.2)
    rows = cells("receptive_field", dict(zip(MOUSE, values, strict=True)))
    bare = joined("receptive-field", "receptive_field", rows)
    assert np.isnan([bare["_low"], bare["_high"], bare["_p"]]).all()
    for row, error in zip(rows, errors, strict=True):
        row["score.receptive_field_se"] = error
    found = joined("receptive-field", "receptive_field", rows)
    ranks = [AREA_ORDERS["receptive_field_area"][area] for area in MOUSE]
    test = area_order_from_errors(values, errors, ranks, draws=400)
    assert (found[""], found["_low"], found["_high"], found["_p"]) == (test.tau, test.low, test.high, test.p)
    assert found[""] == pytest.approx(kendall_tau(values, ranks))
    assert found["_p"] < 1 / 24 < 0.05


@pytest.mark.parametrize(("flags", "flag"), [((1, 1, 1, 1), 1.0), ((1, 0, 1, 1), 1.0), ((1, 0, 1, 0), 0.0)])
def test_at_chance_tau_keeps_its_value_beside_a_flag(flags: tuple[int, ...], flag: float) -> None:
    rows = cells("invariance", dict(zip(MOUSE, (0.01, 0.02, 0.03, 0.04), strict=True)))
    for row, at_chance in zip(rows, flags, strict=True):
        row["score.invariance_at_chance"] = float(at_chance)
    found = joined("invariance", "invariance", rows)
    assert (found[""], found["_at_chance"]) == (pytest.approx(1.0), flag)
    assert join_scores(rows, ["invariance"])["score.invariance_at_chance"] == np.mean(flags)


def test_every_observable_with_an_order_has_an_error_over_units() -> None:
    for name in SCORES.builtin:
        score = SCORES[name]
        assert {f"{column}_se" for column in score.ordered} <= set(score.columns), name
        assert set(score.published) <= set(score.ordered)
        assert set(score.published.values()) <= set(AREA_ORDERS)


@pytest.fixture
def three_areas(make_recording: Callable[..., Path], experiment: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A small experiment on three areas, with a score that is compared with their order."""
    folder = make_recording(tmp_path / "data" / "three", areas={"V1": 5, "LM": 5, "AL": 6})
    return {
        **experiment,
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "space": {"backbone": "pixels", "depth": {"shared": [0]}, "readout": {"ridge": {"pool": 4}}},
        "scores": ["prediction", "dimensionality-battery"],
    }


def test_an_order_that_is_edited_joins_trials_again_and_fits_nothing(
    three_areas: dict[str, Any], tmp_path: Path
) -> None:
    column = "score.clean_participation_ratio_tau"
    forwards = run_inline(plan_of(three_areas, tmp_path))
    recorded = trials_of(plan_of(three_areas, tmp_path)).iloc[0]
    assert forwards.progress.executed > 0
    assert recorded[f"{column}_order"] == 0
    assert 0 <= recorded[f"{column}_p"] <= 1
    for order, sign in ((["AL", "LM", "V1"], -1), (["V1", "LM", "AL"], 1)):
        plan = plan_of({**three_areas, "order": {"clean_participation_ratio": order}}, tmp_path)
        sweep = run_inline(plan)
        assert (sweep.progress.executed, sweep.progress.done) == (0, 1)
        trial = trials_of(plan).iloc[0]
        assert trial[column] == pytest.approx(sign * recorded[column])
        assert trial[f"{column}_order"] == 1
        assert run_inline(plan).progress.known == 1
    back = run_inline(plan_of(three_areas, tmp_path))
    assert (back.progress.executed, back.progress.done) == (0, 1)
    assert trials_of(plan_of(three_areas, tmp_path)).iloc[0][f"{column}_order"] == 0


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (
            {"receptive_fields": ["V1", "LM", "AL"]},
            r"order.receptive_fields: .*allowed: .*did you mean 'receptive_field'",
        ),
        ({"invariance": ["V1", "LM", "A1"]}, r"order.invariance = 'A1': no such area; allowed: V1, LM, AL"),
        ({"invariance": ["V1", "LM", "V1"]}, r"order.invariance = .*names every area once; got V1, LM, V1"),
        ({"invariance": ["V1", "LM"]}, r"order.invariance = .*three areas of one recording"),
        ({"invariance": {"V1": 0}}, r"order.invariance"),
        ({"invariance": [["V1"], 3, "AL"]}, r"order.invariance"),
    ],
)
def test_an_order_that_cannot_be_is_refused(
    three_areas: dict[str, Any], tmp_path: Path, order: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plan_of({**three_areas, "order": order}, tmp_path)
    assert "\n" not in str(caught.value)
    plan_of({**three_areas, "order": {"invariance": ["AL", ["LM", "V1"]]}}, tmp_path)
