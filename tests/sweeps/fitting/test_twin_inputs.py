"""Rows of a recording as items: pictures, clips of any length, and pictures that stand still."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from models.backbones import BACKBONES
from models.inputs.geometry import Geometry
from sweeps.experiment.cells import Cell
from sweeps.features.shown_stimuli import ShownStimuli
from sweeps.fitting.twin_inputs import TwinInputs, held_still, still_frames, twin_inputs_of
from sweeps.recordings.recording import Recording, StimulusSet

STILL = 24


def recording(lengths: list[int], seed: int = 0) -> Recording:
    """Clips of these lengths, with behaviour, and three units."""
    random = np.random.default_rng(seed)
    clips = np.repeat(np.arange(len(lengths)), lengths).astype(str)
    rows = len(clips)
    table = pd.DataFrame({"group": clips, "clip": clips, "frame": np.concatenate([np.arange(n) for n in lengths])})
    frames = random.integers(0, 255, (rows, 4, 6, 3), dtype=np.uint8)
    behaviour = random.standard_normal((rows, 2, 2))
    behaviour[0, :, 1] = np.nan
    held = StimulusSet(table, random.random((rows, 3, 2)).astype(np.float32), "k", lambda s: frames[s], behaviour)
    return Recording("r", "f", np.array(["V1"] * 3), {"fit": held}, geometry=Geometry(size=4, width=6))


def cell_of(**backbone: Any) -> Cell:
    """A cell of a backbone."""
    return Cell("", "r", "V1", (0,), backbone, {"name": "gaussian"}, 0, {})


def shown(held: Recording) -> ShownStimuli:
    assert held.fit.images is not None
    return ShownStimuli("k", len(held.fit.table), held.fit.images)


@pytest.mark.parametrize("lengths", [[5, 5, 5], [3, 6, 1]])
def test_clips_are_gathered_and_scattered_again(lengths: list[int]) -> None:
    held = recording(lengths)
    inputs = twin_inputs_of(held, "fit", shown(held), STILL)
    assert held.fit.images is not None
    frames, longest = held.fit.images(slice(None)), max(lengths)
    assert inputs.stimuli.shape == (len(lengths), 3, longest, 4, 6)
    starts = np.cumsum([0, *lengths])
    for clip, length in enumerate(lengths):
        for frame in range(longest):
            row = starts[clip] + min(frame, length - 1)
            assert np.array_equal(inputs.stimuli[clip, :, frame].permute(1, 2, 0).numpy(), frames[row])
    values = held.fit.average
    gathered = inputs.gathered(values)
    assert int(gathered.isnan().any(dim=-1).sum()) == longest * len(lengths) - sum(lengths)
    np.testing.assert_allclose(inputs.scattered(gathered), values, rtol=1e-6)


def test_predictions_of_the_last_frames_go_to_the_last_rows() -> None:
    """A core that is not padded says nothing about the first frames."""
    held = recording([5, 5])
    inputs = twin_inputs_of(held, "fit", shown(held), STILL)
    found = inputs.scattered(inputs.gathered(held.fit.average)[:, 2:])
    assert np.isnan(found[[0, 1, 5, 6]]).all()
    np.testing.assert_allclose(found[[2, 3, 4, 7, 8, 9]], held.fit.average[[2, 3, 4, 7, 8, 9]], rtol=1e-6)


def test_behaviour_is_averaged_over_the_repeats_that_are_there() -> None:
    held = recording([2, 2])
    inputs = twin_inputs_of(held, "fit", shown(held), STILL)
    assert held.fit.behaviour is not None
    assert inputs.behaviour is not None
    np.testing.assert_allclose(inputs.behaviour[0, 0], held.fit.behaviour[0, :, 0], rtol=1e-6)
    np.testing.assert_allclose(inputs.behaviour[1, 1], held.fit.behaviour[3].mean(axis=1), rtol=1e-6)
    assert inputs.pupil is None


def test_a_picture_stands_still_and_answers_with_its_last_frame() -> None:
    held = recording([2, 2])
    inputs = twin_inputs_of(held, "probe.objects", shown(held), STILL)
    assert inputs.stimuli.shape == (4, 3, STILL, 4, 6)
    assert torch.equal(inputs.stimuli[:, :, 0], inputs.stimuli[:, :, -1])
    values = torch.arange(4.0 * STILL).reshape(4, STILL, 1)
    assert np.array_equal(inputs.scattered(values)[:, 0], values[:, -1, 0].numpy())


def test_items_of_a_split_are_whole_clips() -> None:
    inputs = TwinInputs(torch.zeros(2, 3, 3, 1, 1), np.array([[0, 1, 2], [3, 4, -1]]))
    assert inputs.among(np.array([3, 4])).tolist() == [1]
    assert inputs.among(np.arange(5)).tolist() == [0, 1]
    with pytest.raises(ValueError, match="1 clips are cut by a split"):
        inputs.among(np.array([0, 1, 3, 4]))


def test_pictures_are_items_one_by_one() -> None:
    held = recording([3])
    inputs = twin_inputs_of(held, "fit", shown(held), still=0)
    assert inputs.stimuli.shape == (3, 3, 4, 6)
    assert inputs.among(np.array([2, 0])).tolist() == [0, 2]


def test_a_picture_is_held_until_the_deepest_block_has_forgotten_what_was_before() -> None:
    core = {"name": "factorised3d", "temporal_first": 11, "temporal_then": 5}
    assert still_frames(cell_of(**core, channels="4-4-4")) == STILL
    assert still_frames(cell_of(**core, channels="4-4-4-4-4-4-4-4")) == 11 + 7 * 4
    assert still_frames(cell_of(name="pixels")) == 0


@pytest.mark.parametrize("padding", ["causal", "none"])
def test_a_still_response_is_the_steady_one(padding: str) -> None:
    parameters = {key: held.default for key, held in BACKBONES["factorised3d"].parameters.items()}
    parameters |= {"channels": "2-2-2-2-2-2-2-2", "padding": padding, "spatial_first": 3, "spatial_then": 1}
    core = BACKBONES["factorised3d"].load()(parameters, 0).eval()
    pictures, frames = torch.rand(2, 3, 8, 8), still_frames(cell_of(name="factorised3d", **parameters))
    with torch.no_grad():
        short, long = (core.forward_blocks(held_still(pictures, n), [7])[0][:, :, -1] for n in (frames, 2 * frames))
        cut = core.forward_blocks(held_still(pictures, STILL), [7])[0][:, :, -1] if padding == "causal" else None
    torch.testing.assert_close(short, long)
    assert cut is None or not torch.allclose(cut, long, rtol=1e-2)
