"""The screen of an Experanto tree: trials, tiers, frames, and which trials show the same."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from models.inputs.geometry import opaque
from sweeps.errors import InputError, listed
from sweeps.hashing import content_id
from sweeps.io.labels import clean_label
from sweeps.io.safe_yaml import read_yaml
from sweeps.recordings.contents import Contents, clip_keys
from sweeps.recordings.readers.clips import ClipRows
from sweeps.recordings.readers.file_tree import Tree, as_mapping, is_below
from sweeps.recordings.readers.screens import (
    Brightness,
    Presentations,
    ScreenPictureSpec,
    arrange,
    as_pixels,
    content_key,
    linked,
    near_copies,
    show,
    signature,
)
from sweeps.recordings.spec import StoredSpec
from sweeps.recordings.units import UnitChoice
from sweeps.stimuli.images import changed_by, decoded
from sweeps.stimuli.picture_contents import content_of, sketch_of
from sweeps.stimuli.picture_file import Exif, opened

PICTURES = (".png", ".jpg", ".jpeg")

SCREEN = "screen/meta.yml"

NAMES = "use_stimuli_names"
"""The switch of screen/meta.yml with which every trial's `stimulus_name`, not its own key, is that of its file."""

TRANSFORMATIONS = re.compile(
    r"flip(ped)?|mirror(ed)?|invert(ed)?|reversed?|backwards?|rotated?|transposed?|shuffled?|scrambled?|crop(ped)?"
    r"|mask(ed)?|rescaled?|resized?"
)
"""Words in keys that would change what is shown, if they were obeyed."""

REDIRECTIONS = re.compile(
    r"(data|stimulus|stimuli)_(file|file_name|path|folder|dir)|data_name|frame_(offset|order|indices|step|stride)"
    r"|playback_(rate|speed)"
)
"""Keys that would show another file, or other frames of it."""

NEUTRAL: tuple[Any, ...] = (None, False, 0, "", "none", "None", [])
"""Values with which a switch changes nothing."""


class ExperantoOptions(StoredSpec, UnitChoice):
    """The settings of an Experanto folder.

    `modality` says what is read: clips, whose responses are taken at the time of every frame, or pictures, whose
    responses are averaged over `window` seconds. Both begin `delay` seconds after the frame. `tiers`: all by default.
    `pupil` are the signals of the eye tracker that hold the pupil's centre; its other signals follow those of the
    treadmill as behaviour. `match`, `skip`, `frames`, `normalise`: as in `sensorium-dynamic`.
    """

    format: Literal["experanto"]
    image: ScreenPictureSpec = ScreenPictureSpec()
    modality: Literal["video", "image"] = "video"
    tiers: tuple[str, ...] = Field((), strict=False)
    match: Literal["content", "condition", "near"] = "content"
    delay: float = 0.0
    window: float = Field(0.5, gt=0)
    skip: int = Field(0, ge=0)
    frames: int | None = Field(None, ge=1)
    repeats: int | None = Field(None, ge=1)
    pupil: tuple[int, int] | None = Field(None, strict=False)
    normalise: Literal["std", "none"] = "std"
    white: float = Field(255.0, gt=0)
    memory_gb: float = Field(16.0, gt=0)

    def options(self) -> str:
        """Identity of what decides the numbers beside the files."""
        return content_id(self.model_dump(mode="json", exclude={"path", "name", "memory_gb"}))


@dataclass(frozen=True)
class Trial:
    """One trial on the screen: its key, file, tier, condition, first frame and number of frames."""

    key: str
    file: str
    tier: str
    condition: str
    first: int
    frames: int


def read_trials(tree: Tree, spec: ExperantoOptions) -> list[Trial]:
    """The valid trials of the chosen kind and tiers, in order of their numbers."""
    metas, named = _labelled(tree, _metas(tree)), _named(tree)
    of_kind = {key: meta for key, meta in metas.items() if meta.get("modality") == spec.modality}
    if not of_kind:
        kinds = sorted({str(meta.get("modality")) for meta in metas.values()})
        problem = f"no trial shows a {spec.modality}; there are {listed(kinds)}"
        raise InputError(problem, file=tree.file("screen/meta"), key="modality", value=spec.modality)
    present = sorted({str(meta.get("tier")) for meta in of_kind.values()})
    wanted = [clean_label(tier) for tier in spec.tiers]
    for tier in wanted:
        if tier not in present:
            raise InputError("unknown tier", file=tree.file("screen/meta"), key="tiers", value=tier, allowed=present)
    tiers = wanted or present
    chosen = {key: meta for key, meta in of_kind.items() if str(meta.get("tier")) in tiers}
    valid = [key for key, meta in chosen.items() if meta.get("valid_trial", True)]
    if not valid:
        raise InputError("no valid trial belongs to these tiers", file=tree.file("screen/meta"), value=list(tiers))
    return [_trial(tree, key, chosen[key], spec, named) for key in valid]


