"""The format `simulated-video`: its responses follow the planted distributions, places, depths and latent factors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from sweeps.errors import InputError
from sweeps.recordings import describe, open_recording
from sweeps.recordings.recording import Recording
from sweeps.recordings.simulation import simulated_video
from sweeps.recordings.simulation.simulated_video import (
    SimulatedVideoSpec,
    latent_factors,
    noise_free,
    planted,
)
from sweeps.recordings.simulation.video_teacher import VideoTeacher, draw_clips
from sweeps.recordings.simulation.video_units import BLOCKS, RHO, VideoArea, draw_units, expected, respond, slow_noise

torch.set_num_threads(1)

SMALL = {
    "format": "simulated-video",
    "clips": 12,
    "frames": 20,
    "size": 12,
    "width": 20,
    "repeated": 0.5,
    "repeats": 4,
    "areas": {"V1": {"depth": 1, "units": 5}, "AL": {"depth": 3, "units": 4}},
}
GAMMA = "zero-inflated-gamma"


def small(**settings: Any) -> SimulatedVideoSpec:
    return SimulatedVideoSpec.model_validate({**SMALL, **settings})


def opened(spec: SimulatedVideoSpec, cache: Path) -> Recording:
    found = open_recording(spec.model_dump(), "", cache)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


# -- the recording ----------------------------------------------------------------------------------


def test_what_is_described_is_what_is_opened(cache: Path) -> None:
    spec = small(skip=3, latents=2)
    [facts] = describe([spec.model_dump()], "")
    recording = opened(spec, cache)
    found = recording.facts()
    for name in ("name", "fingerprint", "areas", "stimuli", "groups", "repeats", "roles", "clips", "pictures"):
        assert getattr(facts, name) == getattr(found, name)
    assert facts.notes["planted"]["depth"] == {"V1": 1, "AL": 3}
    assert facts.notes["planted"]["latents"] == 2
    fit = recording.fit
    assert fit.responses.shape == (240, 9, 4)
    assert [len(rows) for rows in fit.clips] == [20] * 12
    shown = np.isfinite(fit.responses[fit.table["frame"] == 5]).all(axis=1).sum(axis=1)
    assert sorted(shown) == [1] * 6 + [4] * 6
    assert np.isnan(fit.responses[fit.table["frame"] < 3]).all()
    assert ((fit.table["tier"] == "oracle").groupby(fit.table["clip"]).first() == (shown == 4)).all()
    assert fit.behaviour is not None
    assert fit.pupil is not None
    assert fit.behaviour.shape == fit.pupil.shape == (240, 2, 4)
    assert np.array_equal(np.isnan(fit.behaviour[:, 0]), np.isnan(fit.pupil[:, 1]))
    assert (recording.frame_rate, recording.geometry.shape) == (30.0, (12, 20))  # type: ignore[union-attr]


def test_pictures_are_grey_clips_that_move(cache: Path) -> None:
    recording = opened(small(), cache)
    assert recording.fit.images is not None
    shown = recording.fit.images(slice(None))
    assert shown.shape == (240, 12, 20, 3)
    assert (shown == shown[..., :1]).all()
    assert np.array_equal(shown[37:61], recording.fit.images(slice(37, 61)))
    films = shown[..., 0].reshape(12, 20, -1).astype(float)
    steps = np.abs(np.diff(films, axis=1)).mean(axis=(1, 2))
    assert (steps > 1).all()  # nothing stands still
    assert (steps < np.abs(films - films[:, ::-1]).mean(axis=(1, 2))).all()  # and nothing jumps
    assert films.std() > 25


def test_it_is_made_once_and_from_the_seed(cache: Path, tmp_path: Path) -> None:
    one, two, again = opened(small(), cache), opened(small(seed=1), cache), opened(small(name="other"), tmp_path)
    assert one.fingerprint == again.fingerprint != two.fingerprint
    assert np.array_equal(one.fit.responses, again.fit.responses, equal_nan=True)
    assert not np.array_equal(one.fit.responses, two.fit.responses, equal_nan=True)
    [home] = [path for path in (tmp_path / "simulated").iterdir() if path.is_dir()]
    times = {path: path.stat().st_mtime_ns for path in home.iterdir()}
    opened(small(), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in home.iterdir()} == times


def test_the_global_generators_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    opened(small(), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], state)


def test_what_cannot_be_planted_is_refused() -> None:
    with pytest.raises(InputError, match=r"areas.V1.depth = 4: beyond the teacher, which has blocks 0 to 3"):
        describe([{**SMALL, "areas": {"V1": {"depth": 4}}}], "")
    with pytest.raises(InputError, match="skip = 20: leaves none of the 20 frames"):
        describe([{**SMALL, "skip": 20}], "")
    with pytest.raises(InputError, match=r"recordings.0.response = 'gamma': unknown response"):
        describe([{**SMALL, "response": "gamma"}], "")


# -- the teacher ------------------------------------------------------------------------------------


def test_the_teacher_is_what_it_says() -> None:
    """Against torch's own three-dimensional convolutions, padded by hand, and its z-scores."""
    clips = draw_clips(3, 12, (10, 14), [0])
    teacher = VideoTeacher.of(clips, 4, np.random.default_rng(1))
    maps = torch.from_numpy(clips)[:, None].float() / 127.5 - 1
    for block, found in enumerate(teacher.maps(clips, 3)):
        spatial, temporal = teacher.spatial[block], teacher.temporal[block]
        maps = F.conv3d(maps, spatial[:, :, None], padding=(0, 2, 2))
        maps = F.conv3d(F.pad(maps, (0, 0, 0, 0, temporal.shape[1] - 1, 0)), temporal[:, None, :, None, None], groups=8)
        maps = (maps - maps.mean(dim=(0, 2, 3, 4), keepdim=True)) / maps.std(dim=(0, 2, 3, 4), keepdim=True)
        maps = maps.clamp(min=0)
        assert torch.allclose(found, maps.transpose(1, 2), atol=1e-4)


