"""The one error for bad input: one line, and the same after a trip to another process."""

import pickle
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import LONGEST, InputError, listed
from sweeps.io.key_names import unknown_key


def test_the_line() -> None:
    error = InputError(
        "must be a number above 0 up to 1", file="macaque.yaml", key="recordings[0].image.crop", value=1.7
    )
    assert str(error) == "macaque.yaml: recordings[0].image.crop = 1.7: must be a number above 0 up to 1"


def test_what_is_allowed_and_the_nearest_match() -> None:
    error = InputError("unknown readout", key="readout", value="rigde", allowed=["ridge", "gaussian"])
    assert str(error) == "readout = 'rigde': unknown readout; allowed: ridge, gaussian; did you mean 'ridge'?"
    assert str(InputError("is missing", key="name")) == "name: is missing"
    assert str(InputError("must be true", key="x", value=None)) == "x = None: must be true"
    assert str(InputError("went\nwrong")) == "went wrong"


def test_it_survives_pickling_and_later_additions() -> None:
    error = InputError("unknown", key="k", value=3, allowed=(1, 2))
    error.file = "later.yaml"
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "later.yaml: k = 3: unknown; allowed: 1, 2"


LONG = st.builds(lambda text, times: text * times, st.text(max_size=8), st.sampled_from([1, 5_000]))
VALUES = st.one_of(LONG, st.integers(), st.lists(LONG, max_size=20), st.dictionaries(LONG, LONG, max_size=20))


@settings(max_examples=20, deadline=None)
@given(LONG, LONG, LONG, VALUES, st.one_of(st.none(), st.lists(LONG, max_size=10)), st.sampled_from([1, 300]))
def test_no_message_is_long(
    problem: str, file: str, key: str, value: Any, allowed: list[str] | None, times: int
) -> None:
    names = None if allowed is None else allowed * times
    for given_value in (value, ...):
        line = str(InputError(problem, file=file, key=key, value=given_value, allowed=names))
        assert len(line) <= LONGEST
        assert "\n" not in line


def test_of_many_names_the_first_are_shown_and_how_many_there_are() -> None:
    names = [f"column{index}" for index in range(400_000)]
    before = time.process_time()
    for given_name in ("colum7", "x" * 10**6):
        line = str(InputError("has no such column", file="units.csv", value=given_name, allowed=names))
        assert "allowed: column0, column1, " in line
        assert ", column23, ... and 399,976 more" in line
    assert "did you mean 'column7'?" in str(InputError("unknown", value="colum7", allowed=names))
    assert len(str(unknown_key("compute.colum7", names))) < LONGEST
    assert time.process_time() - before < 5, "the nearest of all names is looked for among all of them"
    assert listed(names, most=2) == "column0, column1, ... and 399,998 more"
    assert listed(["V1"]) == "V1"
    assert listed([]) == ""
    assert len(listed(["x" * 10**6] * 3)) < 500
