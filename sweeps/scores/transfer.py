"""Cross-modal transfer between captions and responses to the captioned scenes."""

from __future__ import annotations

import numpy as np

from metrics import Alignment, correlation, cross_modal_transfer
from metrics.transfer import CrossModalTransfer
from sweeps.scores import unavailable
from sweeps.scores.view import CellView

SHUFFLES = 3


def transfer(view: CellView) -> dict[str, float]:
    """How well captions predict the twin's responses to held-out scenes, and responses the captions.

    The alignment is fitted on half of the scenes; select and report are tested on a quarter each. The brain's
    value is the same for the recorded responses to captioned scenes, where there are any.
    """
    if "probe.captions" not in view.shown:
        return unavailable("transfer")
    captions = tuple(view.tables["captions"]["caption"])
    result = _transfer(view, captions, view.shown["probe.captions"])
    return {
        "transfer": result.score,
        "transfer_forward": result.forward,
        "transfer_backward": result.backward,
        "transfer_null": result.null,
        "brain_transfer": _brain_transfer(view),
    }


def _transfer(view: CellView, captions: tuple[str, ...], responses: np.ndarray) -> CrossModalTransfer:
    fit, test = scene_split(view, len(captions))
    return cross_modal_transfer(view.embed(captions), responses, fit, test, seed=view.seed)


def _brain_transfer(view: CellView) -> float:
    if "captions" not in view.recording.sets:
        return float("nan")
    held = view.recording.sets["captions"]
    value: float = view.of_brain(
        "transfer", lambda: _transfer(view, tuple(held.table["caption"]), held.average[:, view.units]).score
    )
    return value


def scene_split(view: CellView, scenes: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes that fit the alignment (half), and those that test it on this split (a quarter)."""
    order = np.random.default_rng([view.split_seed, 4]).permutation(scenes)
    half, quarter = scenes // 2, scenes // 4
    test = order[half : half + quarter] if view.split == "select" else order[half + quarter :]
    return np.sort(order[:half]), np.sort(test)


def transfer_brain(view: CellView) -> dict[str, float]:
    """Correlation of recorded responses to captions with those of the vision twin, through an alignment.

    The alignment takes caption embeddings to the twin's responses to the captioned pictures on other scenes;
    applied to a held-out caption it gives what the twin of vision expects the brain to do on reading it. The
    null shuffles the pairs of the alignment; the brain's own value puts its recorded responses to the
    pictures in the twin's place.
    """
    sets = view.recording.sets
    if "captions" not in sets or "text" not in sets or "recorded.captions" not in view.shown:
        return unavailable("transfer_brain")
    fit, test = scene_split(view, len(sets["captions"].table))
    embedded = view.embed(tuple(sets["captions"].table["caption"]))
    alignment = Alignment.fit(embedded[fit])
    read = sets["text"].average[test][:, view.units]
    twin, brain = view.shown["recorded.captions"][fit], sets["captions"].average[fit][:, view.units]
    random = view.random("transfer_brain")
    null = [_score(alignment, random.permutation(twin), embedded[test], read) for _ in range(SHUFFLES)]
    return {
        "transfer_brain": _score(alignment, twin, embedded[test], read),
        "transfer_brain_null": float(np.mean(null)),
        "brain_transfer_brain": _score(alignment, brain, embedded[test], read),
    }


def _score(alignment: Alignment, responses: np.ndarray, captions: np.ndarray, read: np.ndarray) -> float:
    found = np.asarray(correlation(alignment.predict(responses, captions), read))
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")
