"""Kinds of probes by name: a laboratory's own beside those that ship here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from models import registry
from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.probes import PROBES, DrawnProbe, open_probe, shown_kinds

KINDS = """
from typing import ClassVar

import numpy as np
import pandas as pd

from sweeps.probes.drawn import DrawnProbe


class Gratings(DrawnProbe):
    version: ClassVar[int] = 1
    count: int = 3

    def table(self):
        return pd.DataFrame({"orientation": [180 * index / self.count for index in range(self.count)]})

    def images(self, geometry):
        return np.stack([np.full((geometry.size, geometry.size, 3), index, np.uint8) for index in range(self.count)])


class Private(Gratings):
    version: ClassVar[int] = 1
    shown_to_twins: ClassVar[bool] = False


class Stranger:
    version = 1
"""

PRINTS = {
    "objects": "7442ef93fdd9e720f7f5",
    "captions": "6fb0b23e49feb30a5e5a",
    "search": "f4611a4f764bf54d50b3",
}
"""Fingerprints of the rendered probes; they are part of what rows of earlier sweeps are found by."""


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of a laboratory with kinds of probes, importable while a test runs."""
    package = tmp_path / "gratinglab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "probes.py").write_text(KINDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(PROBES._loaded)
    yield f"{package.name}.probes"
    for name in set(PROBES._loaded) - known:
        del PROBES._loaded[name]
    for module in [name for name in sys.modules if name.split(".")[0] == package.name]:
        del sys.modules[module]


@pytest.mark.parametrize("kind", PRINTS)
def test_fingerprints_stay_what_they_were(kind: str) -> None:
    assert open_probe(kind, "rendered").fingerprint[:20] == PRINTS[kind]


def test_a_kind_by_dotted_path(laboratory: str) -> None:
    kind = f"{laboratory}:Gratings"
    probe = open_probe(kind, {"rendered": {"count": 4}})
    assert (probe.kind, len(probe)) == (kind, 4)
    assert probe.table["orientation"].tolist() == [0, 45, 90, 135]
    assert isinstance(probe.source, DrawnProbe)
    shown = probe.images(Geometry(8, width=12))
    assert shown.shape == (4, 8, 12, 3)
    assert np.array_equal(shown[:, 4, 6, 0], np.arange(4))
    assert len(open_probe(kind, "rendered")) == 3


def test_a_kind_by_entry_point(laboratory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"gratings": [EntryPoint("gratings", f"{laboratory}:Gratings", "cortex_sweeps.probes")]}
    monkeypatch.setattr(registry, "_entry_points", lambda group: points if group == "cortex_sweeps.probes" else {})
    assert list(PROBES) == ["objects", "captions", "search", "gratings"]
    assert len(open_probe("gratings", "rendered")) == 3
    with pytest.raises(InputError, match=r"probes = 'grating': unknown kind of probe; .*did you mean 'gratings'"):
        open_probe("grating", "rendered")


def test_settings_and_version_are_part_of_the_fingerprint(laboratory: str) -> None:
    kind = f"{laboratory}:Gratings"
    first = open_probe(kind, "rendered").fingerprint
    assert open_probe(kind, {"rendered": {"count": 3}}).fingerprint == first
    assert open_probe(kind, {"rendered": {"count": 4}}).fingerprint != first
    PROBES[kind].version = 2
    assert open_probe(kind, "rendered").fingerprint != first


def test_which_kinds_twins_are_shown(laboratory: str) -> None:
    gratings, private = f"{laboratory}:Gratings", f"{laboratory}:Private"
    assert shown_kinds(["captions", gratings, "search", private, "objects"]) == ["objects", "captions", gratings]
    assert shown_kinds([]) == []


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("Gratings", "a-folder", r"probes\..*:Gratings = 'a-folder': must be `rendered` or"),
        ("Gratings", {"rendered": {"cont": 4}}, r"rendered\.cont: unknown key; allowed: count; did you mean 'count'"),
        ("Gratings", {"rendered": {"count": "x"}}, r"rendered\.count = 'x': must be an integer"),
        ("Stranger", "rendered", r"probes = .*Stranger is not a subclass of sweeps\.probes\.drawn\.DrawnProbe"),
        ("Missing", "rendered", r"probes = .*Missing cannot be imported \(AttributeError"),
    ],
)
def test_bad_values_are_answered_in_one_line(laboratory: str, name: str, value: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        open_probe(f"{laboratory}:{name}", value)
    assert "\n" not in str(caught.value)


def test_no_kind_is_drawn_before_it_is_named() -> None:
    code = "import sys, sweeps.probes; print(*[name for name in sys.modules if name.startswith('sweeps.stimuli.s')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
