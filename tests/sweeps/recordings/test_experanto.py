"""The format `experanto`: times, devices and trials against the files themselves, read another way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sweeps.errors import InputError
from sweeps.recordings import open_recording
from sweeps.recordings.examples.experanto import ExperantoExample
from sweeps.recordings.readers import sequences
from sweeps.recordings.readers.sequences import Sequence
from sweeps.recordings.recording import Recording


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("experanto") / "mouse"
    sizes = ExperantoExample(clips=8, repeated=2, repeats=3, stills=6, units=6, frames=20, height=9, width=16)
    sizes.write(home)
    return home


@pytest.fixture
def mouse(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "mouse"))


def opened(folder: object, **settings: Any) -> Recording:
    raw = {"format": "experanto", "path": str(folder), "image": {"size": 9, "width": 16}, "normalise": "none"}
    found = open_recording({**raw, **settings}, "", Path("nowhere"))
    assert found is not None
    return found


def refused(folder: object, expected: str, /, **settings: Any) -> str:
    with pytest.raises(InputError, match=expected) as caught:
        opened(folder, **settings)
    return str(caught.value)


def metas(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((folder / "screen/meta").iterdir())}


def change(path: Path, **values: Any) -> None:
    """Change keys of a YAML file; `...` removes one."""
    held = {**yaml.safe_load(path.read_text()), **values}
    path.write_text(yaml.safe_dump({key: value for key, value in held.items() if value is not ...}))


def samples(folder: Path, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Times and values (samples, signals), both, of a device."""
    meta = yaml.safe_load((folder / device / "meta.yml").read_text())
    if meta["is_mem_mapped"]:
        values = np.memmap(folder / device / "data.mem", meta["dtype"], "r").reshape(-1, meta["n_signals"])
    else:
        values = np.load(folder / device / "data.npy")
    shifts = np.load(folder / device / "meta/phase_shifts.npy") if meta["phase_shift_per_signal"] else 0.0
    times = meta["start_time"] + np.arange(len(values))[:, None] / meta["sampling_rate"] + shifts
    return np.broadcast_to(times, values.shape), np.asarray(values, np.float64)


def interpolated(folder: Path, device: str, times: np.ndarray) -> np.ndarray:
    """NumPy's own interpolation of each signal."""
    own, values = samples(folder, device)
    found = [np.interp(times, own[:, s], values[:, s], left=np.nan, right=np.nan) for s in range(values.shape[1])]
    return np.stack(found, axis=1)


# -- what is read -----------------------------------------------------------------------------------


def test_every_frame_of_every_trial_at_its_own_time(mouse: Path) -> None:
    recording = opened(mouse, pupil=[2, 0])
    clock, fit = np.load(mouse / "screen/timestamps.npy"), recording.fit
    videos = {key: meta for key, meta in metas(mouse).items() if meta["modality"] == "video" and meta["valid_trial"]}
    conditions: dict[str, list[str]] = {}
    for key in sorted(videos, key=lambda key: videos[key]["first_frame_idx"]):
        conditions.setdefault(videos[key]["condition_hash"], []).append(key)
    assert fit.behaviour is not None
    assert fit.pupil is not None
    assert fit.images is not None
    assert len(fit.clips) == len(conditions) >= 9  # 10 clips, of which one may have been shown in the invalid trial
    shown = fit.images(slice(None))
    for rows in fit.clips:
        table = fit.table.iloc[rows]
        keys = next(held for held in conditions.values() if Path(table["file"].iloc[0]).stem in held)
        assert np.array_equal(shown[rows][..., 1], np.load(mouse / f"screen/data/{keys[0]}.npy"))
        assert table["tier"].iloc[0] == videos[keys[0]]["tier"]
        for repeat, key in enumerate(keys):
            first = videos[key]["first_frame_idx"]
            times = clock[first : first + videos[key]["num_frames"]]
            eye = interpolated(mouse, "eye_tracker", times)
            behaviour = np.column_stack([interpolated(mouse, "treadmill", times), eye[:, 1]])
            expected = interpolated(mouse, "responses", times)
            assert np.allclose(fit.responses[rows, :, repeat], expected, rtol=1e-4, atol=1e-5)
            assert np.allclose(fit.behaviour[rows, :, repeat], behaviour, rtol=1e-4, atol=1e-5)
            assert np.allclose(fit.pupil[rows, :, repeat], eye[:, [2, 0]], rtol=1e-4, atol=1e-5)
        assert np.isnan(fit.responses[rows][:, :, len(keys) :]).all()
    assert recording.frame_rate == pytest.approx(30.0, abs=0.01)
    assert fit.responses.shape == (20 * len(conditions), 6, 3)
    assert recording.coordinates is not None
    assert recording.facts().areas == {"V1": 3, "LM": 3}
    assert np.array_equal(recording.coordinates, np.load(mouse / "responses/meta/cell_motor_coordinates.npy"))


