"""Truths of simulated recordings as rows, computed once per storage place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from models.readouts import READOUTS
from sweeps.fitting.planted_depths import cached_truths
from sweeps.hashing import content_id
from sweeps.planning.plan import Plan
from sweeps.storage.row_log import Ledger

if TYPE_CHECKING:
    from sweeps.report.progress import ProgressDisplay


def _truth_ids(plan: Plan) -> dict[tuple[str, str], str]:
    """Identity of every simulated area's truth: the data, the split, and what computes it."""
    split = plan.experiment.split.model_dump()
    return {
        (facts.name, area): content_id([facts.fingerprint, area, split, READOUTS["ridge"].version])
        for facts in plan.facts
        for area in facts.truth
    }


def _truths_known(plan: Plan, ledger: Ledger) -> bool:
    held = {row["truth_id"] for row in ledger.rows("truths")}
    return set(_truth_ids(plan).values()) <= held


def _find_truths(plan: Plan, ledger: Ledger, resources: Mapping[str, float], display: ProgressDisplay) -> None:
    """Say, before the sweep, which depths of a simulated recording cannot be told apart."""
    from sweeps.execution.remote_tasks import find_truths

    if not any("teacher" in facts.notes for facts in plan.facts):
        return
    if not _truths_known(plan, ledger) or not _truth_ids(plan):
        found = cached_truths(plan.context())
        if found is None:
            display.say("making the simulated recording, and the depths that cannot be told apart in it")
            found = find_truths(plan.context(), resources)
        ids = _truth_ids(plan)
        rows = [
            {
                **asdict(each),
                "truth_id": ids[each.recording, each.area],
                "teacher": json.dumps(each.teacher),
                "alike": list(each.alike),
                "correlations": list(each.correlations),
            }
            for each in found
        ]
        ledger.write("truths", rows)
    ledger.fold()
    held = {row["truth_id"]: row for row in ledger.rows("truths")}
    display.truths([held[truth_id] for truth_id in _truth_ids(plan).values()])
