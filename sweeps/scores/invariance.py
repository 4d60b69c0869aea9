"""Object identity despite changed appearance, of the twin and of the brain."""

from __future__ import annotations

from dataclasses import dataclass

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
    views = _views(view, "probe", view.tables["objects"])
    return {
        "invariance": views.decode(view.shown["probe.objects"]),
        "brain_invariance": _brain(view),
    }


def invariance_alignment(view: CellView) -> dict[str, float]:
    """1 - |twin - brain| of the decoding of the recorded object views.

    Noise matched to the recording (Gaussian, the variance of each unit's repeat average) is added to the
    twin's noise-free responses, drawn three times by the cell's seed. Without repeats nothing is added.
    """
    if "objects" not in view.recording.sets or "recorded.objects" not in view.shown:
        return unavailable("invariance_alignment")
    views = _recorded(view)
    spread = view.of_brain("spread of object views", lambda: _spread(view))
    random = view.random("invariance_alignment")
    clean = view.shown["recorded.objects"][views.chosen]
    twins = [views.decode_chosen(clean + spread * random.standard_normal(clean.shape)) for _ in range(3)]
    return {"invariance_alignment": 1.0 - abs(float(np.mean(twins)) - _brain(view))}


def _spread(view: CellView) -> np.ndarray:
    return np.sqrt(np.nan_to_num(np.asarray(noise_variance_of_mean(view.recorded("objects"))), nan=0.0))


def _brain(view: CellView) -> float:
    if "objects" not in view.recording.sets:
        return float("nan")
    value: float = view.of_brain("invariance", lambda: _brain_decoding(view))
    return value


def _brain_decoding(view: CellView) -> float:
    return _recorded(view).decode(view.recording.sets["objects"].average[:, view.units])


@dataclass(frozen=True)
class _Views:
    """Mask of the views of this split's objects, and of these the object, as a number, and the transformation."""

    chosen: np.ndarray
    objects: np.ndarray
    transforms: np.ndarray

    @classmethod
    def of(cls, view: CellView, table: pd.DataFrame) -> _Views:
        chosen = view.half(table["object"])
        _, objects = np.unique(table["object"].to_numpy(dtype=str)[chosen], return_inverse=True)
        return cls(chosen, objects, pd.to_numeric(table["transform"]).to_numpy()[chosen])

    def decode(self, responses: np.ndarray) -> float:
        """Chance-corrected decoding from responses to all views (views, units)."""
        return self.decode_chosen(responses[self.chosen])

    def decode_chosen(self, responses: np.ndarray) -> float:
        """The same from responses to the chosen views; NaN where there are not two objects."""
        classes = len(np.unique(self.objects))
        if classes < 2:
            return float("nan")
        return chance_corrected(object_decoding(responses, self.objects, self.transforms), classes)


def _recorded(view: CellView) -> _Views:
    return _views(view, view.recording.fingerprint, view.recording.sets["objects"].table)


def _views(view: CellView, name: str, table: pd.DataFrame) -> _Views:
    """The views of a table, made once for all cells: of the sweep's probe, or of a recording by its fingerprint."""
    found: _Views = view.remember(("views", name, view.split_seed, view.split), lambda: _Views.of(view, table))
    return found
