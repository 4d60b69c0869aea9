"""Sections of `recordings:`: what every format has in common. A format is a subclass with `open`."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from sweeps.io.strict_model import Strict
from sweeps.recordings.recording import Recording, RecordingFacts
from sweeps.recordings.units import UnitChoice


class RecordingSpec(Strict):
    """One recording of an experiment file: its format, its name, and what a subclass adds.

    A format of this project narrows `format` to its own name. One from elsewhere leaves it a text, since it may be
    named by an entry point or by a dotted path. `version` is that of the format's reader: raised when the same files
    give other numbers. It is part of no identity. `published` says what the published report set of the format's data
    is, where there is one: its reader then fills the table's column `published_set` (train, report or unused).
    """

    version: ClassVar[int] = 1
    published: ClassVar[str] = ""

    format: str
    name: str | None = None

    def recording_name(self) -> str:
        """Return the name in the tables: `name`, else the format's own choice."""
        return self.name or self.default_name()

    def default_name(self) -> str:
        """Return the name of a recording that is given none."""
        return self.format

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers beside the files: all but the name and the place."""
        return self.model_dump(mode="json", exclude={"path", "name"})

    @abstractmethod
    def open(self, base: str, cache: Path) -> Recording:
        """Read the recording; InputError names the file and what was expected.

        `base` is the folder or URL that relative paths start from, `cache` this node's folder for what is made once.
        """

    def describe(self, base: str) -> RecordingFacts:
        """Return what the driver needs to know; opens the recording, since its identity is its content."""
        with tempfile.TemporaryDirectory() as cache:
            return self.open(base, Path(cache)).facts()


class StoredSpec(RecordingSpec):
    """A recording in files, called by the last part of its path."""

    path: str

    def default_name(self) -> str:
        """Return the last part of the path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]


class SubjectSpec(StoredSpec, UnitChoice):
    """One subject of a data set of several, called by the subject."""

    subject: str = Field(min_length=1)

    def default_name(self) -> str:
        """Return the subject."""
        return self.subject
