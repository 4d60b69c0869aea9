"""The format `simulated-video`: a simulated mouse that watches clips, with a known truth.

Areas read planted blocks of a small teacher (see video_teacher) at planted places; a unit's place in its area tells
where in the picture it looks. Planted latent factors, new on every trial and independent of the clip, may move many
units together; pupil size and running speed follow the first of them. Responses are Poisson counts or zero-inflated
gamma values, new for every repeat. The pupil's position is recorded, but does not matter to the responses.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.files import fresh_name, locked
from sweeps.io.strict_model import Strict
from sweeps.recordings.readers.clips import ClipRows
from sweeps.recordings.recording import Recording, RecordingFacts, StimulusSet
from sweeps.recordings.simulation.video_units import BLOCKS, VideoArea, draw_units, expected, respond, slow_noise

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


class SimulatedVideoSpec(Strict):
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

    def recording_name(self) -> str:
        """Name in the tables."""
        return self.name

    def identity(self) -> str:
        """Content hash of what decides the simulated data."""
        held = self.model_dump(mode="json", exclude={"name"})
        return content_id([held, list(self.areas), VERSION])

    def shown(self) -> np.ndarray:
        """How often every clip is shown, (clips,)."""
        count = np.ones(self.clips, dtype=int)
        many = np.random.default_rng([self.seed, 30]).permutation(self.clips)[: round(self.repeated * self.clips)]
        count[many] = self.repeats
        return count


def describe_simulated_video(spec: SimulatedVideoSpec, base: str) -> RecordingFacts:
    """What the driver needs to know, without making the data. `notes["planted"]` is the truth."""
    for name, area in spec.areas.items():
        if area.depth >= BLOCKS:
            problem = f"beyond the teacher, which has blocks 0 to {BLOCKS - 1}"
            raise InputError(problem, key=f"recordings.areas.{name}.depth", value=area.depth)
    if spec.skip >= spec.frames:
        raise InputError(f"leaves none of the {spec.frames} frames", key="recordings.skip", value=spec.skip)
    depths = {} if spec.shuffled else {name: area.depth for name, area in spec.areas.items()}
    return RecordingFacts(
        name=spec.name,
        fingerprint=spec.identity(),
        areas={name: area.units for name, area in spec.areas.items()},
        stimuli=spec.clips * spec.frames,
        groups=spec.clips,
        repeats=int(spec.shown().max()),
        roles=("fit",),
        clips=spec.clips,
        behaviour=True,
        pupil=True,
        coordinates=True,
        notes={"planted": {"blocks": BLOCKS, "depth": depths, "latents": spec.latents, "response": spec.response}},
    )


def open_simulated_video(spec: SimulatedVideoSpec, base: str, cache: Path) -> Recording:
    """Open the recording in this node's cache, made there first if need be."""
    describe_simulated_video(spec, base)
    home = _made(spec, cache)
    rows = ClipRows.of(np.full(spec.clips, spec.frames))
    videos = np.load(home / "videos.npy", mmap_mode="r", allow_pickle=False)
    names = [f"clip{index:05d}" for index in range(spec.clips)]
    tiers = np.where(spec.shown() > 1, "oracle", "train")
    identity = spec.identity()

    def load(clip: int, frames: slice) -> np.ndarray:
        return np.repeat(np.asarray(videos[clip, frames])[..., None], 3, axis=-1)

    fit = StimulusSet(
        rows.table(names, names, tiers),
        _array(home, "responses"),
        content_id([identity, "videos"]),
        rows.images((spec.size, spec.width), load),
        _array(home, "behaviour"),
        _array(home, "pupil"),
    )
    areas = np.repeat(list(spec.areas), [area.units for area in spec.areas.values()])
    geometry = Geometry(size=spec.size, width=spec.width)
    coordinates = draw_units(spec.areas, spec.seed, spec.latents, spec.latent_gain)["coordinates"]
    return Recording(
        spec.name, identity, areas, {"fit": fit}, geometry=geometry, coordinates=coordinates, frame_rate=FRAME_RATE
    )


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


def block_correlations(spec: SimulatedVideoSpec) -> dict[str, np.ndarray]:
    """How well each block explains each area without noise, {area: (blocks,)}: which depths can be told apart.

    Mean correlation, over units and on the second half of the clips, of each unit's drive with its prediction by
    least squares, fitted on the first half, from the channels of that block at the unit's own place. 1 for the planted
    block; another block could do better than this from a wider patch.
    """
    clips, teacher = _teacher(spec)
    truth = planted(spec)
    drive, half = _drive(spec, clips, teacher, truth), spec.clips // 2 * spec.frames
    table = np.empty((drive.shape[1], BLOCKS))
    for block, found in teacher.features(clips, dict.fromkeys(range(BLOCKS), truth["position"])).items():
        features = found.reshape(len(drive), drive.shape[1], -1)
        for unit in range(drive.shape[1]):
            table[unit, block] = _explained(features[:, unit], drive[:, unit], half)
    ends = np.cumsum([area.units for area in spec.areas.values()])
    return {name: part.mean(axis=0) for name, part in zip(spec.areas, np.split(table, ends[:-1]), strict=True)}


# -- making it --------------------------------------------------------------------------------------


def _array(home: Path, name: str) -> np.ndarray:
    return np.asarray(np.load(home / f"{name}.npy", allow_pickle=False))


def _made(spec: SimulatedVideoSpec, cache: Path) -> Path:
    """The folder of the data in this node's cache."""
    home = cache / "simulated" / spec.identity()
    with locked(home.with_suffix(".lock")):
        if not home.exists():
            fresh = fresh_name(home)
            fresh.mkdir(parents=True)
            for name, array in _make(spec).items():
                np.save(fresh / f"{name}.npy", array)
            fresh.rename(home)
    return home


def _make(spec: SimulatedVideoSpec) -> dict[str, np.ndarray]:
    """Everything that is kept: see `open_simulated_video`, `noise_free`, `latent_factors`."""
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
    held = {name: np.full(size[name], np.nan, kinds[name]) for name in widths}
    for clip in range(spec.clips):
        for repeat in range(shown[clip]):
            random = np.random.default_rng([spec.seed, 33, clip, repeat])
            latents = slow_noise((spec.frames, spec.latents), spec.memory, random)
            answer = respond(spec.response, truth, drive[order[clip]], latents, spec.rate, random)
            found = (answer, _behaviour(latents, random), slow_noise((spec.frames, 2), 0.95, random), latents)
            for name, values in zip(widths, found, strict=True):
                held[name][clip, :, :, repeat] = values
    return held


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


def _explained(features: np.ndarray, drive: np.ndarray, half: int) -> float:
    """Correlation on the second half of least squares fitted on the first."""
    design = np.column_stack([features, np.ones(len(features))])
    weights, *_ = np.linalg.lstsq(design[:half], drive[:half], rcond=None)
    return float(np.corrcoef(design[half:] @ weights, drive[half:])[0, 1])
