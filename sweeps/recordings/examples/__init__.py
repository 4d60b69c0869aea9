"""Writers of small example trees in the layouts of real data sets, traps included: `sweeps data write`.

A writer is `write(folder: Path, seed: int = 0, ...sizes) -> None`: it fills an empty folder with made-up data that its
format reads, the same for the same seed. A new one is one new file and one line in EXAMPLES.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from sweeps.errors import InputError

EXAMPLES: dict[str, str] = {
    "sensorium-static": "sweeps.recordings.examples.sensorium_static:write",
    "sensorium-dynamic": "sweeps.recordings.examples.sensorium_dynamic:write",
    "experanto": "sweeps.recordings.examples.experanto:write",
    "allen-nwb": "sweeps.recordings.examples.allen:write",
    "nsd": "sweeps.recordings.examples.nsd:write",
    "algonauts": "sweeps.recordings.examples.algonauts:write",
    "lebel": "sweeps.recordings.examples.lebel:write",
    "shortclips": "sweeps.recordings.examples.shortclips:write",
}
"""Format -> `module:function` of the writer of its example."""


def load_writer(name: str) -> Callable[..., None]:
    """The writer of a format's example; InputError for a format that has none."""
    if name not in EXAMPLES:
        raise InputError("there is no example of this format", key="format", value=name, allowed=EXAMPLES)
    module, function = EXAMPLES[name].split(":")
    writer: Callable[..., None] = getattr(importlib.import_module(module), function)
    return writer
