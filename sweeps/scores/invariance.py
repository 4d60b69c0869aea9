"""Object identity despite changed appearance, of the twin and of the brain."""

from __future__ import annotations

import numpy as np
import pandas as pd

from metrics import chance_corrected, noise_variance_of_mean, object_decoding
from sweeps.scores import unavailable
from sweeps.scores.view import CellView


def invariance(view: CellView) -> dict[str, float]:
    """Chance-corrected decoding of probe objects across held-out transformations.

    Select and report take different halves of the probe's objects. The brain's value is taken on the
    recorded object views, where the recording has them.
    """
    if "probe.objects" not in view.shown:
        return unavailable("invariance")
    table = view.tables["objects"]
    chosen = view.half(table["object"])
    return {
        "invariance": _decode(view.shown["probe.objects"][chosen], table[chosen]),
        "brain_invariance": _brain(view),
    }


def invariance_alignment(view: CellView) -> dict[str, float]:
    """1 - |twin - brain| of the decoding of the recorded object views.

    Noise matched to the recording (Gaussian, the variance of each unit's repeat average) is added to the
    twin's noise-free responses, drawn three times by the cell's seed. Without repeats nothing is added.
    """
    if "objects" not in view.recording.sets or "recorded.objects" not in view.shown:
        return unavailable("invariance_alignment")
    table = view.recording.sets["objects"].table
    chosen = view.half(table["object"])
    spread = view.of_brain("spread of object views", lambda: _spread(view))
    random = view.random("invariance_alignment")
    clean = view.shown["recorded.objects"][chosen]
    twins = [_decode(clean + spread * random.standard_normal(clean.shape), table[chosen]) for _ in range(3)]
    return {"invariance_alignment": 1.0 - abs(float(np.mean(twins)) - _brain(view))}


def _spread(view: CellView) -> np.ndarray:
    return np.sqrt(np.nan_to_num(np.asarray(noise_variance_of_mean(view.recorded("objects"))), nan=0.0))


def _brain(view: CellView) -> float:
    if "objects" not in view.recording.sets:
        return float("nan")
    value: float = view.of_brain("invariance", lambda: _brain_decoding(view))
    return value


def _brain_decoding(view: CellView) -> float:
    held = view.recording.sets["objects"]
    chosen = view.half(held.table["object"])
    return _decode(held.average[chosen][:, view.units], held.table[chosen])


def _decode(responses: np.ndarray, table: pd.DataFrame) -> float:
    objects = table["object"].to_numpy(dtype=str)
    if len(np.unique(objects)) < 2:
        return float("nan")
    accuracy = object_decoding(responses, objects, pd.to_numeric(table["transform"]).to_numpy())
    return chance_corrected(accuracy, len(np.unique(objects)))
