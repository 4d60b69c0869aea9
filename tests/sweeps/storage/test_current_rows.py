"""Rows that count now: of the present VERSIONs, data and split; all others are left out and counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from registries import declare_version

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.errors import InputError
from sweeps.experiment.schema import as_yaml, parse_experiment
from sweeps.storage.current_rows import CurrentRows, experiment_of, split_text
from sweeps.storage.store import Store

PIXELS, RIDGE = BACKBONES["pixels"].version, READOUTS["ridge"].version
SMALLEST: dict[str, Any] = {
    "name": "small",
    "recordings": [{"format": "folder", "path": "/nowhere"}],
    "space": {"backbone": "pixels", "depth": {"V1": [0]}, "readout": "ridge"},
}
PRESENT = f"pixels@{PIXELS} ridge@{RIDGE}"


def current(**changes: Any) -> CurrentRows:
    """What a last run of two recordings has left."""
    return CurrentRows(**{"split": "s", "fingerprints": {"a": "pa", "b": "pb"}, "truth_ids": [], **changes})


def rows(*components: str, data: str | None = "pa", split: str = "s") -> pd.DataFrame:
    """Rows of `trials` made with these components."""
    ids = [f"t{number}" for number in range(len(components))]
    return pd.DataFrame({"trial_id": ids, "components": components, "data_fingerprint": data, "split": split})


@pytest.mark.parametrize(
    "old", [f"pixels@{PIXELS + 1} ridge@{RIDGE}", f"pixels@{PIXELS} ridge@{RIDGE + 1}", f"pixels@ ridge@{RIDGE}"]
)
def test_rows_of_other_versions_are_left_out_and_counted(old: str) -> None:
    now = current()
    assert now.of(rows(old, PRESENT, old))["trial_id"].tolist() == ["t1"]
    assert (now.left_out, now.edited_out) == (2, 0)


@pytest.mark.parametrize(
    ("registry", "name"), [(BACKBONES, "pixels"), (READOUTS, "ridge")], ids=["backbone", "readout"]
)
def test_a_version_that_is_raised_makes_rows_old(registry: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(current().of(rows(PRESENT))) == 1
    declare_version(monkeypatch, registry, name, registry[name].version + 1)
    now = current()
    assert now.of(rows(PRESENT)).empty
    assert now.left_out == 1


def test_plug_ins_that_are_missing_here_have_the_version_of_the_last_run() -> None:
    plugins = [f"{BACKBONES.group}/lab:NET@3"]
    old, own, unknown = (f"lab:NET@2 ridge@{RIDGE}", f"lab:NET@3 ridge@{RIDGE}", f"lab:OTHER@1 ridge@{RIDGE}")
    now = current(plugins=plugins)
    assert now.of(rows(old, own, unknown))["trial_id"].tolist() == ["t1", "t2"]
    assert current().of(rows(old, own, unknown))["trial_id"].tolist() == ["t0", "t1", "t2"]


@pytest.mark.parametrize(("data", "kept"), [("pa", 1), ("pb", 1), ("pa pb", 1), ("pc", 0), ("pa pc", 0), (None, 1)])
def test_rows_of_other_data_are_left_out(data: str | None, kept: int) -> None:
    now = current()
    assert (len(now.of(rows(PRESENT, data=data))), now.left_out) == (kept, 1 - kept)


def test_rows_of_another_split_are_left_out() -> None:
    now = current(splits={"pb": "of b"})
    assert len(now.of(rows(PRESENT, split="s"))) == 1
    assert len(now.of(rows(PRESENT, data="pb", split="of b"))) == 1
    assert len(now.of(rows(PRESENT, data="pa pb", split=split_text(["s", "of b"])))) == 1
    assert now.left_out == 0
    assert now.of(rows(PRESENT, data="pb", split="s")).empty
    assert now.of(rows(PRESENT, split="of b")).empty
    assert now.left_out == 2


def test_a_split_of_several_recordings_is_one_text_where_they_are_equal() -> None:
    assert split_text(["s", "s"]) == "s"
    assert split_text(["t", "s"]) == split_text(["s", "t"]) == "s t"


def test_the_cache_of_the_last_run_is_named_where_this_machine_has_it(tmp_path: Path) -> None:
    assert current().cache_here() is None
    assert current(cache=str(tmp_path / "elsewhere")).cache_here() is None
    assert current(cache=str(tmp_path)).cache_here() == str(tmp_path)


def test_what_is_written_is_read_and_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"base": "/b", "cache": "/c", "plugins": ["p@1"], "places": {"a": ["V1"], "b": []}}
    texts = {"a": "pa", "b": "pb"}
    now = current(**fields, truth_ids=["t"], splits=texts)
    backwards = {name: dict(reversed(value.items())) for name, value in (("fingerprints", texts), ("splits", texts))}
    assert current(**fields, truth_ids=["t"], **backwards).as_json() == now.as_json()
    Store(str(tmp_path)).put("current.json", now.as_json())
    Store(str(tmp_path)).put("experiment.yaml", as_yaml(parse_experiment(SMALLEST)).encode())
    read = CurrentRows.read(str(tmp_path))
    assert read.experiment is not None
    assert replace(read, experiment=None) == now
    assert now.areas(rows(PRESENT)) == ["V1"]


def test_a_place_where_no_sweep_has_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sweep has written here"):
        CurrentRows.read(str(tmp_path))
    with pytest.raises(InputError, match="no sweep has written here"):
        experiment_of(str(tmp_path))


def test_areas_of_an_earlier_version_are_those_of_its_rows() -> None:
    assert current().areas(rows(PRESENT).assign(**{"config.depth.V4": 1, "config.depth.V1": 0})) == ["V4", "V1"]
    assert current().areas(pd.DataFrame({"area": ["V4", "V1", "V4"]})) == ["V4", "V1"]


def test_rows_of_configurations_that_the_space_lacks_are_left_out_unless_they_are_asked_for() -> None:
    parts = {
        family: {"name": name, **{key: parameter.default for key, parameter in registry[name].parameters.items()}}
        for family, name, registry in (("backbone", "pixels", BACKBONES), ("readout", "ridge", READOUTS))
    }
    configs = [json.dumps({**parts, "depth": {"V1": 0}, "seed": seed}) for seed in (0, 7)]
    two = rows(PRESENT, PRESENT).assign(config=configs)
    fields: dict[str, Any] = {"experiment": parse_experiment(SMALLEST), "places": {"a": ["V1"]}}
    now = current(**fields)
    assert now.of(two)["trial_id"].tolist() == ["t0"]
    assert (now.left_out, now.edited_out) == (0, 1)
    assert current(**fields).of(two, edited=True)["trial_id"].tolist() == ["t0", "t1"]
    assert current(**fields).of(two.assign(data_fingerprint="pa pb")).empty  # not of the recordings that are read now
