"""The embedded default: a simulated recording with a known truth, so that a sweep's answer can be checked.

Areas read planted blocks of a teacher network through localised softplus units; responses are Poisson counts
with repeats. In every area a semantic axis (living against lifeless things) is a linear functional of the
area's *own* planted block, its gain growing by area, so it does not move the planted depth. The recording also
holds responses to object views, to captioned scenes, and to the captions alone (through the semantic axis).
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from models.backbones import BACKBONES
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.files import fresh_name, locked
from sweeps.io.guards.private_folder import is_believed, make_private
from sweeps.io.strict_model import Strict
from sweeps.recordings.formats.folder import Folder, read_folder
from sweeps.recordings.readers.screens import ImageSpec
from sweeps.recordings.recording import Recording, RecordingFacts
from sweeps.recordings.simulation.teacher import AreaUnits, TeacherArea, teacher_maps
from sweeps.recordings.spec import RecordingSpec
from sweeps.stimuli import scenes, shapes

VERSION = 1
"""Raise when the simulated numbers change."""


class Area(Strict):
    """A simulated area: the teacher's block that it reads, its units, and the gain of the semantic axis."""

    depth: int = Field(ge=0)
    units: int = Field(40, ge=2, le=2000)
    gain: float = Field(0.2, ge=0, lt=1)


DEFAULT_AREAS = {
    "V1": Area(depth=1, gain=0.1),
    "V2": Area(depth=4, gain=0.2),
    "V4": Area(depth=8, gain=0.35),
    "IT": Area(depth=13, gain=0.5),
}


class Teacher(Strict):
    """The network whose blocks the areas read."""

    backbone: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    weights: Literal["imagenet", "random"] = "imagenet"


class SimulatedSpec(RecordingSpec):
    """A simulated recording. `shuffled` pairs responses with stimuli at random: the control that must fail."""

    format: Literal["simulated"]
    name: str = "simulated"
    seed: int = Field(0, ge=0)
    teacher: Teacher = Teacher()
    areas: dict[str, Area] = DEFAULT_AREAS
    scenes: int = Field(600, ge=40, le=20000)
    captions: int = Field(160, ge=24, le=5000)
    rotations: int = Field(10, ge=4, le=72)
    repeats: int = Field(6, ge=2, le=100)
    rate: float = Field(5.0, gt=0)
    image: ImageSpec = ImageSpec()
    shuffled: bool = False

    def identity(self) -> str:
        """Content hash of what decides the simulated data."""
        versions = [VERSION, scenes.VERSION, BACKBONES[self.teacher.backbone].version]
        return content_id([self.settings(), list(self.areas), versions])

    def open(self, base: str, cache: Path) -> Recording:
        """Open the recording in this node's cache, made there first if need be."""
        home = recording_folder(self, cache)
        with locked(home.with_suffix(".lock")):
            if not is_believed(home):
                _make(self, home, cache)
        recording = read_folder(Folder(str(home)), self.recording_name(), self.image.geometry(), (), drawn=True)
        return replace(recording, fingerprint=self.identity())

    def describe(self, base: str) -> RecordingFacts:
        """Return what the driver needs to know, without making the data."""
        blocks = BACKBONES[self.teacher.backbone].block_count({})
        for name, area in self.areas.items():
            if area.depth >= blocks:
                raise InputError(
                    f"beyond the teacher: {self.teacher.backbone} has blocks 0 to {blocks - 1}",
                    key=f"recordings.areas.{name}.depth",
                    value=area.depth,
                )
        return RecordingFacts(
            name=self.recording_name(),
            fingerprint=self.identity(),
            areas={name: area.units for name, area in self.areas.items()},
            stimuli=self.scenes,
            groups=self.scenes,
            repeats=self.repeats,
            roles=("fit", "objects", "captions", "text"),
            texts=True,
            truth={} if self.shuffled else {name: area.depth for name, area in self.areas.items()},
            notes={"teacher": self.teacher.model_dump(), "shuffled": self.shuffled},
        )


def recording_folder(spec: SimulatedSpec, cache: Path) -> Path:
    """Return the folder of a node's cache that the recording is made in."""
    return cache / "simulated" / spec.identity()


def noise_free(spec: SimulatedSpec, cache: Path) -> np.ndarray:
    """Noise-free rates (scenes, units) of the `fit` stimuli: what the truth is computed from."""
    rates: np.ndarray = np.load(recording_folder(spec, cache) / "rates.npy", allow_pickle=False)
    return rates


# -- making it --------------------------------------------------------------------------------------


def _make(spec: SimulatedSpec, home: Path, cache: Path) -> None:
    pictures, table, living = _stimuli(spec)
    teacher = _Teacher.of(spec, pictures, living)
    rates = teacher.recorded()
    random = np.random.default_rng([spec.seed, 20])
    responses = random.poisson(rates[:, :, None], (*rates.shape, spec.repeats)).astype(np.float32)
    fit = np.flatnonzero([row["role"] == "fit" for row in table])
    if spec.shuffled:
        responses[fit] = responses[random.permutation(fit)]
    fresh = fresh_name(home)
    make_private(fresh)
    _write_folder(spec, fresh, pictures, table, responses)
    np.save(fresh / "rates.npy", rates[fit])
    shutil.rmtree(home, ignore_errors=True)
    fresh.rename(home)