def test_responses_go_with_the_pictures(mouse: Path) -> None:
    """Each unit of the example follows one pixel: pictures and responses would not agree if times were mixed up."""
    fit = opened(mouse).fit
    assert fit.images is not None
    pixels = fit.images(slice(None))[..., 0].reshape(len(fit.table), -1).astype(float)
    answers = fit.average
    best = np.abs(np.corrcoef(pixels.T, answers.T)[: pixels.shape[1], pixels.shape[1] :]).max(axis=0)
    assert best.min() > 0.6


def test_blank_and_invalid_trials_are_left_out(mouse: Path) -> None:
    held = metas(mouse)
    invalid = [key for key, meta in held.items() if not meta["valid_trial"]]
    assert len(invalid) == 1
    kind = held[invalid[0]]["modality"]
    left_out = opened(mouse, modality=kind)
    assert not any(Path(file).stem in invalid for file in left_out.fit.table["file"])
    change(mouse / f"screen/meta/{invalid[0]}.yml", valid_trial=...)
    with_it = opened(mouse, modality=kind)
    assert np.isfinite(with_it.fit.responses).sum() > np.isfinite(left_out.fit.responses).sum()


@pytest.mark.parametrize(("delay", "window"), [(0.0, 0.5), (0.1, 0.3)])
def test_pictures_have_the_mean_over_a_window(mouse: Path, delay: float, window: float) -> None:
    recording = opened(mouse, modality="image", delay=delay, window=window)
    clock, held = np.load(mouse / "screen/timestamps.npy"), metas(mouse)
    assert recording.frame_rate is None
    assert recording.fit.clips == []
    for row, file in enumerate(recording.fit.table["file"]):
        start = clock[held[Path(file).stem]["first_frame_idx"]] + delay
        times = start + np.arange(0, window, 1 / 8.0)
        expected = interpolated(mouse, "responses", times).mean(axis=0)
        assert np.allclose(recording.fit.responses[row, :, 0], expected, rtol=1e-4, atol=1e-5)


def test_a_picture_may_be_a_png(mouse: Path) -> None:
    fit = opened(mouse, modality="image").fit
    row = fit.table["file"].str.endswith(".png").tolist().index(True)
    assert fit.images is not None
    with Image.open(mouse / fit.table["file"][row]) as image:
        assert np.array_equal(fit.images(slice(row, row + 1))[0, ..., 0], np.asarray(image))


def test_skipped_and_left_out_frames_repeats_and_tiers(mouse: Path) -> None:
    whole = opened(mouse).fit
    held = opened(mouse, skip=4, frames=12, repeats=2).fit
    for mine, rows in zip(held.clips, whole.clips, strict=True):
        assert np.array_equal(held.responses[mine[4:]], whole.responses[rows[4:12], :, :2], equal_nan=True)
        assert np.isnan(held.responses[mine[:4]]).all()
    assert set(opened(mouse, tiers=["oracle"]).fit.table["tier"]) == {"oracle"}
    refused(mouse, "tiers = 'test': unknown tier; allowed: oracle, train", tiers=["test"])


def test_a_delay_shifts_the_responses(mouse: Path) -> None:
    """Frames are 1/30 s apart: a delay of two frames gives the responses of two frames later."""
    now, later = opened(mouse).fit, opened(mouse, delay=2 / 30).fit
    for rows in now.clips:
        assert np.allclose(later.responses[rows[:-2]], now.responses[rows[2:]], atol=1e-3, equal_nan=True)


