"""The format `allen-nwb`: one experiment of the Allen Brain Observatory (Visual Coding, two-photon), one NWB file.

Read are the responses to natural scenes: the mean dF/F of every cell over each presentation. A scene's presentations
are its repeats; the blank (frame -1) is left out unless it is asked for, as a grey picture. Running speed stands on
its own clock: it may begin after the traces and end before them. The file says which version of NWB it is (see
sweeps.recordings.readers.nwb): 1.0 as the AllenSDK has it, or 2 as DANDI hands it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from models.inputs.geometry import MID_GREY, Geometry
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.recordings.contents import Contents, in_joined, joined_notes
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.hdf5 import digest
from sweeps.recordings.readers.nwb.opening import nwb_file, read_session
from sweeps.recordings.readers.nwb.session import ImagingSession
from sweeps.recordings.readers.screens import ImageSpec
from sweeps.recordings.recording import Recording, StimulusSet, check_groups, check_responses
from sweeps.recordings.spec import StoredSpec
from sweeps.recordings.units import UnitChoice, choose_units
from sweeps.stimuli.picture_contents import content_of, sketch_of


class AllenSpec(StoredSpec, UnitChoice):
    """One NWB file, or a folder that holds one.

    `blank` keeps the blank; `after` samples are added to the window of each presentation.
    """

    format: Literal["allen-nwb"]
    image: ImageSpec = ImageSpec()
    blank: bool = False
    after: int = Field(0, ge=0, le=100)

    def default_name(self) -> str:
        """Return the name of the file."""
        return super().default_name().removesuffix(".nwb")

    def open(self, base: str, cache: Path) -> Recording:
        """Read the file; InputError names it and what was expected."""
        url = nwb_file(join(base, self.path))
        session = read_session(url, self.area)
        self._check_blank(session, url)
        cells = len(session.traces)
        areas = None if session.area is None else np.full(cells, session.area)
        units = choose_units(self, cells, areas, None, url)
        scenes, responses, running = _averaged(session, units.rows, self)
        check_responses(responses, url, units.rows)
        geometry = self.image.geometry()
        names = np.array([f"scene{scene:03d}" if scene >= 0 else "blank" for scene in scenes])
        contents = _contents(session.template, scenes, names)
        joined = contents.joined_groups()
        groups = in_joined(names.tolist(), joined)
        rules = applied({"labels": units.cleaned, "equal-content": bool(joined)})
        identity = refined(content_id([digest(url), self.settings()]), rules)
        table, load = pd.DataFrame({"file": names, "group": groups}), _pictures(session.template, scenes, geometry)
        fit = StimulusSet(table, responses, content_id([identity, "scenes"]), load, running)
        check_groups(fit, url, units.rows)
        return Recording(
            self.recording_name(),
            identity,
            units.areas,
            {"fit": fit},
            geometry=geometry,
            notes={**session.notes, **joined_notes(names, groups)},
            contents=contents.in_groups(joined),
        )

    def _check_blank(self, session: ImagingSession, url: str) -> None:
        if self.blank and not session.blank_known:
            problem = (
                "blanks were stored as scene 0 when the file was converted, and cannot be told from it: leave it out"
            )
            raise InputError(problem, file=url, key="blank", value=True)


def _averaged(session: ImagingSession, cells: np.ndarray, spec: AllenSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scenes that were shown (scenes,) and means over their presentations, the repeats.

    These are responses (scenes, cells, repeats) float32 and running speeds (scenes, 1, repeats), both NaN where there
    is no such repeat, or where a sample is missing.
    """
    presentations = np.flatnonzero(session.scenes >= 0) if not spec.blank else np.arange(len(session.scenes))
    scenes, counts = np.unique(session.scenes[presentations], return_counts=True)
    responses = np.full((len(scenes), len(cells), counts.max()), np.nan, dtype=np.float32)
    running = np.full((len(scenes), 1, counts.max()), np.nan)
    repeat = np.zeros(len(scenes), dtype=int)
    for place in presentations:
        row, (start, end) = int(np.searchsorted(scenes, session.scenes[place])), session.windows[place]
        during = slice(start, end + spec.after)
        responses[row, :, repeat[row]] = session.traces[cells, during].mean(axis=1)
        running[row, 0, repeat[row]] = session.running[during].mean()
        repeat[row] += 1
    return scenes, responses, running


def _contents(template: Sequence[np.ndarray], scenes: np.ndarray, groups: np.ndarray) -> Contents:
    """What the scenes show, the blank left out: it is no picture of the file."""
    shown = np.flatnonzero(scenes >= 0)
    pairs = [(sketch_of(template[scene]), content_of(template[scene])) for scene in scenes[shown]]
    return Contents.of(groups[shown], pairs)


def _pictures(template: Sequence[np.ndarray], scenes: np.ndarray, geometry: Geometry) -> Callable[[slice], np.ndarray]:
    """Return what loads the pictures of a slice of scenes; the blank is grey."""
    blank = np.full(template[0].shape, MID_GREY, np.uint8)

    def load(rows: slice) -> np.ndarray:
        pictures = (blank if scene < 0 else template[scene] for scene in scenes[rows])
        return np.stack([geometry.apply(Image.fromarray(np.asarray(picture, dtype=np.uint8))) for picture in pictures])

    return load
