"""What ended a process, by the words of Ray's errors, and the one line of a traceback that is shown."""

from __future__ import annotations

import pytest

from sweeps.planning.failures import ProcessFailure, failure_of, last_line


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("The actor died because its node has died. Node Id: ab", ProcessFailure.NODE),
        ("The actor died: the node was preempted", ProcessFailure.NODE),
        ("ray.exceptions.NodeDiedError: x", ProcessFailure.NODE),
        ("sweeps.execution.tune_surroundings.ActorOutOfMemoryError: Task was killed", ProcessFailure.MEMORY),
        ("RayActorError: The actor died unexpectedly before finishing this task.", ProcessFailure.PROCESS),
        ("MemoryError: cannot allocate", ProcessFailure.PROCESS),
        ("", ProcessFailure.PROCESS),
    ],
)
def test_the_words_of_an_error_tell_what_ended_a_process(error: str, failure: ProcessFailure) -> None:
    assert failure_of(error) is failure


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ('Traceback:\n  File "Error.py", line 3\n    raise ValueError("x")\nValueError:  x\n  y\n\n', "ValueError: x"),
        ("ValueError: first\nKeyError: second\nand more", "KeyError: second"),
        ("ray::pack() (pid=1): an Error\n  no name\n\n", "no name"),
        ("  \n\n", "the process of the pack died"),
        ("", "the process of the pack died"),
    ],
)
def test_the_last_line_that_names_an_error_is_shown(error: str, line: str) -> None:
    assert last_line(error) == line
