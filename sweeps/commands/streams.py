"""Standard output and error that never end a command: a reader that is gone or a full disk is noted, not raised."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any, TextIO


class ForgivingFile(io.FileIO):
    """A file whose first failure is kept in `failure`, and which from then on takes what is written to nowhere."""

    failure: OSError | None = None

    def write(self, data: object) -> int:
        """Write, or take up that this is no longer possible."""
        while self.failure is None:
            try:
                if (written := super().write(data)) is not None:  # type: ignore[arg-type]
                    return written
                select.select([], [self], [])  # a terminal that does not block, and is slow
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes  # type: ignore[arg-type]


class Streams:
    """Standard output and error of a command, made anew so that writing to them cannot fail.

    Those that a program has put in their places (a notebook's, a test's) stay.
    """

    def __init__(self) -> None:
        _open_closed()
        self.output: ForgivingFile | None = None
        if sys.stdout is sys.__stdout__:
            self.output, sys.stdout = _forgiving(1, sys.stdout, "replace", line_buffering=os.isatty(1))
        if sys.stderr is sys.__stderr__:
            _, sys.stderr = _forgiving(2, sys.stderr, "backslashreplace", line_buffering=True)

    def code(self, code: Any, finishes: bool) -> Any:
        """Give the exit code of a command that ended with `code` and whose output may have failed.

        One that `finishes` whatever becomes of its output keeps its own. Else 141, without a word, where the reader
        is gone, as of `| head`, and 1, with a line, where the output could not be written.
        """
        sys.stdout.flush()
        failure = self.output.failure if self.output else None
        if finishes or code or failure is None:
            return code
        if failure.errno == errno.EPIPE:
            return 141
        print(f"error: the output cannot be written: {failure.strerror}", file=sys.stderr)
        return 1


def _open_closed() -> None:
    """Open what the caller has closed (`>&-`) as nowhere, lest the next file that is opened takes its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one


def _forgiving(number: int, stream: TextIO | None, errors: str, line_buffering: bool) -> tuple[ForgivingFile, TextIO]:
    """Give the file and the text stream of a standard stream; `errors` is for characters that it cannot encode."""
    if stream is None:  # it was closed; by now another file may have its number
        number = os.open(os.devnull, os.O_WRONLY)
    file = ForgivingFile(number, "w", closefd=False)
    encoding = "utf-8" if stream is None else stream.encoding
    return file, io.TextIOWrapper(io.BufferedWriter(file), encoding, errors, line_buffering=line_buffering)
