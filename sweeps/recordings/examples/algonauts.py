"""An example of the format `algonauts`: two hemispheres, whose vertices see the brightness of places in pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sweeps.recordings.examples.made_up import Example, drives, pictures, save


@dataclass(frozen=True)
class AlgonautsExample(Example):
    """Every second vertex lies in a mask; labels 1 and 2 have names, 3 has none. NSD images are in no order."""

    images: int = 60
    vertices: int = 20
    subject: str = "subj01"

    def write(self, folder: Path, seed: int = 0) -> None:
        """Fill an empty folder, the same for the same seed and sizes."""
        random = np.random.default_rng(seed)
        home, shown = folder / self.subject, pictures(self.images, 32, 32, random)
        split = home / "training_split"
        (split / "training_images").mkdir(parents=True)
        numbers = random.permutation(73000)[: self.images]
        for row, (number, picture) in enumerate(zip(numbers, shown, strict=True), 1):
            Image.fromarray(picture).save(split / "training_images" / f"train-{row:04d}_nsd-{number:05d}.png")
        for side in ("lh", "rh"):
            clean = drives(shown, self.vertices, random)
            responses = clean + 0.2 * random.standard_normal(clean.shape)
            save(split / "training_fmri" / f"{side}_training_fmri.npy", responses.astype(np.float32))
            mask = np.where(np.arange(self.vertices) % 2, 0, np.arange(self.vertices) // 2 % 3 + 1)
            save(home / "roi_masks" / f"{side}.prf-visualrois_challenge_space.npy", mask)
        (home / "roi_masks" / "mapping_prf-visualrois.json").write_text(
            json.dumps({"0": "Unknown", "1": "V1v", "2": "V1d"})
        )
