"""What ended the process of a pack, by the words of Ray's errors."""

from __future__ import annotations

from enum import Enum

from sweeps.io.secrets import redacted


class ProcessFailure(Enum):
    """What ended the process of a pack."""

    PROCESS = "something that a cell did, as far as anybody knows"
    NODE = "its node is gone"
    MEMORY = "its node was short of memory: this process or another took too much"
    OVERDUE = "it finished no cell for too long"


WORDS = {
    ProcessFailure.NODE: ("its node has died", "node was preempted", "NodeDiedError"),
    ProcessFailure.MEMORY: ("ActorOutOfMemoryError",),
}


def failure_of(error: str) -> ProcessFailure:
    """Tell what ended a process by its error; see `sweeps.execution.tune.ActorOutOfMemoryError`."""
    kinds = (failure for failure, words in WORDS.items() if any(word in error for word in words))
    return next(kinds, ProcessFailure.PROCESS)


def last_line(error: str) -> str:
    """Give the most telling line of a traceback: the last that names an error, else the last of all; no secrets."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.split(":")[0] and not line.startswith("File")]
    return redacted(" ".join((named or lines or ["the process of the pack died"])[-1].split()))
