"""Recordings: a new format is one new file and one line in FORMATS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sweeps.errors import InputError
from sweeps.io.strict_model import from_validation
from sweeps.recordings.formats.algonauts import AlgonautsSpec, describe_algonauts, open_algonauts
from sweeps.recordings.formats.allen import AllenSpec, describe_allen, open_allen
from sweeps.recordings.formats.experanto import describe_experanto, open_experanto
from sweeps.recordings.formats.experanto_screen import ExperantoSpec
from sweeps.recordings.formats.folder import FolderSpec, describe_folder, open_folder
from sweeps.recordings.formats.lebel import LebelSpec, describe_lebel, open_lebel
from sweeps.recordings.formats.nsd import NsdSpec, describe_nsd, open_nsd
from sweeps.recordings.formats.sensorium_dynamic import (
    SensoriumDynamicSpec,
    describe_sensorium_dynamic,
    open_sensorium_dynamic,
)
from sweeps.recordings.formats.sensorium_static import (
    SensoriumStaticSpec,
    describe_sensorium_static,
    open_sensorium_static,
)
from sweeps.recordings.formats.shortclips import ShortclipsSpec, describe_shortclips, open_shortclips
from sweeps.recordings.recording import Recording, RecordingFacts
from sweeps.recordings.simulation.simulated import SimulatedSpec, describe_simulated, open_simulated
from sweeps.recordings.simulation.simulated_video import (
    SimulatedVideoSpec,
    describe_simulated_video,
    open_simulated_video,
)


@dataclass(frozen=True)
class Format:
    """One on-disk format: its section of the experiment file, how it is described and how it is opened."""

    spec: type[BaseModel]
    describe: Callable[[Any, str], RecordingFacts]
    open: Callable[[Any, str, Path], Recording]


FORMATS: dict[str, Format] = {
    "folder": Format(FolderSpec, describe_folder, open_folder),
    "simulated": Format(SimulatedSpec, describe_simulated, open_simulated),
    "sensorium-static": Format(SensoriumStaticSpec, describe_sensorium_static, open_sensorium_static),
    "sensorium-dynamic": Format(SensoriumDynamicSpec, describe_sensorium_dynamic, open_sensorium_dynamic),
    "experanto": Format(ExperantoSpec, describe_experanto, open_experanto),
    "allen-nwb": Format(AllenSpec, describe_allen, open_allen),
    "nsd": Format(NsdSpec, describe_nsd, open_nsd),
    "algonauts": Format(AlgonautsSpec, describe_algonauts, open_algonauts),
    "lebel": Format(LebelSpec, describe_lebel, open_lebel),
    "shortclips": Format(ShortclipsSpec, describe_shortclips, open_shortclips),
    "simulated-video": Format(SimulatedVideoSpec, describe_simulated_video, open_simulated_video),
}


def read_spec(raw: Mapping[str, Any], key: str = "recordings") -> Any:
    """The checked section of one recording; InputError otherwise."""
    name = raw.get("format")
    if not isinstance(name, str) or name not in FORMATS:
        raise InputError("unknown format", key=f"{key}.format", value=name, allowed=FORMATS)
    try:
        return FORMATS[name].spec.model_validate(dict(raw))
    except ValidationError as error:
        raise from_validation(error, FORMATS[name].spec, None, f"{key}.") from None


def describe(recordings: list[dict[str, Any]], base: str) -> list[RecordingFacts]:
    """Facts of every recording of an experiment; names must differ."""
    facts: list[RecordingFacts] = []
    for index, raw in enumerate(recordings):
        spec = read_spec(raw, f"recordings.{index}")
        found = FORMATS[spec.format].describe(spec, base)
        if found.name in [each.name for each in facts]:
            raise InputError(
                "two recordings of one name: give one of them a `name`",
                key=f"recordings.{index}",
                value=found.name,
            )
        facts.append(found)
    return facts


def open_recording(raw: Mapping[str, Any], base: str, cache: Path, name: str | None = None) -> Recording | None:
    """Open a recording, or return None when `name` is given and is another's."""
    spec = read_spec(raw)
    if name is not None and spec.recording_name() != name:
        return None
    return FORMATS[spec.format].open(spec, base, cache)
