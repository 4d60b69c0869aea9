"""Object identity despite changed appearance, of the twin and of the brain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from metrics import chance_corrected, object_decoding
from sweeps.scores.score import NO_PICTURES, Score
from sweeps.scores.unit_error import at_chance, jackknife_error
from sweeps.scores.view import CellView

SCORE = Score(
    "invariance",
    version=2,
    columns=("invariance", "brain_invariance", "invariance_se", "invariance_at_chance"),
    up=False,
    summary="object decoding across held-out transformations, 0 = chance, 1 = perfect",
    seconds=0.05,
    probe="objects",
    absent=NO_PICTURES,
    ordered=("invariance",),
    shown={"invariance": "brain_invariance"},
)


def compute(view: CellView) -> dict[str, float]:
    """Chance-corrected decoding of probe objects across held-out transformations.

    Select and report take different halves of the probe's objects. The brain's value is taken on the
    recorded object views, where the recording has them. `invariance_se` is the twin's standard error over units
    (jackknife), `invariance_at_chance` whether it can be told from 0.
    """
    if "probe.objects" not in view.shown:
        return SCORE.unavailable()
    views = _views(view, "probe", view.tables["objects"])
    shown = view.shown["probe.objects"]
    value = views.decode(shown)
    error = jackknife_error(shown.shape[1], lambda units: views.decode(shown[:, units]), view.brain_seed)
    return {
        "invariance": value,
        "brain_invariance": brain_invariance(view),
        "invariance_se": error,
        "invariance_at_chance": at_chance(value, error, 0.0),
    }


def brain_invariance(view: CellView) -> float:
    """The same decoding of the recorded responses to object views; NaN where there are none."""
    if "objects" not in view.recording.sets:
        return float("nan")
    value: float = view.of_brain("invariance", lambda: _brain_decoding(view))
    return value


def _brain_decoding(view: CellView) -> float:
    return recorded_views(view).decode(view.recording.sets["objects"].average[:, view.units])


@dataclass(frozen=True)
class Views:
    """Mask of the views of this split's objects, and of these the object, as a number, and the transformation."""

    chosen: np.ndarray
    objects: np.ndarray
    transforms: np.ndarray

    @classmethod
    def of(cls, view: CellView, table: pd.DataFrame) -> Views:
        """The views of a table (object, transform) whose objects belong to the split."""
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


def recorded_views(view: CellView) -> Views:
    """The object views that the recording holds responses to."""
    return _views(view, view.recording.fingerprint, view.recording.sets["objects"].table)


def _views(view: CellView, name: str, table: pd.DataFrame) -> Views:
    """The views of a table, made once for all cells: of the sweep's probe, or of a recording by its fingerprint."""
    views: Views = view.remember(("views", name, view.split_seed, view.split), lambda: Views.of(view, table))
    return views
