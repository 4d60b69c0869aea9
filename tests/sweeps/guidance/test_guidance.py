"""Guided pictures after a sweep: made by the best twin, better than without guidance, also for twins that judge."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_recording
from inline import plan_of, run_inline
from PIL import Image
from pydantic import ValidationError
from rich.console import Console

from sweeps.commands.run import write_experiment
from sweeps.errors import InputError
from sweeps.experiment.guidance import DIFFUSION, FOURIER, Guidance
from sweeps.experiment.schema import parse_experiment
from sweeps.features.worker_data import WorkerData
from sweeps.guidance.gallery import title, twin_name
from sweeps.guidance.guide import GuidanceResult, guide, plan_guidance
from sweeps.guidance.rows import best_pictures
from sweeps.guidance.synthesis import Judgement, Synthesizer
from sweeps.guidance.tables import show_guided
from sweeps.guidance.twins import Target, choose_twins
from sweeps.storage.load import load

torch.set_num_threads(1)

SECTION = {"areas": ["V1"], "seeds": 4, "steps": 12, "step": 0.1, "keep": 0.5}


def experiment_on(data: Path) -> dict[str, Any]:
    return {
        "name": "small",
        "recordings": [{"format": "folder", "path": str(data), "image": {"size": 32}}],
        "probes": {},
        "space": {
            "backbone": "efficientnet-lite0",
            "depth": {"V1": [0, 2], "V4": [0]},
            "readout": {"ridge": {"pool": 4, "alpha": ["auto", 0.3]}},
            "seed": [0, 1],
        },
        "scores": ["prediction"],
        "guidance": SECTION,
    }


def run(experiment: dict[str, Any], folder: Path) -> str:
    """A finished sweep; returns its storage."""
    plan = plan_of(experiment, folder)
    run_inline(plan)
    write_experiment(plan)
    return plan.storage


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("finished")
    data = write_recording(folder / "data" / "small", stimuli=220, areas={"V1": 3, "V4": 3})
    return run(experiment_on(data), folder)


@pytest.fixture(scope="module")
def made(finished: str) -> GuidanceResult:
    return guide(finished)


def row(made: GuidanceResult, role: str) -> pd.Series:
    [found] = [each for _, each in made.rows.iterrows() if each["role"] == role]
    return found


def test_guided_pictures_beat_unguided_ones_also_for_a_twin_that_did_not_make_them(made: GuidanceResult) -> None:
    own, judge = row(made, "guide"), row(made, "judge")
    assert own["gain_over_unguided"] > 1
    assert judge["gain_over_unguided"] > 0.5
    assert own["transfer_gain"] == pytest.approx(judge["gain_over_unguided"])
    assert own["transfer_gain_over_best"] == pytest.approx(judge["gain_over_best"])
    assert own["activity_guided"] - own["activity_unguided"] == pytest.approx(own["gain_over_unguided"])
    assert own["activity_kept"] - own["activity_best_natural"] == pytest.approx(own["gain_over_best"])
    assert own["activity_kept"] >= own["activity_guided"]
    assert own["off_target_ratio"] < 1
    assert (own["seeds"], own["kept"], own["natural"], own["judges"]) == (4, 2, 220, 1)


def test_the_judge_reads_other_features_than_the_guide(made: GuidanceResult, finished: str) -> None:
    """The best twins differ only in alpha and seed: they are not judges of each other."""
    own, judge = row(made, "guide"), row(made, "judge")
    assert {own["depth"], judge["depth"]} == {0, 2}
    cells = load(finished, "cells").set_index("cell_id")
    best = cells[cells["area"] == "V1"]["select.prediction"].idxmax()
    assert own["cell_id"] == best
    assert own["prediction"] == cells.loc[best, "score.prediction"]
    everyone = Guidance(areas=["V1"], differ="any", twins="best:9")
    [job] = plan_guidance(finished, everyone)[2]
    assert [len({twin.cell("V1").cell_id for twin in job.twins})] == [8]


def test_pictures_and_rows_lie_in_the_storage(made: GuidanceResult, finished: str) -> None:
    [folder] = made.folders
    place = Path(finished) / folder
    names = {path.name for path in place.iterdir()}
    assert names == {"gallery.png", *(f"{kind}-{seed:04d}.png" for kind in ("guided", "unguided") for seed in range(4))}
    shown = np.asarray(Image.open(place / "guided-0000.png"))
    assert shown.shape == (32, 32, 3)
    assert np.asarray(Image.open(place / "gallery.png")).std() > 10
    stored = pd.read_parquet(Path(finished) / "guidance")
    assert set(stored["guidance_id"]) == set(made.rows["guidance_id"])
    assert stored["rms_contrast_guided"].notna().sum() == 1
    pixels = np.stack([np.asarray(Image.open(place / f"guided-{seed:04d}.png")) for seed in range(4)]) / 255
    contrast = pixels.std(axis=(1, 2), keepdims=True)
    assert row(made, "guide")["rms_contrast_guided"] == pytest.approx(
        np.sqrt((contrast**2).mean(axis=3)).mean(), rel=0.02
    )


def test_what_is_known_is_not_made_again(made: GuidanceResult, finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("pictures that are there were made again")

    monkeypatch.setattr("sweeps.guidance.synthesis.Synthesizer.make", refuse)
    before = sorted(Path(finished).rglob("*"))
    again = guide(finished)
    pd.testing.assert_frame_equal(again.rows, made.rows)
    assert sorted(Path(finished).rglob("*")) == before
    with pytest.raises(AssertionError, match="made again"):
        guide(finished, Guidance(**{**SECTION, "seeds": 3}))


def test_pictures_for_a_contrast_have_more_of_it_than_pictures_for_the_area_alone(finished: str) -> None:
    section = {**SECTION, "areas": ["V4"], "contrast": {"target": "V4", "against": "V1", "weight": 2.0}}
    held, plan, [alone, contrast] = plan_guidance(finished, Guidance(**section, twins="best:1"))
    synthesizer = Synthesizer(WorkerData(plan.context()), held)
    shown = [synthesizer.make(job.target, job.twins[0]) for job in (alone, contrast)]
    for_area, for_contrast = (synthesizer.judge(contrast.target, contrast.twins[0], each) for each in shown)
    assert (for_contrast.objective["guided"] > for_area.objective["guided"] + 0.3).all()
    assert torch.equal(shown[0].unguided, shown[1].unguided)  # the same seeds
    for kind in ("guided", "natural"):
        area, against = (
            synthesizer.judge(Target("small", name), contrast.twins[0], shown[1]).objective[kind]
            for name in ("V4", "V1")
        )
        np.testing.assert_allclose(for_contrast.objective[kind], area - 2 * against)
    assert for_contrast.others["guided"].shape == (0, 4)


def test_a_row_of_a_contrast_without_judges(finished: str) -> None:
    contrast = {"target": "V4", "against": "V1", "weight": 2.0}
    found = guide(finished, Guidance(contrast=contrast, twins="best:1", seeds=2, steps=2))
    own = row(found, "guide")
    assert (own["area"], own["against"], own["weight"]) == ("V4", "V1", 2.0)
    assert own["judges"] == 0
    assert np.isnan(own["transfer_gain"])
    assert np.isnan(own["off_target_ratio"])  # there is no third area
    assert found.folders == [f"galleries/small-V4-V1-{own['gallery']}"]
    text = io.StringIO()
    show_guided(found, Console(file=text, width=200, highlight=False))
    assert "V4 - 2 V1 of small" in text.getvalue()
    assert "no other twin judges these pictures" in text.getvalue()


def test_an_area_that_is_not_predicted_is_refused_before_anything_is_made(finished: str) -> None:
    before = set(Path(finished).rglob("*"))
    with pytest.raises(InputError, match=r"refused: the best twin predicts V4 with 0\.\d+ .* least_prediction = 0.99"):
        guide(finished, Guidance(areas=["V1", "V4"], least_prediction=0.99, contrast=None), areas=["V4"])
    assert set(Path(finished).rglob("*")) == before


def test_areas_that_nothing_reads_are_refused(finished: str) -> None:
    with pytest.raises(InputError, match="guidance = 'V9': no such area; allowed: V1, V4"):
        guide(finished, areas=["V9"])


def test_without_a_section_areas_are_needed(tmp_path: Path) -> None:
    data = write_recording(tmp_path / "data" / "small")
    plan = plan_of({**experiment_on(data), "guidance": None}, tmp_path)
    write_experiment(plan)
    with pytest.raises(InputError, match="no section `guidance`, and no areas are given"):
        guide(plan.storage)


def test_twins_of_grey_recordings_get_grey_pictures(tmp_path: Path) -> None:
    data = write_recording(tmp_path / "data" / "small", stimuli=60)
    with zipfile.ZipFile(data / "images.zip") as archive:
        pictures = {name: Image.open(io.BytesIO(archive.read(name))).convert("L") for name in archive.namelist()}
    with zipfile.ZipFile(data / "images.zip", "w") as archive:
        for name, picture in pictures.items():
            held = io.BytesIO()
            picture.save(held, "PNG")
            archive.writestr(name, held.getvalue())
    space = {"backbone": "pixels", "depth": {"shared": "all"}, "readout": "ridge"}
    section = {**SECTION, "least_prediction": 0.0, "contrast_cap": 0.05}
    storage = run({**experiment_on(data), "space": space, "guidance": section}, tmp_path)
    [folder] = guide(storage).folders
    pixels = np.asarray(Image.open(Path(storage) / folder / "guided-0001.png"), dtype=float)
    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert pixels.std() / 255 <= 0.05 + 0.003  # and under the cap, but for rounding


def test_what_is_printed(made: GuidanceResult) -> None:
    text = io.StringIO()
    show_guided(made, Console(file=text, width=200, highlight=False))
    printed = text.getvalue()
    for words in ("V1 of small: gains in sd", "held-out prediction", "guide", "judge", "transfer gain", "gallery.png"):
        assert words in printed
    rows = made.rows.sort_values("role").to_dict("records")
    assert f"({rows[0]['prediction']:.2f})" in title(rows)
    assert "judges: none" in title(rows[:1])
    config = json.dumps({"backbone": {"name": "efficientnet-lite0", "weights": "random"}})
    unusual = twin_name({"backbone": "efficientnet-lite0", "depth": 3, "readout": "ridge", "config": config})
    assert unusual == "efficientnet-lite0 random block 3 ridge"


def test_the_best_pictures_are_those_by_the_guide() -> None:
    judgement = Judgement({"guided": np.array([1.0, 5.0, 3.0, 5.0, 0.0])}, {})
    assert best_pictures(Guidance(areas=["V1"], seeds=5, keep=0.6), judgement).tolist() == [1, 3, 2]
    assert best_pictures(Guidance(areas=["V1"], seeds=5, keep=0.01), judgement).tolist() == [1]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "guidance = {}: names nothing to drive: give `areas` or a `contrast`"),
        ({"areas": ["V1"], "method": "diffusion"}, "`pipeline` is needed with method diffusion"),
        ({"areas": ["V1"], "pipeline": "a"}, "`pipeline` is needed with method diffusion, and has no meaning"),
        ({"areas": ["V1"], "gamma": 3.0}, "`gamma` has no meaning with method fourier"),
        ({"areas": ["V1"], "method": "diffusion", "pipeline": "a", "jitter": 2}, "`jitter` has no meaning"),
        ({"areas": ["V1"], "twins": "worst"}, "guidance.twins = 'worst': must be best:N"),
        ({"areas": ["V1"], "method": "magic"}, "guidance.method = 'magic': unknown method; allowed: fourier"),
        ({"areas": ["V1"], "sede": 1}, "guidance.sede: unknown key"),
        ({"contrast": {"target": "V1"}}, "guidance.contrast.against: is missing"),
    ],
)
def test_a_section_that_means_nothing_is_refused(section: dict[str, Any], words: str) -> None:
    raw = {"name": "a", "recordings": [{"format": "folder", "path": "x"}], "space": {}, "guidance": section}
    with pytest.raises(InputError) as caught:
        parse_experiment(raw)
    assert words in str(caught.value)


def test_a_section_survives_being_stored_with_its_defaults() -> None:
    for section in ({"areas": ["V1"]}, {"areas": ["V1"], "method": "diffusion", "pipeline": "a", "gamma": 3.0}):
        held = Guidance(**section)
        assert Guidance(**held.model_dump(mode="json")) == held
        filled = held.resolved()
        own, other = (FOURIER, DIFFUSION) if held.method == "fourier" else (DIFFUSION, FOURIER)
        assert {name: filled[name] for name in own} == {**own, **({"gamma": 3.0} if "gamma" in section else {})}
        assert not set(other) & set(filled)
    with pytest.raises(ValidationError):
        Guidance(areas=["V1"], keep=0.0)


@pytest.mark.slow
def test_a_diffusion_model_is_guided_from_its_folder(finished: str, tmp_path: Path) -> None:
    """A tiny pipeline that was never trained: pictures of another size than the twin's, same table, same promises."""
    pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")
    from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = UNet2DModel(
            sample_size=24,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
        )
    DDPMPipeline(network, DDIMScheduler()).save_pretrained(tmp_path / "tiny", safe_serialization=True)
    section = {"areas": ["V1"], "method": "diffusion", "pipeline": str(tmp_path / "tiny"), "seeds": 4, "steps": 12}
    found = guide(finished, Guidance(**section, gamma=20.0, attention=0.5))
    own = row(found, "guide")
    assert own["gain_over_unguided"] > 0.2
    assert own["transfer_gain"] > 0
    shown = np.asarray(Image.open(Path(finished) / found.folders[0] / "guided-0000.png"))
    assert shown.shape == (24, 24, 3)
    with pytest.raises(InputError, match=r"guidance.pipeline = .*nowhere.*: cannot be used"):
        guide(finished, Guidance(**{**section, "pipeline": str(tmp_path / "nowhere")}))


