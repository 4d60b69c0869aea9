"""An example of the format `nsd`: a small volume whose voxels see the brightness of places in pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from sweeps.recordings.examples.made_up import Example, drives, pictures

SHAPE = (5, 4, 3)


@dataclass(frozen=True)
class NsdExample(Example):
    """Every picture is shown `repeats` times, over the sessions, in random order; labels -1, 0, 1 (V1v), 2 (V1d), 7.

    As in the published files, a chunk of betas holds all trials of one voxel.
    """

    sessions: int = 3
    images: int = 50
    repeats: int = 3
    subject: str = "subj01"

    def write(self, folder: Path, seed: int = 0) -> None:
        """Fill an empty folder, the same for the same seed and sizes."""
        from nibabel.nifti1 import Nifti1Image

        random = np.random.default_rng(seed)
        brick = np.repeat(pictures(self.images + 20, 32, 32, random)[..., None], 3, axis=-1)
        shown = random.permutation(np.repeat(random.permutation(self.images + 20)[: self.images], self.repeats))
        session = np.sort(np.arange(len(shown)) % self.sessions) + 1
        clean = drives(brick[..., 0], int(np.prod(SHAPE)), random).reshape(-1, *SHAPE)
        home = folder / "nsddata_betas" / "ppdata" / self.subject / "func1pt8mm" / "betas_fithrf_GLMdenoise_RR"
        home.mkdir(parents=True)
        for number in range(1, self.sessions + 1):
            values = number + clean[shown[session == number]]  # every session at a level of its own
            values = values + 0.3 * random.standard_normal(values.shape)
            with h5py.File(home / f"betas_session{number:02d}.hdf5", "w") as file:
                betas = np.round(300 * values).astype(np.int16).transpose(0, 3, 2, 1)
                file.create_dataset("betas", data=betas, chunks=(len(betas), 1, 1, 1))
        labels = random.choice([-1, 0, 1, 2, 7], SHAPE, p=[0.1, 0.3, 0.2, 0.2, 0.2]).astype(np.int16)
        for place, values in (
            (folder / "nsddata" / "ppdata" / self.subject / "func1pt8mm" / "roi" / "prf-visualrois.nii.gz", labels),
            (home / "ncsnr.nii.gz", random.random(SHAPE).astype(np.float32)),
        ):
            place.parent.mkdir(parents=True, exist_ok=True)
            Nifti1Image(values, np.eye(4)).to_filename(place)
        names = folder / "nsddata" / "freesurfer" / self.subject / "label" / "prf-visualrois.mgz.ctab"
        names.parent.mkdir(parents=True)
        names.write_text("0 Unknown 0 0 0 0\n1 V1v 255 0 0 0\n2 V1d 0 255 0 0\n")
        behaviour = folder / "nsddata" / "ppdata" / self.subject / "behav" / "responses.tsv"
        behaviour.parent.mkdir(parents=True)
        pd.DataFrame({"SUBJECT": 1, "SESSION": session, "73KID": shown + 1}).to_csv(behaviour, sep="\t", index=False)
        stimuli = folder / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
        stimuli.parent.mkdir(parents=True)
        with h5py.File(stimuli, "w") as file:
            file["imgBrick"] = brick
