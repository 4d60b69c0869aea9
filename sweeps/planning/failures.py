"""What ended the process of a pack, by the words of Ray's errors."""

from __future__ import annotations

from enum import Enum


class Death(Enum):
    """What ended the process of a pack."""

    PROCESS = "something that a cell did, as far as anybody knows"
    NODE = "its node is gone"
    MEMORY = "its node was short of memory: this process or another took too much"
    OVERDUE = "it finished no cell for too long"


WORDS = {
    Death.NODE: ("its node has died", "node was preempted", "NodeDiedError"),
    Death.MEMORY: ("ActorOutOfMemoryError",),
}


def death_of(error: str) -> Death:
    """What an error says of the end of a process; see `sweeps.execution.tune.ActorOutOfMemoryError`."""
    return next((death for death, words in WORDS.items() if any(each in error for each in words)), Death.PROCESS)


def last_line(error: str) -> str:
    """The most telling line of a traceback: the last that names an error, else the last of all."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.split(":")[0] and not line.startswith("File")]
    return " ".join((named or lines or ["the process of the pack died"])[-1].split())
