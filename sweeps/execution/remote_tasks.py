"""What runs in processes of Ray besides packs: truths and the rungs of halving."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import ray

from sweeps.errors import InputError
from sweeps.io.import_guard import claim_names

if TYPE_CHECKING:
    from sweeps.experiment.worker_context import Context
    from sweeps.fitting.planted_depths import Truth


def end_process(actor: Any) -> None:
    """End the process of an actor, whatever it is at; one that is gone is fine."""
    if actor is not None:
        ray.kill(actor)


def find_truths(context: Context, resources: Mapping[str, float]) -> list[Truth]:
    """Make simulated recordings and their truths in a worker; the driver imports no torch."""

    @ray.remote(num_cpus=resources.get("CPU", 1), num_gpus=resources.get("GPU", 0), max_retries=1)
    def task(held: dict[str, Any]) -> Any:
        try:
            claim_names(held["digest"])
            import torch

            from sweeps.experiment.worker_context import Context as Held
            from sweeps.fitting.planted_depths import truths

            torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
            return truths(Held(**held))
        except InputError as error:
            return str(error)

    found: Any = ray.get(task.remote(asdict(context)))
    if isinstance(found, str):
        raise InputError(found)
    return list(found)


class Rungs:
    """The actor of a sweep that successive halving asks; see `sweeps.fitting.successive_halving.RungScores`."""

    def __init__(self, factor: int) -> None:
        from sweeps.fitting.successive_halving import RungScores

        self.scores = RungScores(factor)

    def stays(self, group: str, epochs: int, fit: str, score: float) -> bool:
        """Whether a fit goes on."""
        return self.scores.stays(group, epochs, fit, score)


@contextmanager
def halved(context: Context) -> Iterator[Context]:
    """The context with the actor that its halving asks; the actor ends with the sweep."""
    if not context.halving:
        yield context
        return
    name = f"cortex-sweeps-halving-{uuid.uuid4().hex}"
    actor: Any = ray.remote(Rungs).options(name=name, num_cpus=0).remote(context.halving["factor"])
    try:
        yield replace(context, rungs=name)
    finally:
        ray.kill(actor)


def rungs_of(context: Mapping[str, Any]) -> Callable[..., bool] | None:
    """What asks a sweep's actor; a fit goes on where the actor is gone."""
    if not context["rungs"]:
        return None
    actor = ray.get_actor(context["rungs"])

    def ask(*given: Any) -> bool:
        try:
            return bool(ray.get(actor.stays.remote(*given)))
        except ray.exceptions.RayActorError:
            return True

    return ask
