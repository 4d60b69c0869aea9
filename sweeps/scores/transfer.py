"""Cross-modal transfer between captions and responses to the captioned scenes."""

from __future__ import annotations

import numpy as np

from metrics import Alignment, caption_transfer
from metrics.transfer.captions import CaptionTransfer
from sweeps.scores.score import NO_PICTURES, Score
from sweeps.scores.view import CellView

SCORE = Score(
    "transfer",
    version=2,
    columns=("transfer", "transfer_forward", "transfer_backward", "transfer_null", "brain_transfer"),
    up=False,
    summary="captions to the twin's responses and back, on held-out scenes",
    seconds=0.05,
    probe="captions",
    sentences=True,
    absent=NO_PICTURES,
    shown={"transfer": "brain_transfer", "transfer_null": None},
)

SHUFFLES = 3


def compute(view: CellView) -> dict[str, float]:
    """How well captions predict the twin's responses to held-out scenes, and responses the captions.

    The alignment is fitted on half of the scenes; select and report are tested on a quarter each. The brain's
    value is the same for the recorded responses to captioned scenes, where there are any.
    """
    if "probe.captions" not in view.shown:
        return SCORE.unavailable()
    captions = tuple(view.tables["captions"]["caption"])
    result = _transfer(view, captions, view.shown["probe.captions"])
    return {
        "transfer": result.score,
        "transfer_forward": result.forward,
        "transfer_backward": result.backward,
        "transfer_null": result.null,
        "brain_transfer": _brain_transfer(view),
    }


def _transfer(view: CellView, captions: tuple[str, ...], responses: np.ndarray) -> CaptionTransfer:
    fit, test = scene_split(view, len(captions))
    shared = caption_alignment(view, captions, fit)
    return caption_transfer(view.embed(captions), responses, fit, test, seed=view.brain_seed, alignment=shared)


def caption_alignment(view: CellView, captions: tuple[str, ...], fit: np.ndarray) -> Alignment:
    """The decomposed embeddings of the captions that fit, the same for all twins, areas and splits."""
    key = ("captions", captions, fit.tobytes())
    alignment: Alignment = view.remember(key, lambda: Alignment.fit(view.embed(captions)[fit]))
    return alignment


def _brain_transfer(view: CellView) -> float:
    if "captions" not in view.recording.sets:
        return float("nan")
    captions = view.recording.sets["captions"]
    value: float = view.of_brain(
        "transfer", lambda: _transfer(view, tuple(captions.table["caption"]), captions.average[:, view.units]).score
    )
    return value


def scene_split(view: CellView, scenes: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes that fit the alignment (half), and those that test it on this split (a quarter)."""
    order = np.random.default_rng([view.split_seed, 4]).permutation(scenes)
    half, quarter = scenes // 2, scenes // 4
    test = order[half : half + quarter] if view.split == "select" else order[half + quarter :]
    return np.sort(order[:half]), np.sort(test)
