"""The one error for bad input: one line, and the same after a trip to another process."""

import pickle

from sweeps.errors import InputError


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