def shows_others(trials: Sequence[Trial]) -> bool:
    """Tell whether names of stimuli lead to other files than the trials' own keys."""
    return any(posixpath.splitext(trial.file)[0] != f"screen/data/{trial.key}" for trial in trials)


def _named(tree: Tree) -> bool:
    """Tell whether files are named by stimuli; the settings of a screen are not remembered in the tree's digest."""
    if not tree.has(SCREEN):
        return False
    [content] = tree.later([SCREEN])
    settings, file = as_mapping(read_yaml(content, tree.file(SCREEN)) or {}, tree.file(SCREEN)), tree.file(SCREEN)
    named = settings.pop(NAMES, False)
    if not isinstance(named, bool):
        raise InputError("must be true or false", file=file, key=NAMES, value=named)
    _refuse_switches(settings, file, [key for key, value in settings.items() if value is True])
    return named


def _refuse_switches(meta: dict[str, Any], file: str, others: Sequence[str] = ()) -> None:
    """Refuse keys that would change what is shown, which is read as it is stored, and `others`."""
    for key, value in meta.items():
        words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())
        switch = words[0] == "use" or REDIRECTIONS.fullmatch(key) or any(map(TRANSFORMATIONS.fullmatch, words))
        if key in others or (switch and value not in NEUTRAL):
            problem = "is a switch that is not known here, and may change what is shown"
            remedy = f"known is {NAMES}; remove it where the stored frames are what was shown"
            raise InputError(f"{problem}: {remedy}", file=file, key=key, value=value)


def _metas(tree: Tree) -> dict[str, dict[str, Any]]:
    names = sorted(name for name in tree.names("screen/meta") if name.endswith(".yml") and name[:-4].isdecimal())
    if names:
        return {name[:-4]: tree.mapping(f"screen/meta/{name}") for name in names}
    if not tree.has("screen/combined_meta.json"):
        raise InputError("holds neither meta/*.yml nor combined_meta.json", file=tree.file("screen"))
    metas = tree.mapping("screen/combined_meta.json")
    return {key: as_mapping(metas[key], tree.file("screen/combined_meta.json"), key) for key in sorted(metas)}


