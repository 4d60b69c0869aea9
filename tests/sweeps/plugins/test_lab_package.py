"""A lab's own package, as README.md shows it: installed into a fresh environment, swept with on two workers."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lab_package import write_lab_package
from processes import ROOT, environment

import sweeps


def run(arguments: list[str], cwd: Path, **variables: str) -> str:
    """What a command prints; it must succeed."""
    env = environment() | variables
    found = subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=280)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the lab's package, and what this one has behind it."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", str(folder / "venv")], folder)
    found = folder / "venv" / "bin" / "python"
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "behind.pth").write_text(f"{ROOT}\n{sysconfig.get_paths()['purelib']}\n")
    package = write_lab_package(folder)
    assert sorted(str(path.relative_to(package)) for path in package.rglob("*.*")) == [
        "mylab/retina.py",
        "mylab/sparseness.py",
        "pyproject.toml",
    ]
    options = ["--quiet", "--no-deps", "--disable-pip-version-check"]
    run([str(found), "-m", "pip", "install", *options, str(package)], folder)
    return found


@pytest.mark.slow
def test_a_sweep_with_a_labs_backbone_and_score_on_two_workers(
    python: Path, experiment: dict[str, Any], tmp_path: Path
) -> None:
    space = experiment["space"] | {"backbone": [{"retina": {"gain": [1.0, 2.0]}}, "pixels"], "depth": {"shared": "all"}}
    raw = experiment | {"space": space | {"seed": 0}, "scores": ["prediction", "sparseness"]}
    raw["compute"] = {"cells_per_pack": 3}
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(raw))
    places = ["--storage", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    code = "import sys; sys.path[0] = ''; from sweeps.cli import main; main()"
    text = run([str(python), "-c", code, "run", "lab.yaml", *places, "--cpus", "2"], tmp_path)
    assert "sparseness" in text
    trials = sweeps.load(str(tmp_path / "results"))  # here the package is not installed
    assert trials["status"].tolist() == ["done"] * len(trials), trials["error"].tolist()
    assert trials["config.backbone"].value_counts().to_dict() == {"retina": 2 * 4, "pixels": 1}
    cells = sweeps.load(str(tmp_path / "results"), "cells")
    assert sorted(cells["config.backbone.gain"].dropna().unique()) == [1.0, 2.0]
    own = cells[cells["config.backbone"] == "retina"]
    assert own["components"].str.startswith("retina@1 ").all()
    assert cells["plugins"].str.fullmatch(r"backbones/retina@1#[0-9a-f]{20} scores/sparseness@1#[0-9a-f]{20}").all()
    assert own["score.prediction"].max() > 0.3
    observed = np.load(Path(experiment["recordings"][0]["path"]) / "responses.npy").mean(axis=2)
    assert cells["score.sparseness"].between(0, 1).all()
    assert cells["score.brain_sparseness"].max() < float(observed.var() / (observed**2).mean()) + 0.2
    sweeps.show(str(tmp_path / "results"))


@pytest.mark.slow
def test_a_worker_without_the_package_ends_the_sweep_in_one_line(
    python: Path, experiment: dict[str, Any], tmp_path: Path
) -> None:
    """The driver has it, the workers do not: a module on the driver's own import path alone."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "hidden_net.py").write_text(
        "from models.component import Component\n"
        "COMPONENT = Component(target='models.backbones.pixels:Pixels', version=1, blocks=1)\n"
    )
    raw = experiment | {"space": experiment["space"] | {"backbone": ["hidden_net:COMPONENT"], "depth": {"shared": [0]}}}
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(raw))
    code = (
        "import sys, sweeps\n"
        f"sys.path.append({str(tmp_path / 'secret')!r})\n"
        "try:\n"
        "    sweeps.run('lab.yaml', storage='results', cache='cache', cpus=1)\n"
        "except sweeps.errors.InputError as error:\n"
        "    print(error)\n"
    )
    text = run([str(python), "-c", code], tmp_path)
    [line] = text.strip().splitlines()
    assert "backbones = 'hidden_net:COMPONENT': this worker lacks a plug-in of the experiment" in line
    assert "No module named 'hidden_net'" in line
    assert not list((tmp_path / "results").glob("parts/*/*"))


def test_other_code_on_a_worker_ends_the_sweep_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from models.backbones import BACKBONES
    from sweeps.errors import Refusal
    from sweeps.experiment.plugins import claim_plugins

    (tmp_path / "twice_net.py").write_text(
        "from models.component import Component\n"
        "COMPONENT = Component(target='models.backbones.pixels:Pixels', version=3, blocks=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plugin = BACKBONES.plugin("twice_net:COMPONENT")
    assert plugin is not None
    assert plugin.version == 3
    claim_plugins([str(plugin)], [])
    (tmp_path / "twice_net.py").write_text((tmp_path / "twice_net.py").read_text() + "# edited\n")
    with pytest.raises(Refusal, match=r"backbones = 'twice_net:COMPONENT': this worker has other code of a plug-in"):
        claim_plugins([str(plugin)], [])


def test_code_that_changed_under_one_version_is_told_of() -> None:
    from models.registry import Plugin
    from sweeps.experiment.plugins import other_code

    now = Plugin("scores", "sparseness", 1, "aaaa")
    rows = [None, "backbones/retina@1#cccc scores/sparseness@1#bbbb", "scores/sparseness@2#dddd"]
    assert other_code([now], rows) == ["scores/sparseness@1"]
    assert other_code([now], ["scores/sparseness@1#aaaa", None]) == []
