"""What components declare: names of plug-ins as values, identities, and that declaring needs no torch."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.backbones import BACKBONES
from models.component import Component, Parameter
from models.objectives.losses import LOSSES
from models.readouts import READOUTS

HUBER = """
from torch.nn import functional as F

from models.objectives.loss import Loss, drive_itself, filled, first, level_itself, masked_mean


def _measure(outcome, observed, shape):
    return masked_mean(F.huber_loss(outcome[0], filled(observed), reduction="none"), observed)


HUBER = Loss(version=3, measure=_measure, link=drive_itself, mean=first, start=level_itself)
NO_LOSS = object()
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A lab's own module, beside the experiment."""
    name = f"lab_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(HUBER)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return name


def defaults(component: Component, **changes: object) -> dict[str, object]:
    return {key: parameter.default for key, parameter in component.parameters.items()} | changes


def test_a_loss_from_outside_is_allowed_and_others_are_not(lab: str) -> None:
    loss = READOUTS["gaussian"].parameters["loss"]
    assert loss.accepts(f"{lab}:HUBER")
    assert not any(loss.accepts(value) for value in (f"{lab}:NO_LOSS", f"{lab}:NOTHING", "huber", "", 1, None))
    assert loss.allowed() == "poisson | gaussian | correlation | zero-inflated-gamma"
    assert (loss.column, READOUTS["mlp"].parameters["batch"].column) == ("str", "str")


def test_a_readout_under_a_loss_from_outside(lab: str) -> None:
    """Trained by torch's own Huber loss of the same drives it becomes the same."""
    name, generator = f"{lab}:HUBER", torch.Generator().manual_seed(0)
    maps, observed = torch.randn(9, 3, 5, 5, generator=generator), 3 * torch.randn(9, 4, generator=generator)
    readout = READOUTS["gaussian"].load()([(3, 5, 5)], 4, defaults(READOUTS["gaussian"], loss=name), 0).eval()
    found = readout.loss.measure(readout.outcome(maps), observed, readout.gamma)
    torch.testing.assert_close(found, torch.nn.functional.huber_loss(readout.drive(maps), observed))


def test_the_version_of_a_loss_from_outside_enters_the_identity(lab: str) -> None:
    component, name = READOUTS["gaussian"], f"{lab}:HUBER"
    assert component.identity(defaults(component, loss=name)) == {
        "loss": name, "l1": 0.01, "learning_rate": 0.01, "epochs": 100, "patience": 8, "pool": 14,
        "loss@": 3, "version": 1,
    }  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_what_ships_here_adds_nothing_to_the_identity(loss: str) -> None:
    for component in (READOUTS["gaussian"], READOUTS["factorised"], READOUTS["mlp"]):
        values = defaults(component, loss=loss)
        late = {key for key, parameter in component.parameters.items() if parameter.later}
        plain = {key: value for key, value in values.items() if key not in late}
        assert component.identity(values) == plain | {"version": component.version}
    closed = READOUTS["ridge"]
    assert json.dumps(closed.identity(defaults(closed)), sort_keys=True) == '{"alpha": "auto", "pool": 7, "version": 1}'


def test_words_that_are_a_tuple_are_still_words() -> None:
    parameter = Parameter("auto", "float", words=("auto",), positive=True)
    assert [parameter.accepts(value) for value in ("auto", 2.0, "other", 0.0)] == [True, True, False, False]
    assert (parameter.allowed(), parameter.column) == ("a number above 0, or auto", "str")


def test_declarations_import_no_torch() -> None:
    """A process that reads all of them has neither torch nor the module of a model."""
    code = (
        "import sys; from models.backbones import BACKBONES; from models.objectives.losses import LOSSES\n"
        "from models.readouts import READOUTS\n"
        "names = [*BACKBONES.values(), *READOUTS.values(), *LOSSES.values()]\n"
        "print(len(names), *sorted({'torch', 'transformers', 'models.twin'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(len(BACKBONES) + len(READOUTS) + len(LOSSES))]


@pytest.mark.parametrize("registry", [BACKBONES, READOUTS], ids=["backbones", "readouts"])
def test_every_declaration_names_what_exists(registry: dict[str, Component]) -> None:
    for name, component in registry.items():
        assert component.version >= 1, name
        if component.target:
            assert callable(component.load()), name
