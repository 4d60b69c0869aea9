"""The format `simulated-video`: a simulated mouse that watches clips, with a known truth.

Areas read planted blocks of a small teacher (see video_teacher) at planted places; a unit's place in its area tells
where in the picture it looks. Planted latent factors, new on every trial and independent of the clip, may move many
units together; pupil size and running speed follow the first of them. Responses are Poisson counts or zero-inflated
gamma values, new for every repeat. The pupil's position is recorded, but does not matter to the responses.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.files import fresh_name, locked
from sweeps.io.guards.private_folder import is_believed, make_private
from sweeps.recordings.readers.clips import ClipRows
from sweeps.recordings.recording import Recording, RecordingFacts, StimulusSet
from sweeps.recordings.simulation.video_units import BLOCKS, VideoArea, draw_units, expected, respond, slow_noise
from sweeps.recordings.spec import RecordingSpec
from sweeps.recordings.split_rows import SplitBasis

if TYPE_CHECKING:
    from sweeps.recordings.simulation.video_teacher import VideoTeacher

VERSION = 1
"""Raise when the simulated numbers change."""

DEFAULT_AREAS = {
    "V1": VideoArea(depth=1),
    "LM": VideoArea(depth=2),
    "RL": VideoArea(depth=2),
    "AL": VideoArea(depth=3),
}

FRAME_RATE = 30.0


class SimulatedVideoSpec(RecordingSpec):
    """A simulated recording of clips.

    A share `repeated` of the clips is shown `repeats` times, the others once. `latents` factors of gain
    `latent_gain` (deviation of their sum, in units of the clip's own drive) remember a share `memory` of the frame
    before. `rate` is the scale of Poisson counts per frame. The responses to the first `skip` frames of a clip are
    missing. `shuffled` gives every clip the responses to another: the control that must fail.
    """

    format: Literal["simulated-video"]
    name: str = "simulated-video"
    seed: int = Field(0, ge=0)
    areas: dict[str, VideoArea] = Field(DEFAULT_AREAS, min_length=1)
    clips: int = Field(60, ge=6, le=5000)
    frames: int = Field(60, ge=8, le=1000)
    size: int = Field(18, ge=8, le=64)
    width: int = Field(32, ge=8, le=64)
    repeated: float = Field(0.2, ge=0, le=1)
    repeats: int = Field(8, ge=1, le=200)
    skip: int = Field(0, ge=0)
    response: Literal["poisson", "zero-inflated-gamma"] = "poisson"
    rate: float = Field(2.0, gt=0)
    latents: int = Field(0, ge=0, le=20)
    latent_gain: float = Field(0.7, ge=0)
    memory: float = Field(0.8, ge=0, lt=1)
    shuffled: bool = False

    def identity(self) -> str:
        """Content hash of what decides the simulated data."""
        return content_id([self.settings(), list(self.areas), VERSION])

    def shown(self) -> np.ndarray:
        """How often every clip is shown, (clips,)."""
        count = np.ones(self.clips, dtype=int)
        many = np.random.default_rng([self.seed, 30]).permutation(self.clips)[: round(self.repeated * self.clips)]
        count[many] = self.repeats
        return count

    def open(self, base: str, cache: Path) -> Recording:
        """Open the recording in this node's cache, made there first if need be."""
        self._check()
        home, identity = _made(self, cache), self.identity()
        areas = np.repeat(list(self.areas), [area.units for area in self.areas.values()])
        coordinates = draw_units(self.areas, self.seed, self.latents, self.latent_gain)["coordinates"]
        return Recording(
            self.recording_name(),
            identity,
            areas,
            {"fit": _stimuli(self, home, identity)},
            geometry=Geometry(size=self.size, width=self.width),
            coordinates=coordinates,
            frame_rate=FRAME_RATE,
        )

    def describe(self, base: str) -> RecordingFacts:
        """Return what the driver needs to know, without making the data. `notes["planted"]` is the truth."""
        self._check()
        depths = {} if self.shuffled else {name: area.depth for name, area in self.areas.items()}
        truth = {"blocks": BLOCKS, "depth": depths, "latents": self.latents, "response": self.response}
        return RecordingFacts(
            name=self.recording_name(),
            fingerprint=self.identity(),
            areas={name: area.units for name, area in self.areas.items()},
            stimuli=self.clips * self.frames,
            groups=self.clips,
            repeats=int(self.shown().max()),
            roles=("fit",),
            clips=self.clips,
            behaviour=True,
            pupil=True,
            coordinates=True,
            notes={"planted": truth},
            split_basis=SplitBasis(
                self.recording_name(),
                np.repeat([f"clip{index:05d}" for index in range(self.clips)], self.frames),
                np.repeat(self.shown(), self.frames),
            ),
        )

    def _check(self) -> None:
        for name, area in self.areas.items():
            if area.depth >= BLOCKS:
                problem = f"beyond the teacher, which has blocks 0 to {BLOCKS - 1}"
                raise InputError(problem, key=f"recordings.areas.{name}.depth", value=area.depth)
        if self.skip >= self.frames:
            raise InputError(f"leaves none of the {self.frames} frames", key="recordings.skip", value=self.skip)


def planted(spec: SimulatedVideoSpec) -> dict[str, np.ndarray]:
    """The truth of every unit, in the order of the recording: see `video_units.draw_units`."""
    depth = np.repeat([area.depth for area in spec.areas.values()], [area.units for area in spec.areas.values()])
    return {"depth": depth, **draw_units(spec.areas, spec.seed, spec.latents, spec.latent_gain)}


def noise_free(spec: SimulatedVideoSpec, cache: Path) -> np.ndarray:
    """Expected responses (rows, units), over noise and latent factors: what the clip alone explains."""
    return _array(_made(spec, cache), "rates")


def latent_factors(spec: SimulatedVideoSpec, cache: Path) -> np.ndarray:
    """The latent factors of every trial (rows, factors, repeats); NaN where a clip was not shown again."""
    return _array(_made(spec, cache), "latents")


# -- making it --------------------------------------------------------------------------------------


def _stimuli(spec: SimulatedVideoSpec, home: Path, identity: str) -> StimulusSet:
    """Return the clips as they lie in a node's cache, with all that was recorded."""
    rows = ClipRows.of(np.full(spec.clips, spec.frames))
    videos = np.load(home / "videos.npy", mmap_mode="r", allow_pickle=False)
    names = [f"clip{index:05d}" for index in range(spec.clips)]
    tiers = np.where(spec.shown() > 1, "oracle", "train")

    def load(clip: int, frames: slice) -> np.ndarray:
        return np.repeat(np.asarray(videos[clip, frames])[..., None], 3, axis=-1)

    return StimulusSet(
        rows.table(names, names, tiers),
        _array(home, "responses"),
        content_id([identity, "videos"]),
        rows.images((spec.size, spec.width), load),
        _array(home, "behaviour"),
        _array(home, "pupil"),
    )


def _array(home: Path, name: str) -> np.ndarray:
    return np.asarray(np.load(home / f"{name}.npy", allow_pickle=False))


def _made(spec: SimulatedVideoSpec, cache: Path) -> Path:
    """The folder of the data in this node's cache."""
    home = cache / "simulated" / spec.identity()
    with locked(home.with_suffix(".lock")):
        if not is_believed(home):
            fresh = fresh_name(home)
            make_private(fresh)
            for name, array in _make(spec).items():
                np.save(fresh / f"{name}.npy", array)
            shutil.rmtree(home, ignore_errors=True)  # one that another user can have written
            fresh.rename(home)
    return home


def _make(spec: SimulatedVideoSpec) -> dict[str, np.ndarray]:
    """Everything that is stored: see `SimulatedVideoSpec.open`, `noise_free`, `latent_factors`."""
    clips, teacher = _teacher(spec)
    truth = planted(spec)
    drive = _drive(spec, clips, teacher, truth)
    rates = expected(spec.response, truth, drive, spec.rate)
    drive = drive.reshape(spec.clips, spec.frames, -1)
    trials = _trials(spec, truth, drive)
    trials["responses"][:, : spec.skip] = np.nan
    whole = {name: array.reshape(spec.clips * spec.frames, *array.shape[2:]) for name, array in trials.items()}
    return {"videos": clips, "rates": rates, **whole}


def _trials(spec: SimulatedVideoSpec, truth: dict[str, np.ndarray], drive: np.ndarray) -> dict[str, np.ndarray]:
    """Responses, behaviour, pupil and latents, each (clips, frames, channels, repeats), NaN where nothing was shown."""
    shown = spec.shown()
    order = np.random.default_rng([spec.seed, 32]).permutation(spec.clips) if spec.shuffled else np.arange(spec.clips)
    widths = {"responses": drive.shape[2], "behaviour": 2, "pupil": 2, "latents": spec.latents}
    size = {name: (spec.clips, spec.frames, width, int(shown.max())) for name, width in widths.items()}
    kinds = {name: np.float64 if name == "latents" else np.float32 for name in widths}
    trials = {name: np.full(size[name], np.nan, kinds[name]) for name in widths}
    for clip in range(spec.clips):
        for repeat in range(shown[clip]):
            random = np.random.default_rng([spec.seed, 33, clip, repeat])
            latents = slow_noise((spec.frames, spec.latents), spec.memory, random)
            responses = respond(spec.response, truth, drive[order[clip]], latents, spec.rate, random)
            signals = (responses, _behaviour(latents, random), slow_noise((spec.frames, 2), 0.95, random), latents)
            for name, values in zip(widths, signals, strict=True):
                trials[name][clip, :, :, repeat] = values
    return trials


def _behaviour(latents: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Pupil size and running speed (frames, 2), which follow the first latent factor where there is one.

    size = 0.8 z + 0.6 noise; speed = softplus(0.7 z + 0.7 noise); without factors z is noise of their own.
    """
    noise = slow_noise((len(latents), 3), 0.9, random)
    lead = latents[:, 0] if latents.shape[1] else noise[:, 2]
    speed = np.logaddexp(0.0, 0.7 * lead + 0.7 * noise[:, 1])
    return np.column_stack([0.8 * lead + 0.6 * noise[:, 0], speed])


def _teacher(spec: SimulatedVideoSpec) -> tuple[np.ndarray, VideoTeacher]:
    from sweeps.recordings.simulation.video_teacher import VideoTeacher, draw_clips

    clips = draw_clips(spec.clips, spec.frames, (spec.size, spec.width), [spec.seed, 34])
    return clips, VideoTeacher.of(clips, BLOCKS, np.random.default_rng([spec.seed, 35]))


def _drive(
    spec: SimulatedVideoSpec, clips: np.ndarray, teacher: VideoTeacher, truth: dict[str, np.ndarray]
) -> np.ndarray:
    """What the clips do to the units, z-scored over all frames, (rows, units)."""
    drive = np.empty((spec.clips * spec.frames, len(truth["k"])))
    units = {int(block): np.flatnonzero(truth["depth"] == block) for block in np.unique(truth["depth"])}
    features = teacher.features(clips, {block: truth["position"][mine] for block, mine in units.items()})
    for block, mine in units.items():
        drive[:, mine] = np.einsum("nfuc,uc->nfu", features[block], truth["weights"][mine]).reshape(len(drive), -1)
    return np.asarray((drive - drive.mean(axis=0)) / drive.std(axis=0))
