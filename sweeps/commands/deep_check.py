"""`sweeps check --deep`: every stimulus of every recording is read once, so that no damaged file is met days later."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sweeps.errors import InputError
from sweeps.planning.plan import Plan
from sweeps.recordings import open_recording
from sweeps.recordings.recording import Recording, StimulusSet

PICTURES = 64
"""Pictures that are read at a time."""

MOST = 5
"""Bad files that are named of every recording."""

Advance = Callable[[str, int, int], None]
"""Told the recording, how many of its stimuli were read, and how many it has."""


def read_stimuli(plan: Plan, advance: Advance) -> list[str]:
    """Read all stimuli of a plan's recordings; return what is wrong, at most `MOST` lines of each recording."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as cache:
        for raw in plan.experiment.recordings:
            recording = open_recording(raw, plan.base, Path(cache))
            assert recording is not None
            problems = list(dict.fromkeys(_problems(recording, advance)))
            lines += problems[:MOST]
            if len(problems) > MOST:
                lines.append(f"{recording.name}: and {len(problems) - MOST} more files that cannot be read")
    return lines


def _problems(recording: Recording, advance: Advance) -> Iterator[str]:
    parts = [(stimuli, rows) for stimuli in recording.sets.values() for rows in _parts(stimuli)]
    total = sum(rows.stop - rows.start for _, rows in parts)
    done = 0
    for stimuli, rows in parts:
        yield from _unread(stimuli, rows)
        done += rows.stop - rows.start
        advance(recording.name, done, total)


def _parts(stimuli: StimulusSet) -> Iterator[slice]:
    """Rows that are read together: those of a clip, else some pictures; none where there are no pictures."""
    if stimuli.images is None:
        return
    if stimuli.clips:
        yield from (slice(int(rows[0]), int(rows[-1]) + 1) for rows in stimuli.clips)
        return
    count = len(stimuli.table)
    yield from (slice(start, min(start + PICTURES, count)) for start in range(0, count, PICTURES))


def _unread(stimuli: StimulusSet, rows: slice) -> Iterator[str]:
    """Say what cannot be read of some rows; where several pictures were read together, of each by itself."""
    assert stimuli.images is not None
    try:
        stimuli.images(rows)
    except InputError as error:
        if stimuli.clips or rows.stop - rows.start == 1:
            yield str(error)
            return
        for row in range(rows.start, rows.stop):
            yield from _unread(stimuli, slice(row, row + 1))
