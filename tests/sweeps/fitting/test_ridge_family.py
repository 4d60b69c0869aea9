"""Readouts in closed form through whole sweeps, and cell by cell against scikit-learn on the features themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inline import plan_of, run_inline, trials_of
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from metrics import delayed
from models.inputs.tensors import as_images
from models.linear.projection import SparseProjection, johnson_lindenstrauss_size
from models.linear.ridge import ALPHAS
from models.readouts import READOUTS
from sweeps.experiment.cells import Cell
from sweeps.features.block_features import BlockFeatures
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.cell_fit import CellFit
from sweeps.fitting.fit_cells import fit_cells
from sweeps.fitting.predictors import is_linear, predictors_of
from sweeps.storage.load import load

FAMILY: dict[str, Any] = {
    "ridge": {"pool": 4},
    "ridge nested": {"pool": 4, "layer": "nested"},
    "srp-ridge": {"pool": 4, "eps": 0.3},
    "srp-ridge nested": {"pool": 4, "eps": 0.3, "layer": "nested"},
    "srp-ridge centred": {"pool": 4, "kernel": "centred"},
    "srp-ridge zscored": {"pool": 4, "kernel": "zscored"},
    "pls": {"pool": 4, "components": 8},
    "banded-ridge": {"pool": 4, "iterations": 4},
    "banded-ridge folds": {"pool": 4, "iterations": 2, "folds": 3},
}
"""Every readout, and every way of it that has code of its own."""


SLOW = ("ridge", "srp-ridge nested", "srp-ridge centred", "srp-ridge zscored", "banded-ridge")
"""Left to the slow tests where each readout is fitted several times for one check."""

EACH = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FAMILY]


FAST = [name for name in FAMILY if name not in SLOW]


def readout_of(name: str) -> dict[str, Any]:
    return {name.split(" ")[0]: FAMILY[name]}


@pytest.fixture
def small(make_recording: Any, tmp_path: Path) -> dict[str, Any]:
    """A recording that is not folded, read from one block and from two together."""
    folder = make_recording(tmp_path / "data" / "small", stimuli=210, areas={"V1": 4, "V4": 5})
    return {
        "name": "small",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {},
        "space": {
            "backbone": "efficientnet-lite0",
            "depth": {"V1": [1, [0, 1]], "V4": [[0, 1]]},
            "readout": readout_of("ridge"),
        },
        "scores": ["prediction"],
    }


@pytest.mark.parametrize("names", [FAST, pytest.param(list(FAMILY), marks=pytest.mark.slow)], ids=["fast", "all"])
def test_every_readout_predicts_and_no_number_depends_on_the_pack(
    names: list[str], small: dict[str, Any], tmp_path: Path
) -> None:
    small["space"]["readout"] = [readout_of(name) for name in names]
    plans = [plan_of(small, tmp_path / name) for name in ("one", "many")]
    for plan, size in zip(plans, (1, 50), strict=True):
        run_inline(plan, pack_size=size)
    cells = load(plans[0].storage, "cells").set_index("cell_id").sort_index()
    again = load(plans[1].storage, "cells").set_index("cell_id").sort_index()
    assert len(cells) == 3 * len(names)
    assert (cells["status"] == "done").all(), cells["error"].dropna().tolist()
    assert set(cells["config.readout"]) == {"ridge", "srp-ridge", "pls", "banded-ridge"}
    for column in ("select.prediction", "score.prediction", "alpha"):
        np.testing.assert_allclose(cells[column], again.loc[cells.index, column], rtol=1e-9)
    assert (cells["score.prediction"] > 0.6).all(), cells[["config.readout", "score.prediction"]]
    assert cells["alpha"].isna().equals(cells["config.readout"] == "pls")
    assert len(trials_of(plans[0])) == 2 * len(names)


def fitted(experiment: dict[str, Any], tmp_path: Path, change: Callable[[Cell], Cell] = lambda cell: cell) -> Any:
    """WorkerData, recording, cell, fold and fit of the first cell of an experiment."""
    plan = plan_of(experiment, tmp_path)
    worker = WorkerData(plan.context())
    cell = change(plan.planner.cells(next(iter(plan.space.grid())))[0])
    [fit] = fit_cells(worker, [cell])
    recording = worker.recording(cell.recording)
    return worker, recording, cell, worker.folds(recording, cell.seed), fit


def only(experiment: dict[str, Any], depth: Any, readout: dict[str, Any]) -> dict[str, Any]:
    return {**experiment, "space": {**experiment["space"], "depth": {"V1": [depth]}, "readout": readout}}


def flat_maps(worker: WorkerData, recording: Any, cell: Cell) -> list[np.ndarray]:
    """Features of every block (stimuli, features), float64."""
    blocks = [BlockFeatures(recording, cell.backbone, 0, block, cell.readout["pool"]) for block in cell.blocks]
    maps = [worker.maps(block, "fit") for block in blocks]
    return [each.reshape(len(each), -1).astype(np.float64) for each in maps]


def side_by_side(bands: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Bands concatenated, each divided by the root of its mean squared distance to its mean over `rows`."""
    sizes = [((band[rows] - band[rows].mean(axis=0)) ** 2).sum(axis=1).mean() for band in bands]
    return np.hstack([band / np.sqrt(size) for band, size in zip(bands, sizes, strict=True)])


