"""What runs in processes of Ray besides packs: truths and the rungs of halving."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray

from sweeps.errors import InputError, Refusal
from sweeps.execution.store_environment import adopt_store
from sweeps.experiment.worker_context import WorkerContext
from sweeps.io.guards.private_folder import cache_folder
from sweeps.io.guards.secrets import raising_redacted, redacted
from sweeps.io.import_guard import claim_names

if TYPE_CHECKING:
    from sweeps.fitting.planted_depths import Truth


def end_process(actor: Any) -> None:
    """End the process of an actor, whatever it is at; one that is gone is fine."""
    if actor is not None:
        ray.kill(actor)


def claim_code(context: WorkerContext) -> None:
    """Check that this process has the driver's code, that of its plug-ins too, before it imports any; else Refusal.

    Its node's cache must be private to this user, or allowed to be shared. It talks to the driver's object store from
    then on.
    """
    claim_names(context.digest)
    adopt_store(context)
    try:
        cache_folder(context.cache, context.shared_cache)
    except InputError as error:
        raise Refusal(error.problem, key=error.key, value=error.value) from None
    if context.plugins:
        from sweeps.experiment.plugins import claim_plugins

        claim_plugins(context.plugins, context.import_paths)


def find_truths(
    context: WorkerContext, resources: Mapping[str, float], selector: dict[str, str] | None = None
) -> list[Truth]:
    """Make simulated recordings and their truths in a worker on a node of `selector`; the driver imports no torch."""

    @ray.remote(num_cpus=resources.get("CPU", 1), num_gpus=resources.get("GPU", 0), max_retries=1)
    @raising_redacted
    def task(config: str) -> Any:
        """Compute the truths in the worker, or give the words of an InputError."""
        try:
            shared = WorkerContext.from_config(config)
            claim_code(shared)
            import torch

            from sweeps.fitting.planted_depths import truths

            torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
            return truths(shared)
        except InputError as error:
            return redacted(str(error))

    answer: Any = ray.get(task.options(label_selector=selector).remote(context.as_config()))
    if isinstance(answer, str):
        raise InputError(answer)
    return list(answer)


class RungActor:
    """The actor of a sweep that successive halving asks; see `sweeps.fitting.successive_halving.RungScores`."""

    def __init__(self, factor: int) -> None:
        from sweeps.fitting.successive_halving import RungScores

        self.rungs = RungScores(factor)

    def stays(self, group: str, epochs: int, fit: str, score: float) -> bool:
        """Tell whether a fit goes on."""
        return self.rungs.stays(group, epochs, fit, score)


@contextmanager
def halved(context: WorkerContext, selector: dict[str, str] | None = None) -> Iterator[WorkerContext]:
    """Give the context with the actor that its halving asks, on a node of `selector`; it ends with the sweep."""
    if not context.halving:
        yield context
        return
    name = f"cortex-sweeps-halving-{uuid.uuid4().hex}"
    options = {"name": name, "num_cpus": 0, "label_selector": selector}
    actor: Any = ray.remote(RungActor).options(**options).remote(context.halving["factor"])
    try:
        yield replace(context, rungs=name)
    finally:
        ray.kill(actor)


def rungs_of(context: WorkerContext) -> Callable[..., bool] | None:
    """Give the function that asks a sweep's actor; a fit goes on where the actor is gone."""
    if not context.rungs:
        return None
    actor = ray.get_actor(context.rungs)

    def ask(*score: Any) -> bool:
        try:
            return bool(ray.get(actor.stays.remote(*score)))
        except ray.exceptions.RayActorError:
            return True

    return ask