def _stimuli(spec: SimulatedSpec) -> tuple[np.ndarray, list[dict[str, Any]], np.ndarray]:
    """Pictures (stimuli, size, size, 3), their table, and how living each scene is (views: 0)."""
    size = spec.image.size
    drawn = scenes.random_scenes(spec.scenes + spec.captions, spec.seed, size)
    rotations = [360.0 * turn / spec.rotations for turn in range(spec.rotations)]
    views, labels = scenes.object_views(tuple(shapes.KINDS), rotations, size, spec.seed)
    table: list[dict[str, Any]] = []
    for index, scene in enumerate(drawn):
        role = "fit" if index < spec.scenes else "captions"
        table.append({"file": f"scene{index:05d}.png", "role": role, "caption": scene.caption})
    for index, (kind, turn) in enumerate(zip(labels["object"], labels["rotation_deg"], strict=True)):
        table.append({"file": f"view{index:05d}.png", "role": "objects", "object": kind, "transform": turn})
    for row in table[spec.scenes : spec.scenes + spec.captions]:
        table.append({**row, "role": "text"})
    for row in table:
        row["group"] = row["file"]
    pictures = np.concatenate([np.stack([scene.image for scene in drawn]), views])
    living = np.array([scene.living for scene in drawn] + [0.0] * len(views))
    return pictures, table, living


@dataclass(frozen=True)
class _Teacher:
    """Every area of the teacher, with what was recorded from it."""

    spec: SimulatedSpec
    areas: dict[str, TeacherArea]
    maps: dict[int, np.ndarray]
    living: np.ndarray

    @classmethod
    def of(cls, spec: SimulatedSpec, pictures: np.ndarray, living: np.ndarray) -> _Teacher:
        """Draw every area's units from the maps of what is recorded (see _stimuli)."""
        maps = _maps(spec, pictures)
        areas = {name: _area(spec, name, maps[area.depth], living) for name, area in spec.areas.items()}
        return cls(spec, areas, maps, living)

    def viewing(self, maps: Mapping[int, np.ndarray]) -> np.ndarray:
        """Rates (stimuli, units) of pictures."""
        rates = [area.viewing(maps[self.spec.areas[name].depth]) for name, area in self.areas.items()]
        return np.concatenate(rates, 1)

    def recorded(self) -> np.ndarray:
        """Rates (stimuli, units) of everything recorded: scenes, captioned scenes, object views, captions read."""
        first, spec = self.living[: self.spec.scenes], self.spec
        axis = (self.living[spec.scenes : spec.scenes + spec.captions] - first.mean()) / first.std()
        texts = np.concatenate([area.reading(axis) for area in self.areas.values()], 1)
        return np.concatenate([self.viewing(self.maps), texts])


def _area(spec: SimulatedSpec, name: str, maps: np.ndarray, living: np.ndarray) -> TeacherArea:
    """Draw the units of an area, from the seed and its name."""
    area = spec.areas[name]
    population = AreaUnits(area.units, area.gain, spec.rate, scenes=spec.scenes, drawn=spec.scenes + spec.captions)
    return TeacherArea.of(maps, living, population, np.random.default_rng([spec.seed, 21, *name.encode()]))


def _maps(spec: SimulatedSpec, pictures: np.ndarray) -> dict[int, np.ndarray]:
    depths = [area.depth for area in spec.areas.values()]
    return teacher_maps(spec.teacher.backbone, spec.teacher.weights, spec.seed, depths, pictures)


def teacher_rates(spec: SimulatedSpec, others: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Noise-free rates (stimuli, units) of the teacher by role, and for pictures that were not recorded by name.

    `others` are pictures (rows, size, size, 3) in the recording's geometry.
    """
    pictures, table, living = _stimuli(spec)
    teacher = _Teacher.of(spec, pictures, living)
    rates, roles = teacher.recorded(), np.array([row["role"] for row in table])
    recorded = {role: rates[roles == role] for role in dict.fromkeys(roles.tolist())}
    return recorded | {name: teacher.viewing(_maps(spec, shown)) for name, shown in others.items()}


def _write_folder(
    spec: SimulatedSpec,
    folder: Path,
    pictures: np.ndarray,
    table: list[dict[str, Any]],
    responses: np.ndarray,
) -> None:
    with zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_STORED) as archive:
        for row, picture in zip(table, pictures, strict=False):
            content = io.BytesIO()
            Image.fromarray(picture).save(content, "PNG", compress_level=1)
            archive.writestr(zipfile.ZipInfo(row["file"]), content.getvalue())
    columns = ["file", "group", "role", "object", "transform", "caption"]
    with open(folder / "stimuli.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(table)
    with open(folder / "units.csv", "w", newline="") as file:
        units = csv.writer(file)
        units.writerow(["unit", "area"])
        areas = [name for name, area in spec.areas.items() for _ in range(area.units)]
        units.writerows(enumerate(areas))
    np.save(folder / "responses.npy", responses)
    (folder / "recording.yaml").write_text(json.dumps(spec.model_dump(mode="json"), indent=1))
