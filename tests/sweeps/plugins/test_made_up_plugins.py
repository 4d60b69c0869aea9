"""One made-up plug-in of every kind, in a package that nobody knows of: one file each, and nothing else changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import plan_of, run_inline

import sweeps
from models.backbones import BACKBONES
from models.objectives.losses import LOSSES
from models.readouts import READOUTS
from models.registry import Registry
from sweeps.errors import InputError
from sweeps.experiment.plugins import REGISTRIES
from sweeps.probes import PROBES
from sweeps.recordings import FORMATS
from sweeps.scores import SCORES
from sweeps.search.methods import METHODS

ALL: list[Registry[Any]] = [BACKBONES, READOUTS, LOSSES, SCORES, FORMATS, PROBES, METHODS]

FILES = {
    "backbone": """
from models.component import Component, Parameter

COMPONENT = Component(
    target="madeup.backbone:build", version=1, blocks=2, parameters={"power": Parameter(1, "int", low=1)}
)

def build(parameters, seed):
    import torch

    class Network(torch.nn.Module):
        def forward_blocks(self, images, blocks):
            return [images ** (parameters["power"] + block) for block in blocks]

    return Network()
""",
    "readout": """
from dataclasses import replace

from models.readouts import READOUTS

COMPONENT = replace(READOUTS["gaussian"], version=7, summary="a Gaussian readout under another name")
""",
    "loss": """
from models.objectives.loss import Loss, drive_itself, first, level_itself, masked_mean

def measure(outcome, observed, shape):
    return masked_mean((outcome[0] - observed.nan_to_num()).abs(), observed)

LOSS = Loss(version=3, measure=measure, link=drive_itself, mean=first, start=level_itself)
""",
    "score": """
import numpy as np

from sweeps.scores.score import Score

SCORE = Score("bias", version=1, columns=("bias", "bias_units"), up=False, summary="mean of predicted - recorded")

def compute(view):
    return {"bias": float(np.nanmean(view.predicted - view.observed)), "bias_units": float(len(view.units))}
""",
    "form": """
from typing import ClassVar

from sweeps.recordings.formats.folder import FolderSpec

class MirrorSpec(FolderSpec):
    version: ClassVar[int] = 1
    format: str

    def default_name(self):
        return "mirror"
""",
    "probe": """
from typing import ClassVar

import numpy as np
import pandas as pd

from sweeps.probes.drawn import DrawnProbe

class Greys(DrawnProbe):
    version: ClassVar[int] = 1
    levels: int = 5

    def table(self):
        return pd.DataFrame({"level": np.linspace(0, 255, self.levels)})

    def images(self, geometry):
        levels = self.table()["level"].to_numpy().astype(np.uint8)
        return np.broadcast_to(levels[:, None, None, None], (self.levels, *geometry.shape, 3)).copy()
""",
    "search": """
from sweeps.search.proposer import Listed, SearchMethod

METHOD = SearchMethod(version=1, make=lambda space, search: Listed(reversed(list(space.grid()))), exhaustive=True)
""",
}


@pytest.fixture
def madeup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with one file for every kind of plug-in, beside the experiment."""
    package = tmp_path / "lab" / "madeup"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name, text in FILES.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.chdir(package.parent)
    loaded = {registry.group: dict(registry._loaded) for registry in ALL}
    path = list(sys.path)
    yield package
    sys.path[:] = path
    for module in [name for name in sys.modules if name.partition(".")[0] == "madeup"]:
        del sys.modules[module]
    for registry in ALL:
        registry._loaded.clear()
        registry._loaded.update(loaded[registry.group])


@pytest.fixture
def swept(madeup: Path, experiment: dict[str, Any]) -> dict[str, Any]:
    """An experiment that uses all of them."""
    [recording] = experiment["recordings"]
    return experiment | {
        "recordings": [recording | {"format": "madeup.form:MirrorSpec"}],
        "probes": {"madeup.probe:Greys": "rendered"},
        "space": {
            "backbone": [{"madeup.backbone:COMPONENT": {"power": [1, 2]}}],
            "depth": {"shared": [0, 1]},
            "readout": [{"madeup.readout:COMPONENT": {"loss": "madeup.loss:LOSS", "epochs": 2, "pool": 4}}],
            "seed": 0,
        },
        "scores": ["prediction", "madeup.score:SCORE"],
        "search": {"method": "madeup.search:METHOD"},
    }


