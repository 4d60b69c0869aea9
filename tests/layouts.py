"""Recordings on disk, one of each layout that a reader knows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from conftest import write_recording
from nwb_2 import Session

from sweeps.recordings.examples import load_example


def example(format_name: str, **sizes: int) -> Callable[[Path], None]:
    """A writer of a small example of a format."""

    def write(folder: Path) -> None:
        folder.mkdir()
        load_example(format_name)(**sizes).write(folder, 0)

    return write


@dataclass(frozen=True)
class Layout:
    """What is written, and the section of an experiment that reads it; `packed`: the tree lies in a zip."""

    format: str
    write: Callable[[Path], None]
    settings: dict[str, Any] = field(default_factory=dict)
    packed: bool = False

    def section(self, folder: Path) -> dict[str, Any]:
        return {"format": self.format, "path": str(folder), **self.settings}


def pictures(folder: Path) -> None:
    write_recording(folder, stimuli=12, areas={"V1": 2, "V4": 2}, repeats=2, size=8)


def unpacked(folder: Path) -> None:
    pictures(folder)
    shutil.unpack_archive(folder / "images.zip", folder / "images")
    (folder / "images.zip").unlink()


def roles(folder: Path) -> None:
    """Features in place of pictures, and stimuli of every role."""
    pictures(folder)
    (folder / "images.zip").unlink()
    names = (folder / "stimuli.csv").read_text().splitlines()[1:]
    of = ["fit"] * 6 + ["objects"] * 2 + ["captions"] * 2 + ["text"] * 2
    lines = [f"{line},{role},cup,{index},a cup" for index, (line, role) in enumerate(zip(names, of, strict=True))]
    lines[-2:] = [lines[8].replace("captions", "text"), lines[9].replace("captions", "text")]
    (folder / "stimuli.csv").write_text("\n".join(["file,group,role,object,transform,caption", *lines]) + "\n")
    features = np.random.default_rng(0).standard_normal((12, 3))
    np.savez(folder / "features.npz", vision=features, language=features[:, :2])


def clips(folder: Path) -> None:
    pictures(folder)
    names = [f"{index:04d}.png,clip{index // 2},{index % 2}" for index in range(12)]
    (folder / "stimuli.csv").write_text("\n".join(["file,clip,frame", *names]) + "\n")


MOUSE = {"units": 4, "height": 9, "width": 16}
STATIC = example("sensorium-static", train=8, validation=2, test=2, repeats=2, **MOUSE)
DYNAMIC = example("sensorium-dynamic", train=6, oracle=2, repeats=2, hidden=1, frames=60, **MOUSE)
EXPERANTO = example("experanto", clips=4, repeated=2, repeats=2, stills=5, frames=20, **MOUSE)
LEBEL = example("lebel", stories=4, samples=40, voxels=5)


def nwb_2(folder: Path) -> None:
    """A session of NWB 2; the only imaging plane has a location."""
    folder.mkdir()
    Session(scenes=8, other_plane=False).write(folder / "session.nwb")


def combined(folder: Path) -> None:
    """Trials that stand in one file, and a .npy file of responses."""
    EXPERANTO(folder)
    metas = sorted((folder / "screen/meta").glob("*.yml"))
    (folder / "screen/combined_meta.json").write_text(
        json.dumps({path.stem: yaml.safe_load(path.read_text()) for path in metas})
    )
    shutil.rmtree(folder / "screen/meta")


LAYOUTS = {
    "folder": Layout("folder", pictures),
    "folder-unpacked": Layout("folder", unpacked),
    "folder-roles": Layout("folder", roles),
    "folder-clips": Layout("folder", clips),
    "sensorium-static": Layout("sensorium-static", STATIC),
    "sensorium-static-zip": Layout("sensorium-static", STATIC, packed=True),
    "sensorium-dynamic": Layout("sensorium-dynamic", DYNAMIC, {"skip": 5}),
    "sensorium-dynamic-condition": Layout("sensorium-dynamic", DYNAMIC, {"skip": 5, "match": "condition"}),
    "experanto": Layout("experanto", EXPERANTO, {"pupil": [0, 1]}),
    "experanto-image": Layout("experanto", EXPERANTO, {"modality": "image"}),
    "experanto-combined": Layout("experanto", combined),
    "allen-nwb": Layout("allen-nwb", example("allen-nwb", scenes=8, repeats=2, cells=4)),
    "allen-nwb-2": Layout("allen-nwb", nwb_2),
    "nsd": Layout("nsd", example("nsd", sessions=2, images=8, repeats=2), {"least_ncsnr": 0.1}),
    "algonauts": Layout("algonauts", example("algonauts", images=8, vertices=6)),
    "lebel": Layout("lebel", LEBEL),
    "lebel-zip": Layout("lebel", LEBEL, packed=True),
    "shortclips": Layout("shortclips", example("shortclips", runs=4, samples=12, test=8, repeats=2, voxels=6)),
}