def test_a_twin_without_gradients_judges_and_never_guides(tmp_path: Path) -> None:
    data = write_recording(tmp_path / "data" / "small", stimuli=220, areas={"V1": 3, "V4": 3})
    experiment = experiment_on(data)
    small = {"sheet": {"rule": "fixed", "side": 6, "pixels": 6, "layers": 2, "in_degree": 4, "out_degree": 4}}
    ridge = {"ridge": {"pool": 4}}
    space = {"backbone": ["efficientnet-lite0", small], "depth": {"shared": [0]}, "readout": ridge, "seed": 0}
    storage = run({**experiment, "space": space}, tmp_path)
    held, plan, _ = plan_guidance(storage)
    trials, areas = load(storage), load(storage, "areas")
    sheet = areas["config.backbone"] == "sheet"
    assert sheet.sum() == 2
    areas.loc[sheet, ["select.prediction", "score.prediction"]] = 0.99  # the sheet is the best twin
    target = Target("small", "V1")
    guiding, judging = choose_twins(held, target, trials, areas, plan.planner)
    assert guiding.cell("V1").backbone["name"] == "efficientnet-lite0"
    assert judging.cell("V1").backbone["name"] == "sheet"
    with pytest.raises(InputError, match="gradients pass no finished twin of this area"):
        choose_twins(held, target, trials, areas[sheet], plan.planner)
    areas["config.readout"] = "latent"
    with pytest.raises(InputError, match="no finished twin of this area is a function of pictures"):
        choose_twins(held, target, trials, areas, plan.planner)
