"""What a twin is shown: the recording's own stimuli and those of probes, as pictures or as texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from models.inputs.geometry import Geometry
from sweeps.hashing import content_id, digest_bytes
from sweeps.probes import Probe, shown_kinds
from sweeps.recordings.recording import Recording

Pictures = Callable[[Probe, Geometry], Callable[[slice], np.ndarray]]
"""A probe and its geometry -> what loads a slice of its pictures."""


@dataclass(frozen=True)
class ShownStimuli:
    """Stimuli that a twin is shown: identity of their content, their number, and how to load a slice of them.

    Pictures are uint8 (rows, height, width, 3); texts are a list. `role` is set where the rows hang together, as the
    samples of a story do: they are then read whole.
    """

    key: str
    count: int
    load: Callable[[slice], Any]
    role: str | None = None


def shown_pictures(
    recording: Recording, kinds: Iterable[str], open_probe: Callable[[str], Probe | None], pictures: Pictures
) -> dict[str, ShownStimuli]:
    """Pictures by name: "fit", "recorded.ROLE" and "probe.KIND"; probes only for a recording with pictures."""
    shown: dict[str, ShownStimuli] = {}
    for role, stimuli in recording.sets.items():
        if stimuli.images is not None:
            shown[_name(role)] = ShownStimuli(stimuli.key, len(stimuli.table), stimuli.images)
    if not shown or recording.geometry is None:
        return shown
    geometry = replace(recording.geometry, crop=1.0)  # probes are shown whole
    for kind in shown_kinds(kinds):
        probe = open_probe(kind)
        if probe is not None:
            key = digest_bytes([probe.fingerprint.encode(), geometry.key().encode()])
            shown[f"probe.{kind}"] = ShownStimuli(key, len(probe), pictures(probe, geometry))
    return shown


def shown_texts(recording: Recording, captioned: Probe | None) -> dict[str, ShownStimuli]:
    """Stories that the recording's samples follow, else captions of its stimuli, and of the captioned probe."""
    shown = {}
    for role, stimuli in recording.sets.items():
        if recording.words is not None and {"run", "time"} <= set(stimuli.table):
            key = content_id([recording.fingerprint, "words", role])
            shown[_name(role)] = ShownStimuli(key, len(stimuli.table), lambda rows: [], role)
        elif "caption" in stimuli.table:
            shown[_name(role)] = _captions(stimuli.table)
    return shown if captioned is None else {**shown, "probe.captions": _captions(captioned.table)}


def _name(role: str) -> str:
    return "fit" if role == "fit" else f"recorded.{role}"


def _captions(table: pd.DataFrame) -> ShownStimuli:
    texts = table["caption"].tolist()
    return ShownStimuli(content_id(["captions", texts]), len(texts), lambda rows: texts[rows])
