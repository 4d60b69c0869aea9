"""A fitted cell as a function of pictures gives the predictions that were scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inline import plan_of, run_inline

from models.inputs.tensors import as_images
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.fit_cells import fit_cells
from sweeps.fitting.predictors import predictors_of
from sweeps.storage.load import load

TWINS: dict[str, tuple[Any, Any]] = {
    "ridge": ("efficientnet-lite0", {"ridge": {"pool": 4}}),
    "gaussian": ("efficientnet-lite0", {"gaussian": {"loss": "poisson", "epochs": 2, "pool": 4}}),
    "trained": ({"conv": {"epochs": 2, "layers": 2, "channels": 4}}, {"gaussian": {"loss": "poisson", "epochs": 2}}),
}


@pytest.mark.parametrize("name", TWINS)
def test_it_predicts_what_was_scored(name: str, make_recording: Any, tmp_path: Path) -> None:
    backbone, readout = TWINS[name]
    folder = make_recording(tmp_path / "data" / "small", stimuli=240, areas={"V1": 3, "V4": 4})
    np.save(folder / "responses.npy", np.abs(np.load(folder / "responses.npy")))  # the Poisson loss needs rates
    experiment = {
        "name": "small",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {"objects": {"rendered": {"rotations": 4}}, "captions": None},
        "space": {"backbone": backbone, "depth": {"V1": [0], "V4": [1]}, "readout": readout},
    }
    plan = plan_of(experiment, tmp_path)
    worker = WorkerData(plan.context())
    cells = plan.planner.cells(next(iter(plan.space.grid())))
    groups = [cells] if cells[0].twin else [[cell] for cell in cells]
    for group in groups:
        recording = worker.recording(group[0].recording)
        pictures = as_images(recording.fit.images(slice(0, 240)), torch.device("cpu"))
        for fit, predictor in zip(fit_cells(worker, group), predictors_of(worker, group), strict=True):
            held = fit.held_out["report"]
            rows = np.flatnonzero(np.isfinite(held).any(axis=1))
            found = predictor(pictures[rows]).detach().double().numpy()
            np.testing.assert_allclose(found, held[rows], rtol=2e-3, atol=2e-3)
            shown = as_images(worker.shown(recording)["probe.objects"].load(slice(0, 8)), torch.device("cpu"))
            expected = fit.shown["report"]["probe.objects"][:8]
            np.testing.assert_allclose(predictor(shown).detach().double().numpy(), expected, rtol=2e-3, atol=2e-3)


def test_it_can_be_differentiated(make_recording: Any, tmp_path: Path) -> None:
    folder = make_recording(tmp_path / "data" / "small", stimuli=60)
    experiment = {
        "name": "small",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {},
        "space": {"backbone": "efficientnet-lite0", "depth": {"V1": [1]}, "readout": {"ridge": {"pool": 4}}},
        "scores": ["prediction"],
    }
    plan = plan_of(experiment, tmp_path)
    [predictor] = predictors_of(WorkerData(plan.context()), plan.planner.cells(next(iter(plan.space.grid()))))
    pictures = torch.rand(2, 3, 32, 32, requires_grad=True)
    predictor(pictures).sum().backward()
    assert pictures.grad is not None
    assert (pictures.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_a_twin_of_features_is_no_function_of_pictures(make_recording: Any, tmp_path: Path) -> None:
    folder = make_recording(tmp_path / "data" / "small", stimuli=60)
    np.savez(folder / "features.npz", words=np.random.default_rng(0).standard_normal((60, 5)))
    experiment = {
        "name": "small",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {},
        "space": {"backbone": {"features": {"set": "words"}}, "depth": {"shared": "all"}, "readout": "ridge"},
        "scores": ["prediction", "nonlinearity", "receptive-field", "dimensionality-battery"],
    }
    plan = plan_of(experiment, tmp_path)
    run_inline(plan)
    cells = load(plan.storage, "cells")
    assert cells["error"].isna().all(), cells["error"].tolist()
    assert cells["score.receptive_field"].isna().all()
    assert cells["score.features_flat_participation_ratio"].notna().all()
