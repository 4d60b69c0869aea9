"""Experiment files and parts that no hand made: an InputError of one line or a result, never anything else."""

from __future__ import annotations

import copy
import json
import random
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from damages.manifests import LAUGHS, MERGES, places
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sweeps
from sweeps.errors import InputError
from sweeps.planning.plan import make_plan
from sweeps.storage.store import Store

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_characters="/:", exclude_categories=("Cs",)), max_size=12)
    | st.sampled_from(
        ["all", "auto", "last", "random", "grid", "V1", "shared", "ridge", "gaussian", "..", "~", "%s", "{}"]
    )
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def changed(held: dict[str, Any], path: tuple[Any, ...], how: str, value: Any) -> dict[str, Any]:
    """A copy with a value replaced, removed or put beside."""
    found = copy.deepcopy(held)
    place: Any = found
    for key in path[:-1]:
        place = place[key]
    if how == "remove":
        del place[path[-1]]
    elif how == "beside" and isinstance(place, dict):
        place[str(value)[:20]] = value
    else:
        place[path[-1]] = value
    return found


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def checked(content: bytes, folder: Path) -> str | None:
    """The complaint about an experiment file, None where there is none."""
    file = folder / "made.yaml"
    file.write_bytes(content)
    try:
        make_plan(str(file), storage=str(folder / "rows"), cache=str(folder / "cache"))
    except InputError as error:
        line = str(error)
        assert line
        assert "\n" not in line
        assert "Traceback" not in line
        return line
    return None


@pytest.fixture
def whole(experiment: dict[str, Any]) -> dict[str, Any]:
    """An experiment with every section."""
    return {
        **experiment,
        "split": {"seed": 0, "report": 0.2, "select": 0.2},
        "search": {"method": "tpe", "trials": 3, "objectives": ["select.prediction"]},
        "compute": {"cpus_per_pack": 1, "max_failures": 1, "limit_minutes": 1.0, "workers": 1, "cells_per_pack": 2},
        "contrasts": [{"name": "a", "area": "V1", "left": {"depth": 0}, "right": {"depth": 1}}],
    }


FUZZ = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@FUZZ
@given(st.data())
def test_a_changed_experiment_is_refused_in_one_line_or_runs(
    whole: dict[str, Any], tmp_path: Path, data: st.DataObject
) -> None:
    before = files_of(tmp_path)
    held = whole
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(places(held))))
        held = changed(held, path, data.draw(st.sampled_from(["replace", "remove", "beside"])), data.draw(ANYTHING))
    checked(yaml.safe_dump(held, allow_unicode=True).encode(), tmp_path)
    assert files_of(tmp_path) - before <= {tmp_path / "made.yaml"}


@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_bytes_that_are_no_experiment_are_refused(tmp_path: Path, content: bytes) -> None:
    assert checked(content, tmp_path) is not None


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch made-by-yaml']",
        "name: &a [*a]",
        "a: &a {b: *a}",
        "{" * 5000,
        "? " * 3000,
        "name: a\nname: b",
        "&a [&b [*a, *a], *b, *b, *b]",
        LAUGHS,
        MERGES,
    ],
)
def test_yaml_that_means_harm_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checked(text.encode(), tmp_path) is not None
    assert not (tmp_path / "made-by-yaml").exists()


def row(number: int) -> dict[str, Any]:
    return {
        "trial_id": f"{number:020x}",
        "status": "done",
        "config": json.dumps({"seed": number}),
        "score.x": number / 7,
    }


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_a_part_that_was_changed_anywhere_is_left_out_or_whole(seed: int) -> None:
    draws = random.Random(seed)
    with tempfile.TemporaryDirectory() as held, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        store = Store(held)
        good, bad = (store.write_part("trials", [row(10 * part + number) for number in range(5)]) for part in (0, 1))
        path = Path(held, "parts", "trials", bad)
        content = bytearray(path.read_bytes())
        for _ in range(draws.randint(1, 8)):
            how, place = draws.choice(["flip", "cut", "insert"]), draws.randrange(len(content) or 1)
            if how == "flip" and content:
                content[place] ^= 1 << draws.randrange(8)
            elif how == "cut":
                del content[place : place + draws.randint(1, 40)]
            else:
                content[place:place] = draws.randbytes(draws.randint(1, 20))
        path.write_bytes(content)
        found = sweeps.load(held)
        ids = set(found["trial_id"])
        assert {f"{number:020x}" for number in range(5)} <= ids, good
        assert not found["trial_id"].duplicated().any()
