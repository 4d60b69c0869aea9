"""Which contrasts were planned, and which were added when report scores existed: post hoc.

An object `contrasts/<id>.json` notes when a contrast was first in the experiment of a run, and whether report scores of
its data existed by then. It is written once, before the first pack of that run, and never replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sweeps.errors import InputError
from sweeps.experiment.schema import Contrast, Experiment
from sweeps.hashing import content_id
from sweeps.planning.plan import Plan
from sweeps.storage.current_rows import experiment_of
from sweeps.storage.objects import attempt
from sweeps.storage.provenance import commit
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

FOLDER = "contrasts"
POST_HOC, UNKNOWN = "post hoc", "order unknown"


def contrast_id(experiment: Experiment, contrast: Contrast) -> str:
    """Identity of what a contrast compares: its sides and area, the maps that they name; not its own name."""
    depth = experiment.space.get("depth")
    maps = depth.get("maps") if isinstance(depth, dict) else None
    named = sorted({side.map for side in (contrast.left, contrast.right) if side.map is not None})
    content = contrast.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    return content_id([content, [[name, maps.get(name) if isinstance(maps, dict) else None] for name in named]])


def note_contrasts(plan: Plan, row_log: RowLog) -> None:
    """Note the contrasts that no run here has had before: planned where no report score of these data exists.

    Rows that are older than this log do not tell: of contrasts that stood in the experiment beside them it is noted
    that the order is not known.
    """
    experiment = plan.experiment
    if plan.chosen is not None or not experiment.contrasts:
        return
    store = Store(plan.storage)
    noted = set(attempt(lambda: store.names(FOLDER), plan.storage))
    fresh = {f"{contrast_id(experiment, one)}.json": one for one in experiment.contrasts}
    fresh = {name: contrast for name, contrast in fresh.items() if name not in noted}
    if not fresh:
        return
    scored = _has_scores(plan, row_log)
    earlier = _stored_ids(plan.storage) if scored and not noted else set()
    for name, contrast in fresh.items():
        planned = (None if name in earlier else False) if scored else True
        _write(store, name, contrast, planned)


def contrast_labels(uri: str, experiment: Experiment) -> Callable[[Contrast], str]:
    """A function that names a contrast, with what to know of it: nothing where it was planned."""
    store = Store(uri)
    names = attempt(lambda: store.names(FOLDER), uri)

    def label(contrast: Contrast) -> str:
        name = f"{contrast_id(experiment, contrast)}.json"
        if not names:
            return f"{contrast.name} ({UNKNOWN})"
        entry = json.loads((attempt(lambda: store.get(f"{FOLDER}/{name}"), uri) or b"{}") if name in names else b"{}")
        planned = entry.get("planned", False)
        return contrast.name if planned else f"{contrast.name} ({UNKNOWN if planned is None else POST_HOC})"

    return label


def _has_scores(plan: Plan, row_log: RowLog) -> bool:
    """Whether a cell of one of these recordings was scored here, under any split."""
    prints = {recording.fingerprint for recording in plan.facts}
    rows = row_log.rows("cells", ["status", "data_fingerprint"])
    return any(row["status"] == "done" and row["data_fingerprint"] in prints for row in rows)


def _stored_ids(uri: str) -> set[str]:
    """Objects that the contrasts of the last run's experiment would have; none where that cannot be read."""
    try:
        experiment = experiment_of(uri)
    except InputError:
        return set()
    return {f"{contrast_id(experiment, contrast)}.json" for contrast in experiment.contrasts}


def _write(store: Store, name: str, contrast: Contrast, planned: bool | None) -> None:
    entry: dict[str, Any] = {
        **contrast.model_dump(mode="json"),
        "planned": planned,
        "first_seen": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
    }
    attempt(lambda: store.create(f"{FOLDER}/{name}", json.dumps(entry, sort_keys=True).encode()), store.uri)
