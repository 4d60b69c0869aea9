"""What recordings of every format share: averages and checks, their numbers and the room that they take."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import InputError
from sweeps.recordings import recording as module
from sweeps.recordings.recording import StimulusSet, check_groups, check_responses, mean_over_repeats

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "by rows": lambda values: values,
    "by columns": np.asfortranarray,
    "chosen units": lambda values: values[:, np.arange(values.shape[1])],
    "every other unit": lambda values: np.repeat(values, 2, axis=1)[:, ::2],
}


def responses(rows: int, units: int, repeats: int, seed: int = 0) -> np.ndarray:
    """Responses float32 of which a tenth is missing, but not those to the first stimulus."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((rows, units, repeats), dtype=np.float32)
    values[random.random(values.shape, dtype=np.float32) < 0.1] = np.nan
    values[0] = 1.0
    return values


def stimuli(values: np.ndarray) -> StimulusSet:
    return StimulusSet(pd.DataFrame({"group": np.arange(len(values)) // 2}), values, "key")


def peak(call: Callable[[], object]) -> int:
    """Most bytes that NumPy held at once beyond what it held before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 12),
    units=st.integers(1, 6),
    repeats=st.integers(1, 20),
    block=st.integers(1, 500),
    seed=st.integers(0, 99),
)
def test_the_average_is_numpy_s(layout: str, rows: int, units: int, repeats: int, block: int, seed: int) -> None:
    values = responses(rows, units, repeats, seed)
    values[-1, -1] = np.nan
    values = LAYOUTS[layout](values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = np.nanmean(values.astype(np.float64), axis=2)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(module, "BLOCK", block)
        found = stimuli(values).average
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-15)
    assert np.isnan(found[-1, -1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_change_no_bit(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = LAYOUTS[layout](responses(50, 30, 40))
    monkeypatch.setattr(module, "BLOCK", 4000)
    found, expected = mean_over_repeats(values), np.nanmean(values.astype(np.float64), axis=2)
    assert np.array_equal(found, expected, equal_nan=True)
    assert found.strides == expected.strides  # products of it have the same bits, too


@pytest.mark.parametrize("shape", [(2000, 1000, 10), (20000, 1000, 1)])
def test_averages_and_checks_take_little_room(shape: tuple[int, int, int]) -> None:
    values = responses(*shape)
    held = stimuli(values)
    assert peak(lambda: held.average) < values.nbytes + held.average.nbytes
    assert peak(lambda: check_responses(values, "file")) < values.nbytes
    assert peak(lambda: check_groups(held, "file")) < values.nbytes


def spoilt(unit: int, value: Any, rows: slice = slice(None)) -> np.ndarray:
    values = responses(20, 9, 3)
    values[rows, unit] = value
    return values


@pytest.mark.parametrize("block", [1, 200, 2**20])
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (spoilt(8, np.inf, slice(3, 4)), "infinite responses in units 8"),
        (spoilt(0, np.nan), "units 0 are NaN throughout"),
        (spoilt(4, 0.3), "units 4 respond the same to every stimulus"),
        (spoilt(4, 0.0), "units 4 respond the same to every stimulus"),
    ],
)
def test_units_that_cannot_be_fitted(
    values: np.ndarray, problem: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    with pytest.raises(InputError, match=f"file: {problem}"):
        check_responses(values, "file")
    elsewhere = problem.replace("units 0", "units 100").replace("units 4", "units 104").replace("units 8", "units 108")
    with pytest.raises(InputError, match=elsewhere):
        check_responses(values, "file", 100 + np.arange(9))


def test_a_constant_unit_among_many_stimuli_with_missing_repeats() -> None:
    """In 32 bits the mean of many equal numbers differs from them, so that they would seem to vary."""
    values = responses(20_000, 2, 3)
    values[:, 1] = np.where(np.isnan(values[:, 1]), np.nan, np.float32(0.3))
    values[0, 1] = 0.3
    with pytest.raises(InputError, match="units 1 respond the same"):
        check_responses(values, "file")


def test_groups_of_a_unit_are_counted() -> None:
    values = spoilt(2, np.nan, slice(4, None))  # two groups of two
    with pytest.raises(InputError, match="units 2 have responses in fewer than 4 groups"):
        check_groups(stimuli(values), "file")
    with pytest.raises(InputError, match="units 12 have responses"):
        check_groups(stimuli(values), "file", 10 + np.arange(9))


@pytest.mark.parametrize("columns", [{"clip": ["a", "a", "b"]}, {"frame": [0, 1, 0]}])
def test_clips_need_both_columns(columns: dict[str, list[Any]]) -> None:
    table = pd.DataFrame({"group": ["x", "x", "y"], **columns})
    assert StimulusSet(table, np.ones((3, 1, 1)), "key").clips == []
    both = table.assign(clip=["a", "a", "b"], frame=[0, 1, 0])
    assert [rows.tolist() for rows in StimulusSet(both, np.ones((3, 1, 1)), "key").clips] == [[0, 1], [2]]
