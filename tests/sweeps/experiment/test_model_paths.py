"""Networks that an experiment names by a relative folder: found beside the data, the same for every worker."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from inline import run_inline
from tiny_models import tiny_model

from models.backbones import BACKBONES
from sweeps.commands.example_data import write_data
from sweeps.errors import InputError
from sweeps.experiment.cells import Planner
from sweeps.experiment.model_paths import model_place, with_places
from sweeps.experiment.parse_space import read_space
from sweeps.experiment.schema import parse_experiment
from sweeps.planning.plan import Plan, make_plan
from sweeps.storage.load import load

FILE = """
name: places
recordings: [{format: sensorium-static, path: mouse, image: {size: 32}}]
probes: {}
space:
  backbone: [pixels, {autobackbone: {model: networks/tiny, weights: [pretrained, random]}}]
  depth: {shared: [0]}
  readout: ridge
scores: [prediction]
contrasts:
  - {name: trained, area: V1, left: {where: {backbone.model: networks/tiny}}, right: {where: {backbone: pixels}}}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a recording, a network and an experiment that names both."""
    folder = tmp_path / "data"
    write_data("sensorium-static", str(folder / "mouse"))
    shutil.copytree(tiny_model("resnet"), folder / "networks/tiny")
    (folder / "experiment.yaml").write_text(FILE)
    return folder


def plan_from(folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch, **where: Any) -> Plan:
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    return make_plan(folder / "experiment.yaml", storage=str(folder.parent / "rows"), **where)


def test_a_network_beside_the_file_is_found_from_anywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_from(data, tmp_path / "elsewhere", monkeypatch, cache=str(tmp_path / "cache"))
    monkeypatch.chdir("/")  # as workers do, which start in a folder of their own
    run_inline(plan)
    trials = load(plan.storage)
    assert trials["status"].tolist() == ["done"] * 3, trials["error"].tolist()
    assert set(trials["config.backbone.model"].dropna()) == {str(data / "networks/tiny")}
    [contrast] = plan.experiment.contrasts
    assert contrast.left.where == {"backbone.model": str(data / "networks/tiny")}


def test_where_a_network_lies_does_not_matter(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cell_ids(plan_from(data, tmp_path, monkeypatch))
    os.rename(data, tmp_path / "moved")
    assert cell_ids(plan_from(tmp_path / "moved", tmp_path, monkeypatch)) == first
    assert len(first) == 3 * 2  # networks times areas


def cell_ids(plan: Plan) -> set[str]:
    planner = Planner(plan.facts, plan.experiment.split)
    return {cell.cell_id for configuration in plan.space.grid() for cell in planner.cells(configuration)}


@pytest.mark.parametrize("start", ["here", "base"])
def test_the_base_wins_over_the_current_folder(start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here/net").mkdir(parents=True)
    (tmp_path / "base").mkdir()
    if start == "base":
        (tmp_path / "base/net").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert model_place("net", str(tmp_path / "base")) == str(tmp_path / start / "net")
    assert model_place("net", "s3://lab/data") == str(tmp_path / "here/net")
    assert model_place(str(tmp_path / "here/net"), "") == str(tmp_path / "here/net")
    assert model_place("owner/name@main", str(tmp_path / "base")) == "owner/name@main"


def test_weights_are_known_by_their_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    first.write_bytes(b"one")
    second.write_bytes(b"one")
    for name, more in (("vgg16", {}), ("eccentric", {"base": "vgg16"})):
        component = BACKBONES[name]
        identities = [component.identity({"name": name, **more, "weights": str(path)}) for path in (first, second)]
        assert identities[0] == identities[1]
        second.write_bytes(b"another")
        assert component.identity({"name": name, **more, "weights": str(second)}) != identities[0]
        second.write_bytes(b"one")
        assert component.identity({"name": name, "weights": "random"})["weights"] == "random"
    with pytest.raises(
        InputError, match=r"space\.backbone\.vgg16\.weights: weights .*none\.safetensors' cannot be read"
    ):
        read_space({"backbone": {"vgg16": {"weights": str(tmp_path / "none.safetensors")}}, "readout": "ridge"}, ["V1"])


def test_words_are_no_places(tmp_path: Path) -> None:
    for name in ("random", "pretrained", "imagenet"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine.safetensors").write_bytes(b"x")
    words: dict[str, Any] = {"weights": ["random", "mine.safetensors"]}
    experiment = parse_experiment(
        {
            "name": "a",
            "recordings": [{}],
            "space": {"backbone": [{"vgg16": words}, {"eccentric": {"weights": "imagenet"}}, "pixels"]},
            "contrasts": [{"name": "c", "area": "V1", "left": {"where": {"backbone.weights": "pretrained"}}}],
        }
    )
    placed = with_places(experiment, str(tmp_path))
    [vgg, eccentric, pixels] = placed.space["backbone"]
    assert vgg == {"vgg16": {"weights": ["random", str(tmp_path / "mine.safetensors")]}}
    assert (eccentric, pixels) == ({"eccentric": {"weights": "imagenet"}}, "pixels")
    assert placed.contrasts[0].left.where == {"backbone.weights": "pretrained"}
