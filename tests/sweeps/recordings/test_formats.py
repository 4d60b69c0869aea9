"""Formats by name: what ships here, what a laboratory brings, and what is answered about those that cannot be used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from models import registry
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.recordings import FORMATS, RecordingSpec, describe, open_recording, read_spec

SPEC = """
from typing import ClassVar

import numpy as np
import pandas as pd

from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.spec import RecordingSpec, StoredSpec


class RetinaSpec(StoredSpec):
    version: ClassVar[int] = 3
    cells: int = 4

    def open(self, base, cache):
        (cache / "made.txt").write_text("once")
        table = pd.DataFrame({"file": list("abcdef"), "group": list("abcdef")})
        responses = np.arange(6 * self.cells, dtype=np.float32).reshape(6, self.cells, 1)
        fit = StimulusSet(table, responses, "key")
        areas = np.array(["RGC"] * self.cells)
        return Recording(self.recording_name(), f"{base}-{self.cells}", areas, {"fit": fit}, notes={"eye": 1})


class Unversioned(StoredSpec):
    version: ClassVar[str] = "3"


class Stranger:
    version = 1
"""


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of a laboratory with a format, and one with a mistake in it, importable while a test runs."""
    package = tmp_path / "retinalab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "formats.py").write_text(SPEC)
    (package / "broken.py").write_text("import a_library_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(FORMATS._loaded)
    yield "retinalab"
    for name in set(FORMATS._loaded) - known:
        del FORMATS._loaded[name]
    for module in [name for name in sys.modules if name.split(".")[0] == "retinalab"]:
        del sys.modules[module]


def announce(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    """Let entry points of the formats be these."""
    points = {name: [EntryPoint(name, target, "cortex_sweeps.formats")] for name, target in targets.items()}
    monkeypatch.setattr(registry, "_entry_points", lambda group: points if group == "cortex_sweeps.formats" else {})


@pytest.mark.parametrize("name", FORMATS.builtin)
def test_every_format_is_a_section_that_says_which_it_is(name: str) -> None:
    spec = FORMATS[name]
    assert issubclass(spec, RecordingSpec)
    assert spec.model_fields["format"].annotation.__args__ == (name,)  # type: ignore[union-attr]
    assert isinstance(spec.version, int)
    assert {"format", "name"} <= set(spec.model_fields)


def test_one_format_imports_no_other() -> None:
    """A folder of pictures needs neither HDF5 nor NIfTI, and the others' readers stay unread."""
    code = (
        "import sys; from sweeps.recordings import read_spec; read_spec({'format': 'folder', 'path': 'x'})\n"
        "print(*[name for name in sys.modules if name.split('.')[0] in ('h5py', 'nibabel', 'torch', 'scipy')"
        " or name.startswith(('sweeps.recordings.formats.', 'sweeps.recordings.simulation.'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["sweeps.recordings.formats.folder"]


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"format": "folder", "path": "s3://lab/mouse/"}, "mouse"),
        ({"format": "sensorium-static", "path": "lab/mouse.zip"}, "mouse"),
        ({"format": "sensorium-dynamic", "path": "lab/mouse.zip"}, "mouse"),
        ({"format": "experanto", "path": "lab/mouse.zip"}, "mouse.zip"),
        ({"format": "allen-nwb", "path": "lab/5101.nwb"}, "5101"),
        ({"format": "nsd", "path": "lab"}, "subj01"),
        ({"format": "algonauts", "path": "lab", "subject": "subj03"}, "subj03"),
        ({"format": "lebel", "path": "lab"}, "UTS01"),
        ({"format": "shortclips", "path": "lab"}, "S01"),
        ({"format": "simulated"}, "simulated"),
        ({"format": "simulated-video"}, "simulated-video"),
    ],
)
def test_the_name_in_the_tables(section: dict[str, str], name: str) -> None:
    assert read_spec(section).recording_name() == name
    assert read_spec({**section, "name": "mine"}).recording_name() == "mine"


# -- a laboratory's own -----------------------------------------------------------------------------


def check(raw: dict[str, object], cache: Path) -> None:
    """A plug-in's recording is described and opened like any other."""
    [facts] = describe([raw], "place")
    stated = content_id(["place-5", raw["format"], 3])
    assert (facts.name, facts.fingerprint, facts.areas, facts.stimuli) == ("left", stated, {"RGC": 5}, 6)
    assert facts.notes == {"eye": 1}
    assert not (cache / "made.txt").exists()  # the driver described it without this node's cache
    recording = open_recording(raw, "place", cache)
    assert recording is not None
    assert recording.facts() == facts
    assert np.array_equal(recording.fit.responses[:, :, 0], np.arange(30).reshape(6, 5))
    assert (cache / "made.txt").exists()
    assert open_recording(raw, "place", cache, "another") is None


def test_a_format_by_dotted_path(laboratory: str, tmp_path: Path) -> None:
    raw = {"format": f"{laboratory}.formats:RetinaSpec", "path": "eyes/left", "cells": 5}
    check(raw, tmp_path)
    plugin = FORMATS.plugin(raw["format"])
    assert plugin is not None
    assert (plugin.version, plugin.name) == (3, raw["format"])


def test_a_format_by_entry_point(laboratory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, retina=f"{laboratory}.formats:RetinaSpec")
    assert list(FORMATS)[-1] == "retina"
    check({"format": "retina", "path": "eyes/left", "cells": 5}, tmp_path)


def test_settings_of_a_plug_in_are_checked(laboratory: str) -> None:
    raw = {"format": f"{laboratory}.formats:RetinaSpec", "path": "eyes/left"}
    with pytest.raises(InputError, match=r"recordings\.1\.cells = 'many': must be an integer"):
        describe([{**raw, "cells": 4}, {**raw, "cells": "many"}], "")
    with pytest.raises(InputError, match=r"recordings\.cels: unknown key; allowed: .*did you mean 'cells'"):
        read_spec({**raw, "cels": 4})
    with pytest.raises(InputError, match=r"recordings\.path: is missing"):
        read_spec({"format": raw["format"]})


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nsdd", r"recordings\.format = 'nsdd': unknown format; allowed: folder, .*did you mean 'nsd'\?"),
        (None, r"recordings\.format = None: unknown format; allowed: folder, "),
        (7, r"recordings\.format = 7: unknown format; allowed: folder, "),
        ("retinalab.formats:Stranger", r"retinalab\.formats:Stranger is not a subclass of .*\.RecordingSpec"),
        ("retinalab.formats:Missing", r"Missing cannot be imported \(AttributeError: "),
        ("retinalab.broken:Spec", r"cannot be imported \(ModuleNotFoundError: .*a_library_that_nobody_has"),
        ("nowhere.formats:Spec", r"cannot be imported \(ModuleNotFoundError: No module named 'nowhere'"),
        ("retinalab.formats:Unversioned", r"Unversioned states no `version`"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(laboratory: str, name: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        read_spec({"format": name, "path": "x"})
    assert "\n" not in str(caught.value)
    assert caught.value.key == "recordings.format"


def test_a_broken_entry_point_is_answered_with_its_reason_and_hides_no_other(
    laboratory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(monkeypatch, retina=f"{laboratory}.formats:RetinaSpec", blind=f"{laboratory}.broken:Spec")
    with pytest.raises(InputError, match=r"'blind': .*a_library_that_nobody_has"):
        read_spec({"format": "blind", "path": "x"})
    with pytest.raises(InputError, match=r"unknown format; allowed: folder, .*, retina; did you mean 'retina'"):
        read_spec({"format": "retna", "path": "x"})