def ridge_left_out(x: np.ndarray, y: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """scikit-learn's leave-one-out ridge, one alpha per unit on our grid."""
    scale = ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    found = [RidgeCV([a * scale for a in ALPHAS], scoring="neg_mean_squared_error").fit(x, unit) for unit in y.T]
    return np.stack([model.predict(shown) for model in found], axis=1)


def check(fit: CellFit, folds: list, expected: Callable[[np.ndarray, np.ndarray], np.ndarray], atol: float) -> None:
    """Held-out predictions of both splits against `expected(fitted rows, held-out rows)`."""
    for fold in folds:
        for split in ("select", "report"):
            rows, held = fold.fitted_on(split), fold.held_out(split)
            np.testing.assert_allclose(fit.held_out[split][held], expected(rows, held), atol=atol)


def test_ridge_of_several_blocks_is_that_of_their_features_side_by_side(small: dict[str, Any], tmp_path: Path) -> None:
    held = fitted(only(small, [0, 1], {"ridge": {"pool": 4}}), tmp_path)
    worker, recording, cell, folds, fit = held
    bands, y = flat_maps(worker, recording, cell), recording.fit.average[:, recording.units("V1")]
    assert len(bands) == 2

    def expected(rows: np.ndarray, held: np.ndarray) -> np.ndarray:
        x = side_by_side(bands, rows)
        return ridge_left_out(x[rows], y[rows], x[held])

    check(fit, folds, expected, atol=1e-4)


def test_nested_ridge_takes_each_unit_from_the_block_that_is_best_inside_the_fit(
    small: dict[str, Any], tmp_path: Path
) -> None:
    held = fitted(only(small, [0, 1], {"ridge": {"pool": 4, "layer": "nested"}}), tmp_path)
    worker, recording, cell, folds, fit = held
    bands, y = flat_maps(worker, recording, cell), recording.fit.average[:, recording.units("V1")]
    taken = []

    def expected(rows: np.ndarray, held: np.ndarray) -> np.ndarray:
        found, errors = [], []
        for x in bands:
            scale = ((x[rows] - x[rows].mean(axis=0)) ** 2).sum(axis=1).mean()
            alphas = [alpha * scale for alpha in ALPHAS]
            models = [RidgeCV(alphas, scoring="neg_mean_squared_error").fit(x[rows], unit) for unit in y[rows].T]
            found.append(np.stack([model.predict(x[held]) for model in models], axis=1))
            errors.append([-model.best_score_ for model in models])
        best = np.argmin(errors, axis=0)
        taken.extend(best)
        return np.stack([found[block][:, unit] for unit, block in enumerate(best)], axis=1)

    check(fit, folds, expected, atol=1e-4)
    assert len(set(taken)) == 2


@pytest.mark.parametrize(
    ("kernel", "depth"), [("projection", 1), ("projection", [0, 1]), ("zscored", [0, 1]), ("centred", 1)]
)
def test_srp_ridge_is_a_pipeline_of_scikit_learn(
    small: dict[str, Any], tmp_path: Path, kernel: str, depth: Any
) -> None:
    """Project, z-score by the stimuli of the fit alone, leave-one-out ridge per unit."""
    settings = {"pool": 4, "eps": 0.4, "kernel": kernel, "projection_seed": 3}
    worker, recording, cell, folds, fit = fitted(only(small, depth, {"srp-ridge": settings}), tmp_path)
    bands, y = flat_maps(worker, recording, cell), recording.fit.average[:, recording.units("V1")]
    size = johnson_lindenstrauss_size(210, 0.4)
    if kernel == "projection":
        bands = [SparseProjection(x.shape[1], size, 3)(torch.from_numpy(x)).numpy() for x in bands]
        assert all(x.shape == (210, 364) for x in bands)

    def expected(rows: np.ndarray, held: np.ndarray) -> np.ndarray:
        scaled = bands if kernel == "centred" else [StandardScaler().fit(x[rows]).transform(x) for x in bands]
        x = side_by_side(scaled, rows)
        return ridge_left_out(x[rows], y[rows], x[held])

    check(fit, folds, expected, atol=2e-3)


@pytest.mark.parametrize("name", EACH)
def test_responses_that_are_held_out_change_no_prediction(name: str, small: dict[str, Any], tmp_path: Path) -> None:
    """Nothing of the report rows reaches their predictions, whatever is chosen on the way."""
    file = Path(small["recordings"][0]["path"]) / "responses.npy"
    experiment = only(small, [0, 1], readout_of(name))
    *_, folds, before = fitted(experiment, tmp_path)
    changed = np.load(file)
    changed[folds[0].report] = np.random.default_rng(0).permutation(changed[folds[0].report])
    np.save(file, changed)
    *_, after = fitted(experiment, tmp_path)
    np.testing.assert_array_equal(before.held_out["report"], after.held_out["report"])


def test_pls_is_that_of_scikit_learn_on_all_units_of_the_area(small: dict[str, Any], tmp_path: Path) -> None:
    held = fitted(only(small, 1, {"pls": {"pool": 4, "components": 5}}), tmp_path)
    worker, recording, cell, folds, fit = held
    [x], y = flat_maps(worker, recording, cell), recording.fit.average[:, recording.units("V1")]

    def expected(rows: np.ndarray, held: np.ndarray) -> np.ndarray:
        return PLSRegression(5, scale=False, max_iter=10_000, tol=1e-12).fit(x[rows], y[rows]).predict(x[held])

    check(fit, folds, expected, atol=1e-3)
    assert "alpha" not in fit.facts


def test_banded_ridge_of_one_block_is_ridge(small: dict[str, Any], tmp_path: Path) -> None:
    fits = [
        fitted(only(small, 1, readout), tmp_path / name)[-1]
        for name, readout in (("ridge", {"ridge": {"pool": 4}}), ("banded", {"banded-ridge": {"pool": 4}}))
    ]
    for split in ("select", "report"):
        np.testing.assert_allclose(fits[0].held_out[split], fits[1].held_out[split], rtol=1e-6, equal_nan=True)
    assert fits[0].facts["alpha"] == pytest.approx(fits[1].facts["alpha"])


@pytest.mark.parametrize("name", EACH)
def test_the_twin_as_a_function_of_pictures_gives_what_was_scored(
    name: str, small: dict[str, Any], tmp_path: Path
) -> None:
    experiment = only(small, [0, 1], readout_of(name))
    experiment["probes"] = {"objects": {"rendered": {"rotations": 4}}, "captions": None}
    worker, recording, cell, folds, fit = fitted(experiment, tmp_path)
    assert is_linear(cell.readout)
    [predictor] = predictors_of(worker, [cell])
    rows = folds[0].report
    pictures = as_images(recording.fit.images(slice(0, 210)), torch.device("cpu"))[rows]
    np.testing.assert_allclose(predictor(pictures).double().numpy(), fit.held_out["report"][rows], atol=3e-3)
    shown = as_images(worker.shown(recording)["probe.objects"].load(slice(0, 8)), torch.device("cpu"))
    expected = fit.shown["report"]["probe.objects"][:8]
    np.testing.assert_allclose(predictor(shown).double().numpy(), expected, atol=3e-3)


def test_defaults_that_ridge_got_later_leave_its_identity_alone() -> None:
    before = {"name": "ridge", "alpha": "auto", "pool": 7}
    held = READOUTS["ridge"]
    assert held.identity({**before, "delays": 0, "layer": "fixed"}) == held.identity(before)
    assert held.identity({**before, "delays": 2, "layer": "fixed"}) != held.identity(before)
    new = READOUTS["srp-ridge"].identity({"name": "srp-ridge", "delays": 0, "layer": "fixed"})
    assert {"delays", "layer"} <= set(new)


@pytest.fixture
def runs(make_recording: Any, tmp_path: Path) -> dict[str, Any]:
    """Six runs of 40 samples with two feature sets; responses follow the first 1 and 2 samples later."""
    folder = make_recording(tmp_path / "data" / "runs", stimuli=240, areas={"V1": 4}, repeats=1)
    random = np.random.default_rng(0)
    labels = np.repeat([f"run{index}" for index in range(6)], 40)
    sets = {"words": random.standard_normal((240, 6)), "sounds": random.standard_normal((240, 60))}
    copies = np.asarray(delayed(sets["words"], (1, 2), labels))
    responses = copies @ random.standard_normal((12, 4)) + 2 * random.standard_normal((240, 4))
    np.save(folder / "responses.npy", responses.astype(np.float32))
    np.savez(folder / "features.npz", **sets)
    lines = [f"{index:04d}.png,{label},{label}" for index, label in enumerate(labels)]
    (folder / "stimuli.csv").write_text("\n".join(["file,group,run", *lines]) + "\n")
    (folder / "images.zip").unlink()
    return {
        "name": "runs",
        "recordings": [{"format": "folder", "path": str(folder)}],
        "probes": {},
        "space": {
            "backbone": {"features": {"set": "words"}},
            "depth": {"V1": [0]},
            "readout": {"ridge": {"delays": 2}},
        },
        "scores": ["prediction", "feature_transfer"],
        "split": {"report": 0.25, "select": 0.25},
    }


def test_delays_are_a_ridge_on_copies_within_runs(runs: dict[str, Any], tmp_path: Path) -> None:
    runs["space"]["readout"] = {"ridge": {"delays": 2, "alpha": 0.1}}
    _, recording, _, folds, fit = fitted(runs, tmp_path)
    x, y = recording.features["words"], recording.fit.average
    copies = np.asarray(delayed(x - x.mean(axis=0), (1, 2), recording.groups))

    def expected(rows: np.ndarray, held: np.ndarray) -> np.ndarray:
        scale = ((copies[rows] - copies[rows].mean(axis=0)) ** 2).sum(axis=1).mean()
        return Ridge(alpha=0.1 * scale).fit(copies[rows], y[rows]).predict(copies[held])

    check(fit, folds, expected, atol=1e-9)


def test_delays_see_what_no_delay_can(runs: dict[str, Any], tmp_path: Path) -> None:
    runs["space"]["readout"] = {"ridge": {"delays": [0, 2]}}
    plan = plan_of(runs, tmp_path)
    run_inline(plan)
    trials = trials_of(plan).set_index("config.readout.delays")
    assert trials.loc[2, "score.prediction"] > 0.8
    assert trials.loc[0, "score.prediction"] < 0.3
    assert trials["score.feature_transfer_direct"].to_dict() == pytest.approx(trials["score.prediction"].to_dict())


def test_delays_of_pictures_without_runs_are_an_error_of_the_cell(small: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(only(small, 1, {"ridge": {"delays": 2}}), tmp_path)
    run_inline(plan)
    cells = load(plan.storage, "cells")
    assert cells["status"].tolist() == ["failed"]
    assert "delays need runs of consecutive samples; the longest of 210 runs has one" in cells["error"][0]


def test_feature_sets_joined_by_a_plus_are_bands(runs: dict[str, Any], tmp_path: Path) -> None:
    """Banded ridge shuts out the set that says nothing; ridge gives both the same say, and loses by it."""
    runs["space"]["backbone"] = {"features": {"set": ["words", "words+sounds"]}}
    runs["space"]["readout"] = [{"ridge": {"delays": 2}}, {"banded-ridge": {"delays": 2, "iterations": 6}}]
    plan = plan_of(runs, tmp_path)
    run_inline(plan)
    trials = trials_of(plan)
    assert (trials["status"] == "done").all()
    found = trials.set_index(["config.readout", "config.backbone.set"])["score.prediction"]
    assert found["banded-ridge", "words"] == pytest.approx(found["ridge", "words"])
    assert found["banded-ridge", "words+sounds"] > found["ridge", "words"] - 0.01
    assert found["ridge", "words+sounds"] < found["ridge", "words"] - 0.02
    transfer = trials.set_index(["config.readout", "config.backbone.set"])["score.feature_transfer"]
    together = transfer.index.get_level_values(1) == "words+sounds"
    np.testing.assert_array_equal(transfer.isna(), together)


def test_two_sets_are_ridge_on_both_side_by_side(runs: dict[str, Any], tmp_path: Path) -> None:
    runs["space"]["readout"] = {"ridge": {"alpha": 0.1}}

    def both(cell: Cell) -> Cell:
        return replace(cell, backbone={**cell.backbone, "set": "words+sounds"})

    _, recording, _, folds, fit = fitted(runs, tmp_path, both)
    bands, y = [recording.features[name] for name in ("words", "sounds")], recording.fit.average

    def expected(rows: np.ndarray, held: np.ndarray) -> np.ndarray:
        x = side_by_side(bands, rows)
        return Ridge(alpha=0.1 * 2).fit(x[rows], y[rows]).predict(x[held])

    check(fit, folds, expected, atol=1e-9)


@pytest.mark.parametrize("name", EACH)
def test_missing_responses_are_fitted_on_what_is_there(name: str, small: dict[str, Any], tmp_path: Path) -> None:
    file = Path(small["recordings"][0]["path"]) / "responses.npy"
    responses = np.load(file)
    responses[::3, 0] = np.nan
    np.save(file, responses)
    _, recording, _, folds, fit = fitted(only(small, [0, 1], readout_of(name)), tmp_path)
    rows = folds[0].report
    there = np.isfinite(recording.fit.average[rows, 0])
    assert 0 < there.sum() < len(rows)
    r = np.corrcoef(fit.held_out["report"][rows[there], 0], recording.fit.average[rows[there], 0])[0, 1]
    assert r > 0.5