def test_all_of_them_make_a_sweep(swept: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(swept, tmp_path)
    assert [plugin.stated for plugin in plan.plugins] == [
        "backbones/madeup.backbone:COMPONENT@1",
        "readouts/madeup.readout:COMPONENT@7",
        "losses/madeup.loss:LOSS@3",
        "scores/madeup.score:SCORE@1",
        "formats/madeup.form:MirrorSpec@1",
        "probes/madeup.probe:Greys@1",
    ]
    first, *_ = list(plan.space.grid())
    scheduler = run_inline(plan)
    assert scheduler.finished
    trials, cells = sweeps.load(plan.storage), sweeps.load(plan.storage, "cells")
    assert trials["status"].tolist() == ["done"] * 4, trials["error"].tolist()
    assert cells["error"].isna().all()
    assert set(cells["recording"]) == {"mirror"}
    assert set(cells["components"]) == {"madeup.backbone:COMPONENT@1 madeup.readout:COMPONENT@7"}
    assert set(cells["config.readout.loss"]) == {"madeup.loss:LOSS"}
    assert set(cells["config.backbone.power"]) == {1, 2}
    assert np.isfinite(cells["score.bias"]).all()
    assert cells["score_keys"].str.contains("madeup.score:SCORE@1").all()
    assert set(cells["plugins"]) == {" ".join(sorted(map(str, plan.plugins)))}
    assert first["backbone"]["power"] == 1
    again = run_inline(plan_of(swept, tmp_path))
    assert (again.progress.known, again.progress.executed) == (4, 0)


def test_a_stated_version_is_identity_and_the_code_is_not(swept: dict[str, Any], madeup: Path, tmp_path: Path) -> None:
    plan = plan_of(swept, tmp_path)
    ids = [plan.planner.trial_id(plan.planner.cells(configuration)) for configuration in plan.space.grid()]
    for name, change in (
        ("backbone", ("version=1", "version=2")),
        ("loss", ("version=3", "version=4")),
        ("form", ("= 1", "= 2")),
    ):
        _edit(madeup / f"{name}.py", *change)
        raised = plan_of(swept, tmp_path)
        now = [raised.planner.trial_id(raised.planner.cells(each)) for each in raised.space.grid()]
        assert not set(now) & set(ids), name
        _edit(madeup / f"{name}.py", *reversed(change))
    _edit(madeup / "backbone.py", "import torch", "import torch  # edited")
    edited = plan_of(swept, tmp_path)
    assert [edited.planner.trial_id(edited.planner.cells(each)) for each in edited.space.grid()] == ids
    assert edited.plugins != plan.plugins


def test_rows_of_other_code_under_one_version_are_told_of(swept: dict[str, Any], madeup: Path, tmp_path: Path) -> None:
    small = swept | {"space": swept["space"] | {"depth": {"shared": [0]}}}
    run_inline(plan_of(small, tmp_path))
    _edit(madeup / "score.py", "np.nanmean(", "np.nanmedian(")
    with pytest.warns(UserWarning, match=r"rows here were made by other code of .*scores/madeup\.score:SCORE@1"):
        run_inline(plan_of(small, tmp_path))


def _edit(file: Path, old: str, new: str) -> None:
    """Change a file of the package, and let its modules be imported anew."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    for module in [name for name in sys.modules if name.partition(".")[0] == "madeup"]:
        del sys.modules[module]
    for registry in ALL:
        for name in [name for name in registry._loaded if name.startswith("madeup")]:
            del registry._loaded[name]


@pytest.mark.parametrize("registry", ALL, ids=lambda registry: registry.group)
def test_a_registry_is_one_literal_dict_whose_entries_load_and_state_a_version(registry: Registry[Any]) -> None:
    assert len(registry.builtin) == len(set(registry.builtin.values()))
    for name in registry.builtin:
        assert isinstance(registry[name].version, int)
        assert registry.plugin(name) is None


def test_workers_are_told_of_every_kind_that_they_need() -> None:
    assert set(REGISTRIES) == {registry.group for registry in ALL} - {METHODS.group}


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("backbone", ["madeup.backbone:NONE"], "madeup.backbone:NONE cannot be imported"),
        ("backbone", ["madeup.missing:COMPONENT"], "No module named 'madeup.missing'"),
        ("backbone", ["madeup.score:SCORE"], "is not an instance of models.component.Component"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_line(
    key: str, value: Any, problem: str, swept: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        plan_of(swept | {"space": swept["space"] | {key: value}}, tmp_path)
    assert problem in str(caught.value)
    assert str(caught.value).count("\n") == 0
