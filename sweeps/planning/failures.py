"""What ended the process of a pack, by the words of Ray's errors."""

from __future__ import annotations

import re
from enum import Enum

from sweeps.io.guards.secrets import redacted

MOST_LOSSES = 20
"""So often in a row a pack may lose its process without having finished a cell; then it is left unfinished."""

LEAST_SUSPECT_GB = 1.0
"""A process that holds less memory than this is not what a node is short of memory for."""


class ProcessFailure(Enum):
    """What ended the process of a pack."""

    PROCESS = "something that a cell did, as far as anybody knows"
    NODE = "its node is gone"
    ENDED = "it was asked to end (SIGTERM), as by a scheduler that takes a node back"
    RAY = "Ray itself failed"
    MEMORY = "its node was short of memory: this process or another took too much"
    OTHERS = "its node was short of memory, of which this process held little"
    OVERDUE = "it finished no cell for too long"

    @property
    def counts(self) -> bool:
        """Whether it may be the fault of a cell."""
        return self not in (ProcessFailure.NODE, ProcessFailure.ENDED, ProcessFailure.RAY, ProcessFailure.OTHERS)


WORDS = {
    ProcessFailure.NODE: ("its node has died", "node was preempted", "NodeDiedError", "its owner has died"),
    ProcessFailure.ENDED: ("The process receives a SIGTERM",),
    ProcessFailure.RAY: (
        "ActorUnavailableError",
        "ActorUnschedulableError",
        "LocalRayletDiedError",
        "ObjectLostError",
        "ObjectFetchTimedOutError",
        "OutOfDiskError",
        "OwnerDiedError",
        "RaySystemError",
        "RuntimeEnvSetupError",
    ),
    ProcessFailure.MEMORY: ("ActorOutOfMemoryError",),
}

HELD = re.compile(r"memory used=([0-9.]+) ?GB")
"""What Ray says of the memory of the processes that it ends."""


def failure_of(error: str) -> ProcessFailure:
    """Tell what ended a process by its error; see `sweeps.execution.tune_surroundings.ActorOutOfMemoryError`."""
    kinds = (failure for failure, words in WORDS.items() if any(word in error for word in words))
    failure = next(kinds, ProcessFailure.PROCESS)
    held = [float(size) for size in HELD.findall(error)]
    if failure is ProcessFailure.MEMORY and held and max(held) < LEAST_SUSPECT_GB:
        return ProcessFailure.OTHERS
    return failure


def last_line(error: str) -> str:
    """Give the most telling line of a traceback: the last that names an error, else the last of all; no secrets."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.split(":")[0] and not line.startswith("File")]
    return redacted(" ".join((named or lines or ["the process of the pack died"])[-1].split()))
