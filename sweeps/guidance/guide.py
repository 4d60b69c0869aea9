"""Brain-guided synthesis after a sweep: pictures that drive its areas, made by the best twin, judged by the others."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from sweeps.io.guards.private_folder import check_cache
from sweeps.planning.plan import Plan, make_plan
from sweeps.storage.current_rows import CurrentRows, experiment_of
from sweeps.storage.load import load
from sweeps.storage.objects import attempt
from sweeps.storage.provenance import commit, provenance
from sweeps.storage.run_lock import RunLock
from sweeps.storage.store import Store

if TYPE_CHECKING:
    from models.guidance.pipeline import Parts
    from sweeps.guidance.synthesis import PictureSets, Synthesizer

TABLE = "guidance"
FOLDER = "galleries"
LONGEST = 80
"""Characters of a target's name in the name of its folder, which the gallery's id tells from the others."""


@dataclass(frozen=True)
class GuidanceResult:
    """What was made: `rows` of the table `guidance`, one per target and twin, and the `folders` of the pictures."""

    storage: str
    rows: pd.DataFrame
    folders: list[str]


@dataclass(frozen=True)
class GuidanceJob:
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
    shared_cache: bool = False,
) -> GuidanceResult:
    """Synthesise pictures that drive areas of the finished sweep at `storage`, and judge them by its other twins.

    Settings are `guidance`, else the section of the sweep's experiment; `areas` take the place of its areas and
    contrast. `data` is where the recordings lie (default: where the sweep found them) and `cache` where features were
    kept (default: where the sweep kept them). `say` gets a line for every target, `shared_cache` is that of
    `sweeps.run`. Runs in this process, on its GPU if there is one. Rows go to the table `guidance`, pictures and
    gallery.png to the folder <storage>/galleries/<recording>-<area>-<id>/; what is there already, for the same twins
    and settings, is not made again.
    Raises InputError for bad input, and for an area that no twin predicts well enough, before anything is made.
    """
    settings, plan, jobs = plan_guidance(storage, guidance, areas, data, cache)
    plan = replace(plan, shared_cache=shared_cache)
    check_cache(plan.cache, shared_cache)
    from sweeps.features.worker_data import WorkerData
    from sweeps.guidance.rows import gallery_id
    from sweeps.guidance.synthesis import Synthesizer

    store = Store(storage)
    ids = [gallery_id(settings, job.target, job.twins) for job in jobs]
    with ExitStack() as stack:
        stack.enter_context(RunLock(store, "guide", say=say))
        known = _known(storage, store)
        fresh = [job for job, gallery in zip(jobs, ids, strict=True) if gallery not in known]
        if fresh:
            worker = WorkerData(plan.context())
            synthesizer = Synthesizer(worker, settings, _parts(settings, plan, str(worker.device)))
            for job in fresh:
                say(f"{job.target}: {settings.seeds} pictures by {settings.method}, {len(job.twins) - 1} judges")
                _write(store, settings, job, synthesizer)
        fold_table(store)
    rows = load(storage, TABLE)
    rows = rows.sort_values(["role", "prediction"], ascending=[True, False])
    rows = pd.concat([rows[rows["gallery"] == gallery] for gallery in ids], ignore_index=True)
    return GuidanceResult(storage, rows, list(dict.fromkeys(rows["folder"])))


def plan_guidance(
    storage: str,
    guidance: Guidance | None = None,
    areas: Sequence[str] = (),
    data: str | None = None,
    cache: str | None = None,
) -> tuple[Guidance, Plan, list[GuidanceJob]]:
    """Return the settings, the plan of the sweep, and for every target the twins that guide and judge."""
    experiment, current = experiment_of(storage), CurrentRows.read(storage)
    settings = _settings(experiment, guidance, areas)
    plan = make_plan(experiment, data or current.base, storage, cache or current.cache_here())
    check_guidance(settings, [area for facts in plan.facts for area in facts.areas])
    trials = current.of(load(storage))
    trials = trials[trials["status"] == "done"]
    rows = load(storage, "areas")
    targets = targets_of(settings, plan.facts)
    jobs = [GuidanceJob(target, choose_twins(settings, target, trials, rows, plan.planner)) for target in targets]
    return settings, plan, jobs


def _settings(experiment: Experiment, guidance: Guidance | None, areas: Sequence[str]) -> Guidance:
    settings = guidance or experiment.guidance
    if settings is None:
        if not areas:
            raise InputError("the experiment has no section `guidance`, and no areas are given", key="guidance")
        return Guidance(areas=list(areas))
    return settings.model_copy(update={"areas": list(areas), "contrast": None}) if areas else settings


def _known(storage: str, store: Store) -> set[str]:
    """Return the galleries whose rows are there."""
    rows = attempt(lambda: store.read_table(TABLE), storage)
    return set() if rows is None else set(rows["gallery"].to_pylist())


def _parts(guidance: Guidance, plan: Plan, device: str) -> Parts | None:
    """Load the diffusion model, where there is one: a folder beside the recordings or anywhere, else a hub's name."""
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


def folder_name(target: Target) -> str:
    """Name a target for the storage: of names from data only letters, digits and `.+-` become part of a path.

    >>> folder_name(Target("small", "V4", "x/../../V1"))
    'small-V4-x_.._.._V1'
    """
    return re.sub(r"[^\w.+-]", "_", str(target))[:LONGEST]


def _write(store: Store, guidance: Guidance, job: GuidanceJob, synthesizer: Synthesizer) -> None:
    """Make one target's pictures, judge them, and write pictures, gallery and, last, rows."""
    from sweeps.guidance.gallery import gallery
    from sweeps.guidance.rows import best_pictures, gallery_id, rows_of, statistics, transfers

    target, guiding = job.target, job.twins[0]
    pictures = synthesizer.make(target, guiding)
    judgements = [synthesizer.judge(target, twin, pictures) for twin in job.twins]
    folder = f"{FOLDER}/{folder_name(target)}-{gallery_id(guidance, target, job.twins)}"
    rows = rows_of(guidance, target, job.twins, judgements, folder)
    rows[0] |= transfers(judgements[1:], best_pictures(guidance, judgements[0]))
    rows[0] |= statistics(synthesizer, target, guiding, pictures)
    origin = {**provenance(commit(), str(synthesizer.worker.device)), "attempt": 0}
    drawn = gallery(rows, pictures, [judgement.objective for judgement in judgements])
    files = {**_png_files(pictures), "gallery.png": drawn}
    for name, content in files.items():
        attempt(partial(store.put, f"{folder}/{name}", content), store.uri)
    attempt(lambda: store.write_part(TABLE, [{**row, **origin} for row in rows]), store.uri)


def _png_files(pictures: PictureSets) -> Mapping[str, bytes]:
    """Return PNG files of the synthesised pictures by name: kind and seed; natural ones are the recording's own."""
    files = {}
    for kind in ("guided", "unguided"):
        for seed, picture in enumerate(pictures.of(kind)):
            pixels = np.rint(picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            files[f"{kind}-{seed:04d}.png"] = file.getvalue()
    return files


def fold_table(store: Store) -> None:
    """Replace the folded table `guidance` by one with all its parts; nothing where nothing was written."""
    parts = store.part_names(TABLE)
    _, folded = attempt(lambda: store.read_fold(TABLE), store.uri)
    rows: Any = attempt(lambda: store.read_table(TABLE), store.uri)
    if rows is not None and not folded >= set(parts):
        attempt(lambda: store.write_fold(TABLE, rows, {*parts, *folded}), store.uri)
