"""A small tree in the layout of Experanto."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from sweeps.recordings.examples.made_up import Example, areas, drives, films, pictures, save

START = 100.0
"""Seconds on the clock when the screen begins; the other devices begin a little earlier."""

FRAME_RATE, RATES = 30.0, {"responses": 8.0, "treadmill": 20.0, "eye_tracker": 19.0}


@dataclass(frozen=True)
class ExperantoExample(Example):
    """A session of `clips` shown once, `repeated` clips shown `repeats` times, and `stills`.

    Traps: every device has its own rate and start, units are sampled one after another (phase shifts); blank trials
    lie between the others; the trials of a repeated clip are apart; one picture is a PNG; one trial is not valid; the
    responses are a raw `data.mem`.
    """

    clips: int = 32
    repeated: int = 3
    repeats: int = 4
    stills: int = 8
    units: int = 10
    frames: int = 45
    height: int = 18
    width: int = 32

    def write(self, folder: Path, seed: int = 0) -> None:
        """Fill an empty folder, the same for the same seed and sizes."""
        random = np.random.default_rng([seed, 42])
        videos = films(self.clips + self.repeated, self.frames, self.height, self.width, random)
        stills = pictures(self.stills, self.height, self.width, random)
        order = np.concatenate([np.arange(self.clips), np.repeat(self.clips + np.arange(self.repeated), self.repeats)])
        trials = [("video", int(film)) for film in order] + [("image", index) for index in range(self.stills)]
        trials = [trials[index] for index in random.permutation(len(trials))]
        frames, clock = _screen(folder, trials, self.clips, {"video": videos, "image": stills})
        shifts = np.arange(self.units) * 0.1 / self.units
        _device(folder / "responses", _answers(frames, clock, shifts, random), clock, shifts, random)
        _device(folder / "treadmill", 1, clock, None, random)
        _device(folder / "eye_tracker", 3, clock, None, random)
        save(folder / "responses/meta/unit_ids.npy", 1 + np.arange(self.units))
        save(folder / "responses/meta/area.npy", areas(self.units))
        save(folder / "responses/meta/cell_motor_coordinates.npy", random.integers(-300, 300, (self.units, 3)))


def _screen(
    folder: Path, trials: list[tuple[str, int]], clips: int, stimuli: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Write the screen; what was on it (frames, height, width) and when (frames,) seconds."""
    blank = np.full((1, *stimuli["image"].shape[1:]), 128, np.uint8)
    frames: list[np.ndarray] = []
    times: list[float] = []
    begin = START
    for number, (kind, index) in enumerate([shown for trial in trials for shown in (trial, ("blank", 0))]):
        stored = blank if kind == "blank" else stimuli[kind][index] if kind == "video" else stimuli[kind][index][None]
        tier = "oracle" if kind == "video" and index >= clips else "train"
        meta = {"modality": kind, "first_frame_idx": len(times), "image_size": list(stored.shape[1:])}
        meta |= {"tier": tier, "condition_hash": f"{kind}{index}", "valid_trial": number != 2}
        meta |= {"num_frames": len(stored)} if kind == "video" else {}
        _write_yaml(folder / f"screen/meta/{number:05d}.yml", meta)
        _write_frames(folder / f"screen/data/{number:05d}", kind, index, stored)
        times += [begin + step / FRAME_RATE for step in range(len(stored))]
        frames += list(stored)
        begin = times[-1] + (1.2 if kind == "blank" else 0.5)
    save(folder / "screen/timestamps.npy", times)
    _write_yaml(folder / "screen/meta.yml", {"modality": "screen", "frame_rate": FRAME_RATE})
    return np.array(frames), np.array(times)


def _write_frames(path: Path, kind: str, index: int, stored: np.ndarray) -> None:
    """A clip or a picture; nothing for a blank."""
    if kind == "image" and index == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stored[0]).save(path.with_suffix(".png"))
    elif kind != "blank":
        save(path.with_suffix(".npy"), stored if kind == "video" else stored[0])


def _samples(device: str, clock: np.ndarray) -> np.ndarray:
    """Seconds of a device's samples, before phase shifts."""
    start, rate = START - 1.0 - 0.01 * len(device), RATES[device]
    return start + np.arange(int((clock[-1] + 3.0 - start) * rate)) / rate


def _answers(frames: np.ndarray, clock: np.ndarray, shifts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Responses (samples, units) to what is on the screen at each unit's own time, with noise."""
    drive = drives(frames, len(shifts), random)
    times = _samples("responses", clock)[:, None] + shifts
    frame = np.clip(np.searchsorted(clock, times) - 1, 0, len(clock) - 1)
    noise = 0.2 * random.standard_normal(times.shape)
    return np.asarray(np.maximum(np.take_along_axis(drive, frame, axis=0) + noise, 0).astype(np.float32))


def _device(
    folder: Path,
    values: np.ndarray | int,
    clock: np.ndarray,
    shifts: np.ndarray | None,
    random: np.random.Generator,
) -> None:
    """Write the samples of a device, or noise in so many signals, and its meta.yml."""
    times = _samples(folder.name, clock)
    data = random.standard_normal((len(times), values)) if isinstance(values, int) else values
    rate = RATES[folder.name]
    meta: dict[str, Any] = {"modality": "sequence", "sampling_rate": rate, "start_time": float(times[0])}
    meta |= {"end_time": float(times[-1]), "n_signals": data.shape[1], "n_timestamps": len(data)}
    meta |= {
        "dtype": str(data.dtype),
        "is_mem_mapped": shifts is not None,
        "phase_shift_per_signal": shifts is not None,
    }
    if shifts is None:
        save(folder / "data.npy", data)
    else:
        places = {name: f"meta/{name}.npy" for name in ("unit_ids", "cell_motor_coordinates", "area")}
        meta |= {"is_mem_mapped": True, "phase_shift_per_signal": True, "neuron_properties": places}
        folder.mkdir(parents=True, exist_ok=True)
        data.tofile(folder / "data.mem")
        save(folder / "meta/phase_shifts.npy", shifts)
    _write_yaml(folder / "meta.yml", meta)


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
