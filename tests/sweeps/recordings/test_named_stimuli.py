"""Names of stimuli on an Experanto screen, and tiers of words in stories: what is read, and under which identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sweeps.recordings import Recording, open_recording
from sweeps.recordings.examples import load_example

PICTURES = 12


def session(folder: Path, names: list[str], switch: bool) -> Recording:
    """A session of grey pictures, the one of file k as bright as 10 k + 20, shown for a second each."""
    for place in ("screen/data", "screen/meta", "responses"):
        (folder / place).mkdir(parents=True)
    screen = {"modality": "screen", "frame_rate": 1.0, "use_stimuli_names": switch}
    (folder / "screen/meta.yml").write_text(yaml.safe_dump(screen))
    np.save(folder / "screen/timestamps.npy", np.arange(PICTURES, dtype=float))
    for index, name in enumerate(names):
        np.save(folder / f"screen/data/{index:05d}.npy", np.full((8, 8), 10 * index + 20, np.uint8))
        trial = {"modality": "image", "tier": "train", "first_frame_idx": index, "image_size": [8, 8]}
        (folder / f"screen/meta/{index:05d}.yml").write_text(yaml.safe_dump({**trial, "stimulus_name": name}))
    meta = {"modality": "sequence", "n_signals": 2, "sampling_rate": 4.0, "start_time": 0.0, "end_time": 14.0}
    (folder / "responses/meta.yml").write_text(yaml.safe_dump(meta))
    np.save(folder / "responses/data.npy", np.random.default_rng(0).random((60, 2)))
    section: dict[str, Any] = {"format": "experanto", "path": str(folder), "area": "V1", "modality": "image"}
    recording = open_recording(section, "", folder / "cache")
    assert recording is not None
    return recording


def greys(recording: Recording) -> list[int]:
    assert recording.fit.images is not None
    return [int(grey) for grey in recording.fit.images(slice(0, PICTURES)).mean(axis=(1, 2, 3))]


def test_named_pictures_are_shown_and_make_another_recording(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(PICTURES)
    names = [f"{index:05d}" for index in order]
    by_key = session(tmp_path / "by_key", names, switch=False)
    by_name = session(tmp_path / "by_name", names, switch=True)
    assert greys(by_key) == [10 * index + 20 for index in range(PICTURES)]
    assert greys(by_name) == [10 * index + 20 for index in order]
    np.testing.assert_array_equal(by_key.fit.responses, by_name.fit.responses)
    assert by_key.fingerprint != by_name.fingerprint
    assert by_key.fit.key != by_name.fit.key


def test_names_that_are_the_keys_keep_the_identity(tmp_path: Path) -> None:
    names = [f"{index:05d}" for index in range(PICTURES)]
    by_key = session(tmp_path / "by_key", names, switch=False)
    by_name = session(tmp_path / "by_name", names, switch=True)
    assert (by_key.fingerprint, by_key.fit.key) == (by_name.fingerprint, by_name.fit.key)


@pytest.mark.parametrize(("names", "same"), [(("phone", "word"), True), (("anna - words", "anna - phones"), False)])
def test_stories_whose_words_changed_are_other_recordings(
    names: tuple[str, str], same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_example("lebel")().write(tmp_path, 0)
    tiers = "".join(f'"IntervalTier" "{name}" 0 9 1 0 9 "in {name}"\n' for name in names)
    for path in (tmp_path / "derivative" / "TextGrids").iterdir():
        path.write_text(f'File type = "ooTextFile"\n"TextGrid" 0 9 <exists> 2\n{tiers}')
    section = {"format": "lebel", "path": str(tmp_path)}
    recording = open_recording(section, "", tmp_path / "cache")
    monkeypatch.setattr("sweeps.recordings.formats.lebel.refined", lambda fingerprint, rules: fingerprint)
    plain = open_recording(section, "", tmp_path / "cache")
    assert recording is not None
    assert plain is not None
    assert (recording.fingerprint == plain.fingerprint) == same
    assert recording.notes["tier_read"] == names[1 if same else 0]
