"""Random draws of scores that may move only with a VERSION: streams, halves of labels, noise like that of the brain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.scores.matched import BrainNoise, Measure
from sweeps.scores.view import CellView

STIMULI, UNITS = 12, 4


def view_of(**changes: Any) -> CellView:
    """A view of what was recorded, with exact numbers."""
    stimulus, unit, repeat = np.indices((STIMULI, UNITS, 3))
    repeats = ((7 * stimulus + 5 * unit + 11 * repeat * (stimulus + unit)) % 23).astype(np.float32)
    fit = StimulusSet(pd.DataFrame({"group": np.arange(STIMULI).astype(str)}), repeats, "k")
    recording = Recording("r", "print", np.full(UNITS, "V1"), {"fit": fit})
    fields: dict[str, Any] = {
        "split": "report",
        "split_seed": 4,
        "recording": recording,
        "units": np.arange(UNITS),
        "rows": np.arange(2, STIMULI),
        "predicted": np.zeros((STIMULI - 2, UNITS)),
        "baseline": np.zeros((STIMULI - 2, UNITS)),
        "shown": {},
        "tables": {},
        "embed": len,
        "cell_id": "c",
        "seed": 9,
        "common_units": UNITS,
        "remember": lambda key, compute: compute(),
    }
    return CellView(**{**fields, **changes})


def test_streams_are_those_of_what_was_recorded() -> None:
    view = view_of()
    assert view.brain_seed == 252769711192582
    assert view.random("rsa").integers(0, 10**6, 3).tolist() == [375266, 685331, 930830]
    other = view_of(cell_id="d", seed=1, predicted=view.predicted + 1)
    assert other.random("rsa").integers(0, 10**6) == view.random("rsa").integers(0, 10**6)
    assert other.random("asr").integers(0, 10**6) != view.random("rsa").integers(0, 10**6)
    assert view_of(rows=np.arange(STIMULI)).brain_seed != view.brain_seed


def test_labels_are_dealt_in_two_and_every_label_is_in_one_half() -> None:
    labels = ["c", "a", "b", "a", "e", "d", "c"]
    halves = [view_of(split=split).half(labels) for split in ("select", "report")]
    assert (halves[0] ^ halves[1]).all()
    assert sorted({label for label, own in zip(labels, halves[0], strict=True) if own}) == ["a", "e"]
    assert len({label for label, own in zip(labels, halves[0], strict=True) if own}) == 2
    many = [f"l{number}" for number in range(40)]
    seeds = [view_of(split="select", split_seed=seed).half(many) for seed in (4, 5)]
    assert [int(half.sum()) for half in seeds] == [20, 20]
    assert (seeds[0] != seeds[1]).any()


def test_values_of_the_brain_are_computed_once_for_what_they_depend_on() -> None:
    kept: dict[Any, Any] = {}

    def remember(key: Any, compute: Any) -> Any:
        return kept.setdefault(key, compute()) if key not in kept else kept[key]

    view = view_of(remember=remember)
    assert view.of_brain("a", lambda: 1) == view.of_brain("a", lambda: 2) == 1
    assert view_of(remember=remember, cell_id="d", predicted=view.predicted + 1).of_brain("a", lambda: 2) == 1
    others = [{"split": "select"}, {"rows": np.arange(STIMULI)}, {"units": np.arange(2)}]
    others += [{"recording": replace(view.recording, fingerprint="other")}]
    assert [view_of(remember=remember, **change).of_brain("a", lambda: 2) for change in others] == [2] * 4
    assert view.of_brain("b", lambda: 3) == 3


def test_presentations_are_those_of_the_split_or_all() -> None:
    view = view_of(units=np.array([3, 1]))
    whole = view.recording.fit.responses
    np.testing.assert_array_equal(view.repeats, whole[2:][:, [3, 1]])
    np.testing.assert_array_equal(view.presentations(whole=True), whole[:, [3, 1]])
    np.testing.assert_allclose(view.observed, whole[2:, [3, 1]].mean(axis=2))
    np.testing.assert_allclose(view.deviation, view.observed.std(axis=0))
    objects = StimulusSet(pd.DataFrame({"object": ["a", "b"]}), whole[:2], "o")
    both = replace(view.recording, sets={**view.recording.sets, "objects": objects})
    np.testing.assert_array_equal(view_of(recording=both).presentations("objects"), whole[:2])
    assert view.clips() is None


def test_clips_are_numbered_and_cut_to_the_split() -> None:
    table = pd.DataFrame({"clip": list("aaaabbbbbccc"), "frame": [0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2], "group": "g"})
    view = view_of()
    clips = StimulusSet(table, view.recording.fit.responses, "k")
    recording = replace(view.recording, sets={"fit": clips, "objects": clips})
    labels = [0] * 4 + [1] * 5 + [2] * 3
    assert view_of(recording=recording).clips().tolist() == labels[2:]  # type: ignore[union-attr]
    assert view_of(recording=recording).clips("objects").tolist() == labels  # type: ignore[union-attr]


def test_noise_and_null_twins_do_not_move() -> None:
    view = view_of()
    noise = BrainNoise(view, "fit", np.ones(STIMULI - 2, dtype=bool))
    measure = Measure(
        lambda responses, pairs: ((responses - view.observed) ** 2).mean(axis=(1, 2))[:, None],
        lambda difference: float(-difference.mean()),
    )
    reference = noise.reference(measure, view.observed, shuffled=True)
    assert noise.pairs(np.arange(2))[:, 0, 0].tolist() == pytest.approx([-0.617622, 0.799172], abs=1e-5)
    found = {**reference.nulls, "ceiling": reference.ceiling, "spread": reference.spread}
    assert found == pytest.approx(
        {
            "constant": -27.40964,
            "white_noise": -29.21557,
            "shuffled": -20.88472,
            "ceiling": 2.220446e-16,
            "spread": 5.520753e-16,
        },
        rel=1e-4,
    )
