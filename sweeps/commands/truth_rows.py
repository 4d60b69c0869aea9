"""Truths of simulated recordings as rows, computed once per storage place."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from models.readouts import READOUTS
from sweeps.fitting.planted_depths import Truth, cached_truths
from sweeps.hashing import content_id
from sweeps.planning.plan import Plan
from sweeps.storage.columns import truth_row
from sweeps.storage.row_log import RowLog

if TYPE_CHECKING:
    from sweeps.execution.nodes.cluster_nodes import ClusterNodes
    from sweeps.report.progress import ProgressDisplay


def truth_ids(plan: Plan) -> dict[tuple[str, str], str]:
    """Give the identity of every simulated area's truth: the data, the split, and what computes it."""
    split = plan.experiment.split.model_dump()
    return {
        (recording.name, area): content_id([recording.fingerprint, area, split, READOUTS["ridge"].version])
        for recording in plan.facts
        for area in recording.truth
    }


def truths_known(plan: Plan, row_log: RowLog) -> bool:
    """Tell whether the table `truths` has every row that a plan needs."""
    known = {row["truth_id"] for row in row_log.rows("truths")}
    return set(truth_ids(plan).values()) <= known


def write_truths(plan: Plan, row_log: RowLog, nodes: ClusterNodes, display: ProgressDisplay) -> None:
    """Write the truths of simulated recordings, and show which depths of them cannot be told apart."""
    if not any("teacher" in recording.notes for recording in plan.facts):
        return
    if not truths_known(plan, row_log) or not truth_ids(plan):
        truths = _truths(plan, nodes, display)
        ids = truth_ids(plan)
        row_log.write("truths", [truth_row(ids[truth.recording, truth.area], asdict(truth)) for truth in truths])
    row_log.fold()
    rows = {row["truth_id"]: row for row in row_log.rows("truths")}
    display.truths([rows[truth_id] for truth_id in truth_ids(plan).values()])


def _truths(plan: Plan, nodes: ClusterNodes, display: ProgressDisplay) -> list[Truth]:
    """Truths as this node has kept them, else made by a worker."""
    from sweeps.execution.remote_tasks import find_truths

    truths = cached_truths(plan.context())
    if truths is not None:
        return truths
    display.say("making the simulated recording, and the depths that cannot be told apart in it")
    return find_truths(plan.context(), nodes.resources, nodes.selector())