def test_the_teacher_is_causal_and_its_fields_grow() -> None:
    clips = draw_clips(2, 16, (26, 26), [3])
    teacher = VideoTeacher.of(clips, 4, np.random.default_rng(1))
    other = clips.copy()
    other[0, 8, 13, 13] = 255 - other[0, 8, 13, 13]
    for block, (one, two) in enumerate(zip(teacher.maps(clips, 3), teacher.maps(other, 3), strict=True)):
        changed = (one != two)[0].any(dim=1)  # (frames, h, w)
        when = torch.nonzero(changed.any(dim=2).any(dim=1))[:, 0]
        where = torch.nonzero(changed.any(dim=0).any(dim=0))[:, 0]
        assert when.min() == 8
        assert int(when.max()) - 8 < (5, 7, 9, 11)[block]
        assert int((where - 13).abs().max()) <= (2, 4, 6, 8)[block]
        if block:
            assert int((where - 13).abs().max()) > 2 * block  # more than the block before can see


def block_correlations(spec: SimulatedVideoSpec) -> dict[str, np.ndarray]:
    """Return how well each block explains each area without noise, {area: (blocks,)}.

    Mean correlation, over units and on the second half of the clips, of each unit's drive with its prediction by
    least squares, fitted on the first half, from the channels of that block at the unit's own place. 1 for the planted
    block; another block could do better than this from a wider patch.
    """
    clips, teacher = simulated_video._teacher(spec)
    truth = planted(spec)
    drive, half = simulated_video._drive(spec, clips, teacher, truth), spec.clips // 2 * spec.frames
    table = np.empty((drive.shape[1], BLOCKS))
    for block, channels in teacher.features(clips, dict.fromkeys(range(BLOCKS), truth["position"])).items():
        features = channels.reshape(len(drive), drive.shape[1], -1)
        for unit in range(drive.shape[1]):
            table[unit, block] = explained(features[:, unit], drive[:, unit], half)
    ends = np.cumsum([area.units for area in spec.areas.values()])
    return {name: part.mean(axis=0) for name, part in zip(spec.areas, np.split(table, ends[:-1]), strict=True)}


def explained(features: np.ndarray, drive: np.ndarray, half: int) -> float:
    """Return the correlation on the second half of least squares fitted on the first."""
    design = np.column_stack([features, np.ones(len(features))])
    weights, *_ = np.linalg.lstsq(design[:half], drive[:half], rcond=None)
    return float(np.corrcoef(design[half:] @ weights, drive[half:])[0, 1])


def test_every_area_is_explained_by_its_own_depth_alone() -> None:
    spec = small(clips=30, frames=30)
    found = block_correlations(spec)
    for name, area in spec.areas.items():
        others = np.delete(found[name], area.depth)
        assert found[name][area.depth] > 0.999
        assert others.max() < 0.85, found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_area_is_explained_by_its_own_depth_alone_at_full_size(seed: int) -> None:
    spec = SimulatedVideoSpec(format="simulated-video", seed=seed)
    found = block_correlations(spec)
    for name, area in spec.areas.items():
        assert np.delete(found[name], area.depth).max() < 0.7 < 0.999 < found[name][area.depth]


# -- the units --------------------------------------------------------------------------------------


