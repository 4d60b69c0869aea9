"""What `sweeps data` does: write small example trees in the layouts of real data sets."""

from __future__ import annotations

from pathlib import Path

from sweeps.errors import InputError
from sweeps.recordings.examples import EXAMPLES, load_example


def example_formats() -> list[str]:
    """Formats that have an example."""
    return list(EXAMPLES)


def write_data(format_name: str, folder: str, seed: int = 0) -> str:
    """Write the example of a format into a new or empty local folder; a message that says how to use it.

    The data are made up, the same for the same seed; layout and traps are those of the real ones.
    """
    example = load_example(format_name)()
    place = Path(folder).expanduser()
    if "://" in folder:
        raise InputError("must be a local folder", key="folder", value=folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError("is not an empty folder; nothing was written", file=folder)
    place.mkdir(parents=True, exist_ok=True)
    example.write(place, seed)
    files = sum(path.is_file() for path in place.rglob("*"))
    return f"wrote {files} files; in an experiment: recordings: [{{format: {format_name}, path: {place.resolve()}}}]"
