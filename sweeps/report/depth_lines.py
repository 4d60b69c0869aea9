"""What is said of every area's best depth, in lines beneath its table."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sweeps.report.answers.best_depth import LEVEL, BestDepth
from sweeps.report.plain_text import name_text

FEW_GROUPS = 20
"""Stimulus groups below which bootstrap intervals are noticeably too narrow, and confidence sets too small."""

MOST_NAMED = 3
"""Further twins that are named in a line."""


def short_blocks(blocks: str) -> str:
    """Shorten blocks for a table: a run of four or more of them by its ends.

    >>> short_blocks("0+1+2+3+5"), short_blocks("3+5+7"), short_blocks("4")
    ('0-3+5', '3+5+7', '4')
    """
    runs: list[list[int]] = []
    for block in map(int, blocks.split("+")):
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return "+".join(f"{run[0]}-{run[-1]}" if len(run) > 3 else "+".join(map(str, run)) for run in runs)


def lines_of(answer: BestDepth, storage: str) -> list[str]:
    """Say of the best depth of an area how well it predicts, whether above chance, and what cannot be told from it."""
    best = f"best depth {short_blocks(answer.best.blocks)} of {answer.best.twin}: report {answer.best.report:.3f}"
    if math.isnan(answer.low) or math.isnan(answer.p):
        lacking = f"how sure that is, is not known: `sweeps score {storage} --scores interval --trials all` adds it"
        return [best, lacking]
    groups = "" if math.isnan(answer.groups) else f" over {answer.groups:.0f} groups of stimuli"
    verdict = "above chance" if answer.above_chance else "NOT above chance"
    lines = [
        f"{best}, {LEVEL:.0%} interval {answer.low:.3f} to {answer.high:.3f}{groups}; {verdict} (p = {answer.p:.3f})"
    ]
    if answer.above_chance:
        lines += _alike(answer)
    if answer.groups < FEW_GROUPS:
        lines.append(f"fewer than {FEW_GROUPS} groups: the interval is too narrow, and depths are too soon told apart")
    return lines


def _alike(answer: BestDepth) -> list[str]:
    """Say which depths cannot be told from the best one, on stimuli that had no part in the choice."""
    own = (answer.best.twin, answer.best.blocks)
    twins = list(dict.fromkeys([answer.best.twin, *(twin for twin, _ in answer.alike)]))
    named = {twin: ", ".join(map(short_blocks, _sorted(answer.depths(twin)))) for twin in twins}
    first, others = named.pop(answer.best.twin), list(named.items())
    parts = ([f"depth {first}"] if first else []) + [f"{twin} at {depths}" for twin, depths in others[:MOST_NAMED]]
    more = f"; and {len(others) - MOST_NAMED} further twins" if len(others) > MOST_NAMED else ""
    of = f"{LEVEL:.0%} confidence set of {answer.compared} pairs of twin and depth, on the report stimuli"
    if own not in answer.alike:
        return [f"others predict better there: {'; '.join(parts)}{more} ({of})"]
    if answer.alike == (own,):
        return [f"told from every other depth and twin ({of})"]
    return [f"cannot be told apart: {'; '.join(parts)}{more} ({of})"]


def _sorted(depths: list[str]) -> list[str]:
    return sorted(depths, key=lambda blocks: [int(block) for block in blocks.split("+")])


def why_the_best_trial_differs(
    depths: Mapping[str, str], objective: str, answers: Mapping[str, BestDepth]
) -> str | None:
    """Say where the best trial, of these depths, does not read an area at its best depth, and why; None if nowhere."""
    other = {area: answer.best.blocks for area, answer in answers.items() if depths.get(area) != answer.best.blocks}
    other = {area: blocks for area, blocks in other.items() if area in depths}
    if not other:
        return None
    places = ", ".join(
        f"{name_text(area)} at {short_blocks(depths[area])}, its own best being {short_blocks(blocks)}"
        for area, blocks in other.items()
    )
    return (
        f"The best trial reads {places}: it is the one twin and seed that is highest in {objective}, a mean over "
        "areas; an area's own best depth has the highest mean over seeds and recordings, whatever the other areas read."
    )
