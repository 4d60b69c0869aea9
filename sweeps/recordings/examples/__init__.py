"""Small example trees in the layouts of real data sets, traps included: `sweeps data write`.

An example is a frozen dataclass of sizes with `write(folder, seed=0)`, which fills an empty folder with made-up data
that its format reads. A new one is one new file and one line in EXAMPLES.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from sweeps.errors import InputError
from sweeps.recordings.examples.made_up import Example

EXAMPLES: dict[str, str] = {
    "sensorium-static": "sweeps.recordings.examples.sensorium_static:SensoriumStaticExample",
    "sensorium-dynamic": "sweeps.recordings.examples.sensorium_dynamic:SensoriumDynamicExample",
    "experanto": "sweeps.recordings.examples.experanto:ExperantoExample",
    "allen-nwb": "sweeps.recordings.examples.allen:AllenExample",
    "nsd": "sweeps.recordings.examples.nsd:NsdExample",
    "algonauts": "sweeps.recordings.examples.algonauts:AlgonautsExample",
    "lebel": "sweeps.recordings.examples.lebel:LebelExample",
    "shortclips": "sweeps.recordings.examples.shortclips:ShortclipsExample",
}
"""Format -> `module:class` of its example."""


def load_example(name: str) -> Callable[..., Example]:
    """Return the class of a format's example, called with sizes; InputError for a format that has none."""
    if name not in EXAMPLES:
        raise InputError("there is no example of this format", key="format", value=name, allowed=EXAMPLES)
    module, attribute = EXAMPLES[name].split(":")
    example: Callable[..., Example] = getattr(importlib.import_module(module), attribute)
    return example
