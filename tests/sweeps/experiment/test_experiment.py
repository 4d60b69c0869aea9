"""The experiment file: what is read from it, and what pydantic's complaints become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.errors import InputError
from sweeps.experiment.schema import SHIPPED, as_yaml, find_experiment, parse_experiment, read_experiment
from sweeps.planning.plan import make_plan
from sweeps.scores import standard_scores

LEAST: dict[str, Any] = {"name": "least", "recordings": [{"format": "simulated"}], "space": {"backbone": "pixels"}}


def read(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    return read_experiment(file)


def test_defaults_are_filled_in() -> None:
    held = parse_experiment(LEAST)
    assert held.search.method == "grid"
    assert (held.split.seed, held.split.report, held.split.select) == (0, 0.2, 0.2)
    assert held.scores == standard_scores()
    assert held.compute.max_failures == 3


def test_what_is_written_is_read_again_equal() -> None:
    held = parse_experiment(LEAST | {"contrasts": [{"name": "c", "area": "V1", "left": {"depth": [1]}}]})
    assert parse_experiment(yaml.safe_load(as_yaml(held))) == held


@pytest.mark.parametrize("name", [path.stem for path in sorted(SHIPPED.glob("*.yaml"))])
def test_shipped_experiments(name: str) -> None:
    assert read_experiment(find_experiment(name)).name == name


@pytest.mark.parametrize(("name", "trials", "cells"), [("concepts", 6, 42), ("macaque-depth", 2 * 256 * 3, 480)])
def test_shipped_experiments_on_their_data(
    name: str, trials: int, cells: int, shared_data: Path, tmp_path: Path
) -> None:
    """81 concepts: 2 sets x 3 seeds, 7 areas. Macaque: 2 weights x 16 x 16 depths x 3 seeds; 5 recordings."""
    plan = make_plan(name, data=str(shared_data), storage=str(tmp_path))
    assert (plan.space.size(), plan.cell_count()) == (trials, cells)


def test_the_quickstart_needs_no_data(tmp_path: Path) -> None:
    plan = make_plan("quickstart", storage=str(tmp_path))
    assert plan.space.size() == 16**4 + 1
    assert plan.cell_count() == 4 * 16 + 4


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-4 as a text."""
    text = "name: a\nrecordings: [{format: simulated}]\nspace: {x: [1e-4, 1.0e-4, 2E3, 1e, e1, -1e+2, 1-2]}\n"
    assert read(tmp_path, text).space["x"] == [1e-4, 1e-4, 2000.0, "1e", "e1", -100.0, "1-2"]


def test_a_key_that_stands_twice_is_refused_at_any_depth(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3, column 8: duplicate key 'seed'"):
        read(tmp_path, "name: a\nrecordings: [{format: simulated}]\nspace: {seed: 0, backbone: pixels, seed: 1}\n")


def test_merged_keys_are_no_repetition(tmp_path: Path) -> None:
    text = "name: a\nrecordings: [&one {format: simulated, seed: 1}, {<<: *one, seed: 2}]\nspace: {}\n"
    assert read(tmp_path, text).recordings[1] == {"format": "simulated", "seed": 2}


def test_the_first_problem_names_file_key_value_and_what_is_allowed() -> None:
    with pytest.raises(InputError) as caught:
        parse_experiment(LEAST | {"guidance": {"areas": ["V1"], "method": "fourrier"}}, file="a.yaml")
    error = caught.value
    assert (error.file, error.key, error.value) == ("a.yaml", "guidance.method", "fourrier")
    assert error.allowed == ("fourier", "diffusion")
    assert "did you mean 'fourier'?" in str(error)


def test_unknown_keys_come_before_missing_ones() -> None:
    with pytest.raises(InputError, match=r"spase: unknown key; .*did you mean 'space'"):
        parse_experiment({"name": "a", "recordings": [{}], "spase": {}})


def test_long_values_are_shortened() -> None:
    with pytest.raises(InputError) as caught:
        parse_experiment(LEAST | {"scores": "x" * 5000})
    assert len(str(caught.value)) < 300


def test_contrasts_bring_the_score_that_their_intervals_need() -> None:
    contrast = {"name": "x", "area": "V1", "left": {"depth": [0]}, "right": {"depth": [1]}}
    assert "interval" not in parse_experiment({**LEAST, "scores": ["prediction"]}).scores
    assert "interval" in parse_experiment(LEAST).scores
    with_contrast = parse_experiment(LEAST | {"scores": ["prediction"], "contrasts": [contrast]})
    assert with_contrast.scores == ["prediction", "interval"]
    assert parse_experiment(with_contrast.model_dump(mode="json")).scores == ["prediction", "interval"]