def test_places_in_cortex_tell_where_units_look() -> None:
    areas = {name: VideoArea(depth=0, units=60) for name in ("V1", "LM", "RL")}
    truth = draw_units(areas, 0, 0, 0.0)
    mirrored = []
    for index in range(3):
        rows = slice(60 * index, 60 * (index + 1))
        place, looks = truth["coordinates"][rows, :2], truth["position"][rows]
        design = np.column_stack([place, np.ones(60)])
        weights, *_ = np.linalg.lstsq(design, looks, rcond=None)
        assert np.abs(design @ weights - looks).max() < 0.15
        assert np.corrcoef((design @ weights).ravel(), looks.ravel())[0, 1] > 0.99
        mirrored.append(np.linalg.det(weights[:2]) < 0)
    assert mirrored == [False, True, False]
    assert np.abs(truth["position"]).max() < 1


def test_another_area_leaves_the_others_as_they_are() -> None:
    one = draw_units({"V1": VideoArea(depth=0, units=3)}, 0, 2, 1.0)
    two = draw_units({"V1": VideoArea(depth=0, units=3), "LM": VideoArea(depth=1, units=2)}, 0, 2, 1.0)
    for key, values in one.items():
        assert np.array_equal(values, two[key][:3])


def units(latents: int = 0, gain: float = 0.8, count: int = 6) -> dict[str, np.ndarray]:
    return draw_units({"V1": VideoArea(depth=0, units=count)}, 3, latents, gain)


def test_gamma_responses_follow_the_planted_distribution() -> None:
    truth, drive = units(), np.linspace(-2, 2, 6)[None]
    random = np.random.default_rng(0)
    shown = np.repeat(drive, 20000, axis=0)
    found = respond(GAMMA, truth, shown, np.zeros((20000, 0)), 1.0, random)
    first = truth["q_bias"] + truth["q_gain"] * drive[0]
    second = truth["theta_bias"] + truth["theta_gain"] * drive[0]
    for unit in range(6):
        answer = found[:, unit]
        q = 1 / (1 + np.exp(-first[unit]))
        theta = second[unit] + 1 if second[unit] > 0 else np.exp(second[unit])
        active = answer > RHO
        assert stats.binomtest(int(active.sum()), 20000, q).pvalue > 1e-4
        assert stats.kstest(answer[active], stats.gamma(truth["k"][unit], RHO, theta).cdf).pvalue > 1e-4
        assert stats.kstest(answer[~active], stats.uniform(0, RHO).cdf).pvalue > 1e-4
        assert answer.mean() == pytest.approx(expected(GAMMA, truth, drive, 1.0)[0, unit], rel=0.03)


def test_poisson_responses_follow_the_planted_rate() -> None:
    truth, drive = units(), np.linspace(-2, 2, 6)[None]
    found = respond(
        "poisson", truth, np.repeat(drive, 20000, axis=0), np.zeros((20000, 0)), 2.0, np.random.default_rng(0)
    )
    rate = 2 * np.log1p(np.exp(1.5 * drive[0]))
    assert np.allclose(found.mean(axis=0), rate, rtol=0.05)
    assert np.allclose(found.var(axis=0), rate, rtol=0.06)
    assert np.allclose(expected("poisson", truth, drive, 2.0), rate)


@pytest.mark.parametrize("kind", ["poisson", GAMMA])
def test_the_expectation_is_over_the_latent_factors_too(kind: Any) -> None:
    truth, random = units(latents=3, gain=1.2), np.random.default_rng(1)
    drive = np.linspace(-2, 2, 6)[None]
    shown = np.repeat(drive, 60000, axis=0)
    found = respond(kind, truth, shown, random.standard_normal((60000, 3)), 2.0, random)
    error = found.std(axis=0) / np.sqrt(60000)
    mean = expected(kind, truth, drive, 2.0)[0]
    assert (np.abs(found.mean(axis=0) - mean) < 4.5 * error).all()
    without = expected(kind, {**truth, "u": 0 * truth["u"], "v": 0 * truth["v"]}, drive, 2.0)[0]
    assert (np.abs(found.mean(axis=0) - without) > 4.5 * error).any()  # the check above can fail


def test_latent_factors_make_the_planted_correlations() -> None:
    """Noise correlations to one clip shown often have the sign and rank of the loadings."""
    truth, random = units(latents=2, gain=1.0, count=10), np.random.default_rng(2)
    latents = random.standard_normal((20000, 2))
    found = respond("poisson", truth, np.zeros((20000, 10)), latents, 5.0, random)
    covariance = np.cov(found.T)
    planned = truth["u"] @ truth["u"].T
    apart = ~np.eye(10, dtype=bool)
    assert np.corrcoef(covariance[apart], planned[apart])[0, 1] > 0.97
    alone = respond("poisson", truth, np.zeros((20000, 10)), 0 * latents, 5.0, random)
    assert np.abs(np.corrcoef(alone.T)[apart]).max() < 0.04


