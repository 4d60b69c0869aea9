"""Recordings: a new format is one new file and one line in FORMATS. No format is imported before it is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from models.registry import Registry, UndeclaredName, UnknownName
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.strict_model import from_validation
from sweeps.recordings.recording import Recording, RecordingFacts
from sweeps.recordings.spec import RecordingSpec

__all__ = ["FORMATS", "Recording", "RecordingFacts", "RecordingSpec", "describe", "open_recording", "read_spec"]

FORMATS: Registry[type[RecordingSpec]] = Registry(
    "formats",
    RecordingSpec,
    {
        "folder": "sweeps.recordings.formats.folder:FolderSpec",
        "simulated": "sweeps.recordings.simulation.simulated:SimulatedSpec",
        "sensorium-static": "sweeps.recordings.formats.sensorium_static:SensoriumStaticSpec",
        "sensorium-dynamic": "sweeps.recordings.formats.sensorium_dynamic:SensoriumDynamicSpec",
        "experanto": "sweeps.recordings.formats.experanto:ExperantoSpec",
        "allen-nwb": "sweeps.recordings.formats.allen:AllenSpec",
        "nsd": "sweeps.recordings.formats.nsd:NsdSpec",
        "algonauts": "sweeps.recordings.formats.algonauts:AlgonautsSpec",
        "lebel": "sweeps.recordings.formats.lebel:LebelSpec",
        "shortclips": "sweeps.recordings.formats.shortclips:ShortclipsSpec",
        "simulated-video": "sweeps.recordings.simulation.simulated_video:SimulatedVideoSpec",
    },
    classes=True,
)
"""Format -> `module:class` of its section of the experiment file; a laboratory's own come by entry point or path."""


Described = TypeVar("Described", Recording, RecordingFacts)


def read_spec(raw: Mapping[str, Any], key: str = "recordings") -> RecordingSpec:
    """Return the checked section of one recording; InputError otherwise."""
    spec = _format(raw.get("format"), f"{key}.format")
    try:
        return spec.model_validate(dict(raw))
    except ValidationError as error:
        raise from_validation(error, spec, None, f"{key}.") from None


def _format(name: Any, key: str) -> type[RecordingSpec]:
    """Look a format up; InputError lists what there is, or says why a plug-in cannot be used."""
    if not isinstance(name, str):
        raise InputError("unknown format", key=key, value=name, allowed=FORMATS)
    try:
        return FORMATS[name]
    except UndeclaredName:
        raise InputError("unknown format", key=key, value=name, allowed=FORMATS) from None
    except UnknownName as error:
        raise InputError(error.problem, key=key, value=name) from None


def published_sets() -> dict[str, str]:
    """Return the formats of this project whose data have a published report set, and what that is."""
    sets = {name: FORMATS[name].published for name in FORMATS.builtin}
    return {name: what for name, what in sets.items() if what}


def describe(recordings: list[dict[str, Any]], base: str) -> list[RecordingFacts]:
    """Return the facts of every recording of an experiment; names must differ."""
    described: list[RecordingFacts] = []
    for index, raw in enumerate(recordings):
        spec = read_spec(raw, f"recordings.{index}")
        facts = _stated(spec.describe(base), spec)
        if facts.name in [other.name for other in described]:
            raise InputError(
                "two recordings of one name: give one of them a `name`",
                key=f"recordings.{index}",
                value=facts.name,
            )
        described.append(facts)
    return described


def open_recording(raw: Mapping[str, Any], base: str, cache: Path, name: str | None = None) -> Recording | None:
    """Open a recording, or return None when `name` is given and is another's."""
    spec = read_spec(raw)
    if name is not None and spec.recording_name() != name:
        return None
    return _stated(spec.open(base, cache), spec)


def _stated(recording: Described, spec: RecordingSpec) -> Described:
    """Let the name and stated version of a plug-in be part of the fingerprint of what it reads."""
    if spec.format in FORMATS.builtin:
        return recording
    return replace(recording, fingerprint=content_id([recording.fingerprint, spec.format, spec.version]))