def test_responses_are_scaled_by_their_deviation_over_train(mouse: Path) -> None:
    plain, scaled = opened(mouse).fit, opened(mouse, normalise="std").fit
    train = (plain.table["tier"] == "train").to_numpy()
    deviation = np.nanstd(plain.responses[train].astype(np.float64), axis=(0, 2))
    assert np.allclose(scaled.responses * deviation[:, None], plain.responses, rtol=1e-4, equal_nan=True)


def test_units_are_chosen_before_their_samples_are_kept(mouse: Path) -> None:
    whole, held = opened(mouse), opened(mouse, areas=["LM"], units=2)
    assert held.areas.tolist() == ["LM", "LM"]
    assert np.array_equal(held.fit.responses, whole.fit.responses[:, [1, 5]], equal_nan=True)


def test_combined_metadata_serve_where_there_are_no_others(mouse: Path) -> None:
    before = opened(mouse)
    (mouse / "screen/combined_meta.json").write_text(json.dumps(metas(mouse)))
    assert opened(mouse).fingerprint == before.fingerprint  # the single files count
    shutil.rmtree(mouse / "screen/meta")
    after = opened(mouse)
    assert np.array_equal(after.fit.responses, before.fit.responses, equal_nan=True)


def test_npy_and_raw_samples_read_alike(mouse: Path) -> None:
    before = opened(mouse)
    meta = yaml.safe_load((mouse / "responses/meta.yml").read_text())
    values = np.fromfile(mouse / "responses/data.mem", meta["dtype"]).reshape(-1, meta["n_signals"])
    np.save(mouse / "responses/data.npy", values)
    (mouse / "responses/data.mem").unlink()
    change(mouse / "responses/meta.yml", is_mem_mapped=False)
    after = opened(mouse)
    assert np.array_equal(after.fit.responses, before.fit.responses, equal_nan=True)