def test_slow_noise_has_unit_variance_and_the_memory_asked_for() -> None:
    noise = slow_noise((4000, 30), 0.8, np.random.default_rng(0))
    assert noise.std() == pytest.approx(1, abs=0.03)
    later = [np.mean(noise[lag:] * noise[:-lag]) for lag in (1, 2, 5)]
    assert np.allclose(later, [0.8, 0.64, 0.8**5], atol=0.05)


# -- all of it together -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["poisson", GAMMA])
def test_many_repeats_average_to_the_noise_free_responses(kind: Any, cache: Path) -> None:
    spec = small(clips=6, repeated=1.0, repeats=200, latents=1, response=kind, memory=0.3)
    responses, rates = opened(spec, cache).fit.responses, noise_free(spec, cache)
    assert np.corrcoef(responses.mean(axis=2).ravel(), rates.ravel())[0, 1] > 0.97
    levels = responses.mean(axis=0)  # (units, repeats): repeats alone are independent
    error = levels.std(axis=1) / np.sqrt(200)
    assert (np.abs(levels.mean(axis=1) - rates.mean(axis=0)) < 4.5 * error).all()
    assert (error < 0.05 * rates.mean(axis=0)).all()


def test_units_look_where_they_are_planted(cache: Path) -> None:
    """Noise-free responses change with the picture only inside the field of the planted block at the planted place."""
    spec = small()
    truth = planted(spec)
    clips = draw_clips(spec.clips, spec.frames, (spec.size, spec.width), [spec.seed, 34])
    teacher = VideoTeacher.of(clips, 4, np.random.default_rng([spec.seed, 35]))
    unit = int(np.flatnonzero(truth["depth"] == 1)[0])
    column, row = (truth["position"][unit] + 1) / 2 * [spec.width - 1, spec.size - 1]
    features = {}
    for what in ("as it is", "elsewhere", "there"):
        changed = clips.copy()
        far = np.hypot(*np.meshgrid(np.arange(20) - column, np.arange(12) - row)) > 8
        if what != "as it is":
            changed[:, :, far if what == "elsewhere" else ~far] ^= 255
        features[what] = teacher.features(changed, {1: truth["position"][[unit]]})[1] @ truth["weights"][unit]
    assert np.array_equal(features["elsewhere"], features["as it is"])
    assert not np.allclose(features["there"], features["as it is"])
    responses = noise_free(spec, cache)[:, unit]
    assert stats.spearmanr(features["as it is"].ravel(), responses)[0] > 0.999  # the rate only grows with the drive


def test_behaviour_follows_the_first_factor_and_nothing_else(cache: Path) -> None:
    spec = small(clips=40, latents=2, repeated=0.0, size=8, width=8)
    fit, latents = opened(spec, cache).fit, latent_factors(spec, cache)
    assert fit.behaviour is not None
    assert latents.shape == (800, 2, 1)
    found = np.corrcoef(np.column_stack([latents[..., 0], fit.behaviour[..., 0]]).T)
    assert found[0, 2] == pytest.approx(0.8, abs=0.1)  # pupil size
    assert found[0, 3] > 0.5  # running
    assert np.abs(found[1, 2:]).max() < 0.25  # the second factor
    none = small(clips=6, latents=0, repeated=0.0, size=8, width=8)
    assert latent_factors(none, cache).shape == (120, 0, 1)
    assert np.isfinite(opened(none, cache).fit.behaviour).all()  # type: ignore[arg-type]


def test_shuffled_responses_belong_to_other_clips(cache: Path) -> None:
    settings: dict[str, Any] = {"repeated": 1.0, "repeats": 30, "size": 8, "width": 8}
    plain, shuffled = (opened(small(shuffled=which, **settings), cache).fit.average for which in (False, True))
    rates = noise_free(small(**settings), cache)
    right, wrong = (np.corrcoef(found.ravel(), rates.ravel())[0, 1] for found in (plain, shuffled))
    assert right > 0.9
    same = [
        np.corrcoef(shuffled[20 * clip : 20 * clip + 20].ravel(), plain[20 * other : 20 * other + 20].ravel())[0, 1]
        for clip in range(12)
        for other in range(12)
    ]
    moved = np.array(same).reshape(12, 12).argmax(axis=1)
    assert sorted(moved) == list(range(12))  # every clip's responses are there, at another clip
    assert (moved != np.arange(12)).mean() > 0.7
    assert wrong < right
    [facts] = describe([small(shuffled=True).model_dump()], "")
    assert facts.notes["planted"]["depth"] == {}
