"""Backbones that an experiment names by a dotted path: read, placed and refused like those that ship."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from models.backbones import BACKBONES
from models.component import Component
from models.registry import Registry
from sweeps.errors import InputError
from sweeps.experiment.model_paths import with_places
from sweeps.experiment.parse_space import FAMILIES, read_space
from sweeps.experiment.schema import parse_experiment

DECLARATION = """
from models.backbones import BACKBONES
from models.component import Component, Parameter

NET = Component(
    "ownlab_nets:Net",
    version=3,
    parameters={"net": Parameter("", "str"), "start": Parameter("none", "str", words=("none", "warm"))},
    blocks=4,
    content=("net", "ownlab_nets:digest"),
)
PIXELS = BACKBONES["pixels"]


def digest(parameters):
    if "missing" in parameters["net"]:
        raise ValueError("no network there")
    return "0123"
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Component]:
    """A registry that ships pixels alone, beside a lab's module."""
    (tmp_path / "ownlab_nets.py").write_text(DECLARATION)
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("backbones", Component, {"pixels": "ownlab_nets:PIXELS"})
    monkeypatch.setitem(FAMILIES, "backbone", registry)
    for module in ("space", "model_paths"):
        monkeypatch.setattr(f"sweeps.experiment.{module}.BACKBONES", registry)
    return registry


def test_a_space_takes_a_dotted_path(plugins: Mapping[str, Component]) -> None:
    backbone = ["pixels", {"ownlab_nets:NET": {"net": ["a", "b"]}}]
    space = read_space({"backbone": backbone, "readout": "ridge", "depth": {"V1": "last"}}, ["V1"])
    grid = list(space.grid())
    assert [configuration["backbone"]["name"] for configuration in grid] == ["pixels", *["ownlab_nets:NET"] * 2]
    assert [configuration["depth"]["V1"] for configuration in grid] == [0, 3, 3]
    with pytest.raises(InputError, match=r"space\.backbone\.ownlab_nets:NET\.net: no network there"):
        read_space({"backbone": {"ownlab_nets:NET": {"net": "missing"}}, "readout": "ridge"}, ["V1"])


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nolab_nets:NET", "nolab_nets:NET cannot be imported"),
        ("ownlab_nets:digest", "ownlab_nets:digest is not an instance of models.component.Component"),
        ("pixel", "unknown backbone; allowed: pixels"),
        (5, "unknown backbone; allowed: pixels"),
    ],
)
def test_a_name_that_cannot_be_used_says_why(plugins: Mapping[str, Component], name: object, problem: str) -> None:
    with pytest.raises(InputError, match=rf"space\.backbone = .*{problem}"):
        read_space({"backbone": {name: {}}, "readout": "ridge"}, ["V1"])


def test_places_of_a_dotted_backbone_are_found(plugins: Mapping[str, Component], tmp_path: Path) -> None:
    for name in ("mine", "warm"):
        (tmp_path / name).mkdir()
    sides = {"left": {"where": {"backbone.net": "mine"}}, "right": {"where": {"backbone.start": "warm"}}}
    backbone = [{"ownlab_nets:NET": {"net": ["mine", "elsewhere"], "start": "warm"}}, {5: {"net": "mine"}}, "pixels"]
    raw = {"name": "a", "recordings": [{}], "space": {"backbone": backbone}}
    experiment = parse_experiment({**raw, "contrasts": [{"name": "c", "area": "V1", **sides}]})
    placed = with_places(experiment, str(tmp_path))
    own = {"net": [str(tmp_path / "mine"), "elsewhere"], "start": "warm"}
    assert placed.space["backbone"] == [{"ownlab_nets:NET": own}, {5: {"net": "mine"}}, "pixels"]
    [contrast] = placed.contrasts
    assert contrast.left.where == {"backbone.net": str(tmp_path / "mine")}
    assert contrast.right.where == {"backbone.start": "warm"}


def test_what_ships_is_read_as_before() -> None:
    assert "pixels" in BACKBONES
    with pytest.raises(InputError, match=r"space\.backbone = 'pixel': unknown backbone; allowed: .*pixels"):
        read_space({"backbone": "pixel", "readout": "ridge"}, ["V1"])