def _labelled(tree: Tree, metas: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same with labels that are read alike wherever they look alike; what is no text stays as it is."""
    for label in ("modality", "tier", "condition_hash"):
        named = [key for key, meta in metas.items() if isinstance(meta.get(label), str)]
        labels = tree.clean([metas[key][label] for key in named], "screen/meta", label)
        metas = metas | {key: metas[key] | {label: str(one)} for key, one in zip(named, labels, strict=True)}
    return metas


def _trial(tree: Tree, key: str, meta: dict[str, Any], spec: ExperantoOptions, named: bool) -> Trial:
    _refuse_switches(meta, tree.file(f"screen/meta/{key}.yml"))
    first, count = meta.get("first_frame_idx"), meta.get("num_frames", 1) if spec.modality == "video" else 1
    for name, value, least in (("first_frame_idx", first, 0), ("num_frames", count, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            file = tree.file(f"screen/meta/{key}.yml")
            raise InputError(f"must be a whole number from {least}", file=file, key=name, value=value)
    frames = count if spec.frames is None else min(count, spec.frames)
    condition = str(meta.get("condition_hash", ""))
    if spec.match == "condition" and not condition:
        file = tree.file(f"screen/meta/{key}.yml")
        raise InputError("is missing: `match: condition` reads it", file=file, key="condition_hash")
    name = _stimulus_name(tree, key, meta) if named else key
    return Trial(key, _data_file(tree, name), str(meta.get("tier")), condition, int(first or 0), frames)


def _stimulus_name(tree: Tree, key: str, meta: dict[str, Any]) -> str:
    """Return the name that a trial's meta gives its stimulus: a file below screen/data, without its suffix."""
    name, file = meta.get("stimulus_name"), tree.file(f"screen/meta/{key}.yml")
    if name is None:
        raise InputError(f"is missing: {SCREEN} says {NAMES}: true", file=file, key="stimulus_name")
    text = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
    if not is_below(text):
        problem = "must be a text, the name of a file below screen/data without its suffix"
        raise InputError(problem, file=file, key="stimulus_name", value=name)
    return str(text)


def _data_file(tree: Tree, name: str) -> str:
    for suffix in (".npy", *PICTURES):
        if tree.has(f"screen/data/{name}{suffix}"):
            return f"screen/data/{name}{suffix}"
    if tree.has(f"screen/data/{name}.mp4"):
        problem = "is a film, and no decoder is part of this project: store it as .npy (frames, height, width)"
        raise InputError(problem, file=tree.file(f"screen/data/{name}.mp4"))
    raise InputError("missing file", file=tree.file(f"screen/data/{name}.npy"))


def read_clock(tree: Tree) -> np.ndarray:
    """Seconds of every frame on the screen."""
    name = "screen/timestamps.npy"
    clock = tree.array(name).astype(np.float64)
    if clock.ndim != 1 or not np.isfinite(clock).all() or not (np.diff(clock) > 0).all():
        raise InputError("must be (frames,) seconds that only grow", file=tree.file(name))
    return clock


def read_screen(
    tree: Tree, spec: ExperantoOptions, trials: list[Trial]
) -> tuple[np.ndarray, Presentations, Contents, Counter[str]]:
    """Frames of every trial, which trials show the same, what every clip or picture shows, and `RULES` at work."""
    lengths, contents, signatures, shown = [], [], [], []
    brightness, changed = Brightness(spec.white, tree.file("screen/data")), Counter[str]()
    names = [trial.file for trial in trials]
    for trial, content in zip(trials, tree.many(names), strict=True):
        frames = _frames(tree, trial.file, content, spec)
        if len(frames) < trial.frames:
            problem = f"holds {len(frames)} frames, its meta says num_frames: {trial.frames} or more"
            raise InputError(problem, file=tree.file(trial.file))
        lengths.append(trial.frames)
        contents.append(content_key(frames))
        pixels = brightness.pixels(frames, tree.file(trial.file))
        signatures.append(signature(pixels))
        shown.append(clip_keys(pixels) if spec.modality == "video" else (sketch_of(pixels[0]), content_of(pixels[0])))
        if trial.file.endswith(PICTURES):
            changed.update(_changes(content, tree.file(trial.file), spec.image.exif))
    brightness.check()
    near = near_copies(signatures) if spec.modality == "video" else np.arange(len(trials))
    conditions = [trial.condition for trial in trials]
    keys = {"content": contents, "condition": conditions, "near": [str(label) for label in near]}[spec.match]
    presentations = arrange(keys, np.array([trial.first for trial in trials]))
    first = presentations.first
    together = linked(near, presentations.item, np.array(contents))[first]
    groups = [trials[trial].key for trial in together]
    of_clips = [signatures[trial] for trial in first] if spec.modality == "video" else None
    return np.array(lengths), presentations, Contents.of(groups, [shown[trial] for trial in first], of_clips), changed


def _frames(tree: Tree, name: str, content: bytes, spec: ExperantoOptions) -> np.ndarray:
    """Stored frames (frames, h, w) or (frames, h, w, 3) of a trial."""
    stored = _picture(tree, name, content, spec.image.exif) if name.endswith(PICTURES) else tree.numbers(name, content)
    frames = stored if spec.modality == "video" else stored[None]
    if frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[-1] != 3) or not frames.size:
        problem = "must be (frames, height, width[, 3])" if spec.modality == "video" else "must be (height, width[, 3])"
        raise InputError(f"{problem}, not {stored.shape}", file=tree.file(name))
    return frames


def _picture(tree: Tree, name: str, content: bytes, exif: Exif) -> np.ndarray:
    return np.asarray(opaque(decoded(content, tree.file(name), exif=exif)))


def _changes(content: bytes, file: str, exif: Exif) -> set[str]:
    """Rules that change a picture's pixels, against dropping alpha and cutting 16 bits off at 8 as was done before."""
    changes = set(changed_by(content, file, exif=exif))
    image = opened(content)
    if image.mode.startswith("I"):
        changes.add("depth")
    if image.has_transparency_data:
        shown = decoded(content, file, exif=exif)
        plain = np.asarray(shown.convert("RGB"))
        changes |= set() if np.array_equal(plain, np.asarray(opaque(shown).convert("RGB"))) else {"alpha"}
    return changes


def read_images(tree: Tree, spec: ExperantoOptions, rows: ClipRows, names: list[str]) -> Callable[[slice], np.ndarray]:
    """Pictures of a slice of rows; only the clips that they belong to are read."""
    geometry = spec.image.geometry()

    def load(clip: int, frames: slice) -> np.ndarray:
        [content] = tree.later([names[clip]])
        stored = _frames(tree, names[clip], content, spec)[frames]
        return show(as_pixels(stored, spec.white, tree.file(names[clip])), geometry)

    return rows.images(geometry.shape, load)