@pytest.mark.parametrize("block", [1, 100, 1000])
def test_large_files_are_read_in_parts(mouse: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    before = opened(mouse)
    monkeypatch.setattr(sequences, "BLOCK", block)
    after = opened(mouse)
    assert after.fingerprint == before.fingerprint
    assert np.array_equal(after.fit.responses, before.fit.responses, equal_nan=True)


def test_near_copies_share_a_group(mouse: Path) -> None:
    table = opened(mouse).fit.table
    one, two = (str(file) for file in table[table["tier"] == "train"].drop_duplicates("clip")["file"][:2])
    video = np.load(mouse / one)
    np.save(mouse / two, np.clip(video.astype(int) + 1, 0, 255).astype(np.uint8))
    changed = opened(mouse).fit.table
    groups = changed.groupby("file")["group"].first()
    assert groups[one] == groups[two]
    assert changed["group"].nunique() == table["group"].nunique() - 1
    assert changed["clip"].nunique() == table["clip"].nunique()
    assert opened(mouse, match="near").fit.table["clip"].nunique() == table["clip"].nunique() - 1


# -- the clock --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 12),
    rate=st.floats(0.5, 60),
    start=st.floats(-5, 5),
    shift=st.floats(-0.2, 0.2),
    seed=st.integers(0, 99),
)
def test_interpolation_is_numpy_s(count: int, rate: float, start: float, shift: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((count, 2)).astype(np.float32)
    own = start + np.arange(count) / rate
    times = np.sort(random.uniform(own[0] - 1 / rate, own[-1] + 1 / rate, 20))
    ends = np.array([own[0], own[-1], own[0] + shift, own[-1] + shift])
    times = times[np.abs(times[:, None] - ends).min(axis=1) > 1e-4 / rate]  # on an end either answer is right
    found = Sequence(values, start, rate, np.array([0.0, shift])).at(times)
    for signal, late in enumerate((0.0, shift)):
        expected = np.interp(times, own + late, values[:, signal], left=np.nan, right=np.nan)
        assert np.allclose(found[:, signal], expected, atol=1e-4, equal_nan=True)


def test_at_a_sample_the_next_one_does_not_matter() -> None:
    sequence = Sequence(np.array([[1.0], [2.0], [np.nan], [4.0]], np.float32), 10.0, 3.0, np.zeros(1))
    found = sequence.at(10.0 + np.array([-1, 0, 1, 1.5, 2, 2.5, 3, 4]) / 3)[:, 0]
    assert np.array_equal(found, [np.nan, 1, 2, np.nan, np.nan, np.nan, 4, np.nan], equal_nan=True)


# -- what is broken ---------------------------------------------------------------------------------

Break = Callable[[Path], object]


def first_of(folder: Path, kind: str) -> str:
    return next(key for key, meta in metas(folder).items() if meta["modality"] == kind and meta["valid_trial"])


def break_meta(device: str, **values: Any) -> Break:
    return lambda f: change(f / device / "meta.yml", **values)


def break_trial(**values: Any) -> Break:
    return lambda f: change(f / f"screen/meta/{first_of(f, 'video')}.yml", **values)


def break_film(f: Path) -> None:
    file = f / f"screen/data/{first_of(f, 'video')}.npy"
    file.rename(file.with_suffix(".mp4"))


BROKEN: dict[str, tuple[Break, str]] = {
    "a film": (break_film, r"\.mp4: is a film, and no decoder is part of this project"),
    "no data": (lambda f: (f / f"screen/data/{first_of(f, 'video')}.npy").unlink(), r"screen/data/\d+.npy: missing"),
    "no clock": (lambda f: (f / "screen/timestamps.npy").unlink(), "timestamps.npy: missing file"),
    "a clock that stands": (lambda f: np.save(f / "screen/timestamps.npy", np.ones(900)), "seconds that only grow"),
    "a short clock": (
        lambda f: np.save(f / "screen/timestamps.npy", np.load(f / "screen/timestamps.npy")[:30]),
        "timestamps.npy: has 30 frames, trial",
    ),
    "no screen": (lambda f: shutil.rmtree(f / "screen"), "screen: holds neither"),
    "no responses": (lambda f: shutil.rmtree(f / "responses"), "responses/meta.yml: missing file"),
    "short responses": (
        lambda f: (f / "responses/data.mem").write_bytes((f / "responses/data.mem").read_bytes()[:-4]),
        "data.mem: ends early",
    ),
    "no samples": (lambda f: (f / "treadmill/data.npy").unlink(), "treadmill/data.npy: missing file"),
    "no rate": (break_meta("responses", sampling_rate=...), "sampling_rate = None: must be a number"),
    "rate 0": (break_meta("treadmill", sampling_rate=0), "sampling_rate = 0.0: must be above 0"),
    "other signals": (break_meta("treadmill", n_signals=2), "holds 1 signals, treadmill/meta.yml says n_signals: 2"),
    "strange type": (break_meta("responses", dtype="number"), "dtype = 'number': must be a NumPy type"),
    "objects": (break_meta("responses", dtype="object"), "must hold numbers, not object"),
    "pickled": (
        lambda f: np.save(f / "treadmill/data.npy", np.array([[1], [None]], dtype=object), allow_pickle=True),
        "data.npy: is not a plain .npy array: it holds pickled objects",
    ),
    "shifts": (lambda f: np.save(f / "responses/meta/phase_shifts.npy", np.zeros(5)), r"must be \(6,\), one shift"),
    "too many frames": (break_trial(num_frames=21), "holds 20 frames, its meta says num_frames: 21"),
    "no first frame": (break_trial(first_frame_idx=...), "first_frame_idx = None: must be a whole number from 0"),
    "flat video": (
        lambda f: np.save(f / f"screen/data/{first_of(f, 'video')}.npy", np.ones((9, 16))),
        r"must be \(frames, height, width\[, 3\]\), not \(9, 16\)",
    ),
    "areas": (lambda f: np.save(f / "responses/meta/area.npy", np.array(["V1"])), "has 1 entries, the responses"),
    "no properties": (
        break_meta("responses", neuron_properties=["area"]),
        r"responses/meta.yml: neuron_properties = \['area'\]: must map properties to files",
    ),
    "areas above": (
        break_meta("responses", neuron_properties={"area": "../../outside.npy"}),
        "responses/meta.yml: neuron_properties.area = '../../outside.npy': must be a file below responses/",
    ),
    "coordinates elsewhere": (
        break_meta("responses", neuron_properties={"cell_motor_coordinates": "/outside.npy"}),
        "neuron_properties.cell_motor_coordinates = '/outside.npy': must be a file below responses/",
    ),
    "a numbered file": (break_meta("responses", neuron_properties={"area": 3}), "neuron_properties.area = 3: must be"),
    "yaml": (lambda f: (f / "responses/meta.yml").write_text("a: [1"), "meta.yml: is not YAML"),
    "not a mapping": (lambda f: (f / "responses/meta.yml").write_text("[1]"), "must hold a mapping, not list"),
    "column order": (
        lambda f: np.save(f / "eye_tracker/data.npy", np.asfortranarray(np.load(f / "eye_tracker/data.npy"))),
        "stored column by column",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_named(case: str, mouse: Path) -> None:
    damage, expected = BROKEN[case]
    damage(mouse)
    refused(mouse, expected)


def test_files_outside_the_recording_are_not_read(mouse: Path) -> None:
    np.save(mouse.parent / "outside.npy", np.full(6, "V4"))
    change(mouse / "responses/meta.yml", neuron_properties={"area": "../../outside.npy"})
    refused(mouse, "must be a file below responses/")
    change(mouse / "responses/meta.yml", neuron_properties=None)
    assert set(opened(mouse, area="V1").areas) == {"V1"}


def test_units_are_named_by_their_numbers_in_the_file(mouse: Path) -> None:
    meta = yaml.safe_load((mouse / "responses/meta.yml").read_text())
    values = np.fromfile(mouse / "responses/data.mem", meta["dtype"]).reshape(-1, meta["n_signals"])
    values[:, 4] = np.nan
    values.tofile(mouse / "responses/data.mem")
    refused(mouse, "units 4 are NaN throughout", exclude_units=[1])


def test_options_that_do_not_fit(mouse: Path) -> None:
    refused(mouse, "must be two of the 3 signals", pupil=[1, 3])
    shutil.rmtree(mouse / "eye_tracker")
    refused(mouse, "must be two of the 0 signals", pupil=[0, 1])
    behaviour = opened(mouse).fit.behaviour
    assert behaviour is not None
    assert behaviour.shape[1] == 1
    shutil.rmtree(mouse / "treadmill")
    assert opened(mouse).fit.behaviour is None
    change(mouse / "responses/meta.yml", neuron_properties=...)
    refused(mouse, "name it, such as `area: V1`")
    assert opened(mouse, area="V1").coordinates is None
    refused(mouse, "memory_gb", area="V1", memory_gb=1e-7)
    for key in metas(mouse):
        change(mouse / f"screen/meta/{key}.yml", condition_hash=...)
    refused(mouse, "condition_hash: is missing: `match: condition` reads it", area="V1", match="condition")


def test_the_fingerprint_follows_the_samples_of_all_devices(mouse: Path) -> None:
    prints = {opened(mouse).fingerprint, opened(mouse, skip=1).fingerprint, opened(mouse, name="other").fingerprint}
    assert len(prints) == 2
    for device in ("treadmill", "eye_tracker"):
        values = np.load(mouse / device / "data.npy")
        values[7] += 1e-3
        np.save(mouse / device / "data.npy", values)
        prints.add(opened(mouse).fingerprint)
    raw = bytearray((mouse / "responses/data.mem").read_bytes())
    raw[41] ^= 1
    (mouse / "responses/data.mem").write_bytes(raw)
    prints.add(opened(mouse).fingerprint)
    assert len(prints) == 5


def test_in_memory_as_on_disk(written: Path, memory_scheme: None) -> None:
    store = fsspec.filesystem("memory")
    store.put(str(written), "/experanto-test/mouse", recursive=True)
    try:
        local, remote = opened(written), opened("memory://experanto-test/mouse")
        assert remote.fingerprint == local.fingerprint
        assert np.array_equal(remote.fit.responses, local.fit.responses, equal_nan=True)
    finally:
        store.rm("/experanto-test", recursive=True)
