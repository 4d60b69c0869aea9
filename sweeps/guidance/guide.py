"""Brain-guided synthesis after a sweep: pictures that drive its areas, made by the best twin, judged by the others."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from sweeps.errors import InputError
from sweeps.experiment.guidance import Guidance, check_guidance
from sweeps.experiment.model_paths import model_place
from sweeps.experiment.schema import Experiment
from sweeps.guidance.twins import ChosenTwin, Target, choose_twins, targets_of
from sweeps.planning.plan import Plan, make_plan
from sweeps.storage.current_rows import CurrentRows
from sweeps.storage.load import experiment_of, load
from sweeps.storage.objects import attempt
from sweeps.storage.provenance import commit, provenance
from sweeps.storage.run_lock import RunLock
from sweeps.storage.store import Store

if TYPE_CHECKING:
    from models.guidance.pipeline import Parts
    from sweeps.guidance.synthesis import Made, Studio

TABLE = "guidance"
FOLDER = "galleries"


@dataclass(frozen=True)
class Guided:
    """What was made: `rows` of the table `guidance`, one per target and twin, and the `folders` of the pictures."""

    storage: str
    rows: pd.DataFrame
    folders: list[str]


@dataclass(frozen=True)
class Job:
    """One target, the twin that guides and those that judge."""

    target: Target
    twins: list[ChosenTwin]


def guide(
    storage: str,
    guidance: Guidance | None = None,
    areas: Sequence[str] = (),
    data: str | None = None,
    cache: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Guided:
    """Synthesise pictures that drive areas of the finished sweep at `storage`, and judge them by its other twins.

    Settings are `guidance`, else the section of the sweep's experiment; `areas` take the place of its areas and
    contrast. `data` is where the recordings lie (default: where the sweep found them) and `cache` where features were
    kept (default: where the sweep kept them). `say` is told what is done. Runs in this process, on its GPU if there
    is one. Rows go to the table `guidance`, pictures and gallery.png to <storage>/galleries/<recording>-<area>-<id>/;
    what is there already, for the same twins and settings, is not made again.
    Raises InputError for bad input, and for an area that no twin predicts well enough, before anything is made.
    """
    held, plan, jobs = plan_guidance(storage, guidance, areas, data, cache)
    from sweeps.features.worker_data import Workshop
    from sweeps.guidance.rows import gallery_id
    from sweeps.guidance.synthesis import Studio

    store = Store(storage)
    ids = [gallery_id(held, job.target, job.twins) for job in jobs]
    with ExitStack() as stack:
        stack.enter_context(RunLock(store, "guide", say=say))
        known = _known(storage, store)
        fresh = [job for job, gallery in zip(jobs, ids, strict=True) if gallery not in known]
        if fresh:
            workshop = Workshop(plan.context())
            studio = Studio(workshop, held, _parts(held, plan, str(workshop.device)))
            for job in fresh:
                say(f"{job.target}: {held.seeds} pictures by {held.method}, {len(job.twins) - 1} judges")
                _write(store, held, job, studio)
        fold_table(store)
    rows = load(storage, TABLE)
    rows = rows.sort_values(["role", "prediction"], ascending=[True, False])
    rows = pd.concat([rows[rows["gallery"] == each] for each in ids], ignore_index=True)
    return Guided(storage, rows, list(dict.fromkeys(rows["folder"])))


def plan_guidance(
    storage: str,
    guidance: Guidance | None = None,
    areas: Sequence[str] = (),
    data: str | None = None,
    cache: str | None = None,
) -> tuple[Guidance, Plan, list[Job]]:
    """The settings, the plan of the sweep, and for every target the twins that guide and judge."""
    experiment, current = experiment_of(storage), CurrentRows.read(storage)
    held = _settings(experiment, guidance, areas)
    plan = make_plan(experiment, data or current.base, storage, cache or current.cache_here())
    check_guidance(held, [area for facts in plan.facts for area in facts.areas])
    trials = current.of(load(storage))
    trials = trials[trials["status"] == "done"]
    rows = load(storage, "areas")
    targets = targets_of(held, plan.facts)
    return held, plan, [Job(each, choose_twins(held, each, trials, rows, plan.planner)) for each in targets]


def _settings(experiment: Experiment, guidance: Guidance | None, areas: Sequence[str]) -> Guidance:
    held = guidance or experiment.guidance
    if held is None and not areas:
        raise InputError("the experiment has no section `guidance`, and no areas are given", key="guidance")
    if not areas:
        assert held is not None
        return held
    if held is None:
        return Guidance(areas=list(areas))
    return held.model_copy(update={"areas": list(areas), "contrast": None})


def _known(storage: str, store: Store) -> set[str]:
    """Galleries whose rows are there."""
    held = attempt(lambda: store.read_table(TABLE), storage)
    return set() if held is None else set(held["gallery"].to_pylist())


def _parts(guidance: Guidance, plan: Plan, device: str) -> Parts | None:
    """The diffusion model, where one is asked for; a folder beside the recordings or anywhere, else a hub's name."""
    if guidance.pipeline is None:
        return None
    place = model_place(guidance.pipeline, plan.base)
    try:
        from models.guidance.pipeline import load_parts

        return load_parts(place, device, guidance.prompt)
    except ImportError as error:
        problem = f"needs the extra `diffusion` (pip install cortex-sweeps[diffusion]): {error}"
        raise InputError(problem, key="guidance.pipeline", value=place) from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be used: {error}", key="guidance.pipeline", value=place) from None


def _write(store: Store, guidance: Guidance, job: Job, studio: Studio) -> None:
    """Make one target's pictures, judge them, and write pictures, gallery and, last, rows."""
    from sweeps.guidance.gallery import gallery
    from sweeps.guidance.rows import gallery_id, kept, rows_of, statistics, transfers

    target, guiding = job.target, job.twins[0]
    made = studio.make(target, guiding)
    judged = [studio.judge(target, twin, made) for twin in job.twins]
    folder = f"{FOLDER}/{target}-{gallery_id(guidance, target, job.twins)}"
    rows = rows_of(guidance, target, job.twins, judged, folder)
    rows[0] |= transfers(judged[1:], kept(guidance, judged[0])) | statistics(studio, target, guiding, made)
    facts = {**provenance(commit(), str(studio.workshop.device)), "attempt": 0}
    files = {**_pictures(made), "gallery.png": gallery(rows, made, [each.objective for each in judged])}
    for name, content in files.items():
        attempt(partial(store.put, f"{folder}/{name}", content), store.uri)
    attempt(lambda: store.write_part(TABLE, [{**row, **facts} for row in rows]), store.uri)


def _pictures(made: Made) -> Mapping[str, bytes]:
    """PNG files of the synthesised pictures, named by kind and seed; natural ones are the recording's own."""
    found = {}
    for kind in ("guided", "unguided"):
        for seed, picture in enumerate(made.of(kind)):
            pixels = np.rint(picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            held = io.BytesIO()
            Image.fromarray(pixels).save(held, "PNG")
            found[f"{kind}-{seed:04d}.png"] = held.getvalue()
    return found


def fold_table(store: Store) -> None:
    """Replace the folded table `guidance` by one with all its parts; nothing where nothing was written."""
    parts = store.part_names(TABLE)
    _, folded = attempt(lambda: store.read_fold(TABLE), store.uri)
    rows: Any = attempt(lambda: store.read_table(TABLE), store.uri)
    if rows is not None and not folded >= set(parts):
        attempt(lambda: store.write_fold(TABLE, rows, {*parts, *folded}), store.uri)
