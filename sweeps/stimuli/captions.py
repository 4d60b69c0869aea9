"""Captions that say what is in a scene, and never its colours, places, sizes or background."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sweeps.stimuli.shapes import KINDS

NUMBERS = ("no", "one", "two", "three")
TEMPLATES = (
    "{things}",
    "{there} {things}",
    "a picture of {things}",
    "an image of {things}",
    "a scene with {things}",
    "a drawing of {things}",
    "a drawing that shows {things}",
    "this picture shows {things}",
    "here {be} {things}",
    "we see {things}",
    "someone drew {things}",
    "the scene contains {things}",
)


def counted(kind: str, number: int) -> str:
    """A noun with its article or number word: "an umbrella", "two fish"."""
    noun = KINDS[kind].noun
    if number == 1:
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return f"{NUMBERS[number]} {KINDS[kind].plural}"


def caption(kinds: Sequence[str], rng: np.random.Generator) -> str:
    """One sentence or phrase that names exactly these objects; `rng` draws the wording and the order."""
    counts = Counter(kinds)
    order = [sorted(counts)[i] for i in rng.permutation(len(counts))]
    items = [counted(kind, counts[kind]) for kind in order]
    things = items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
    be = "is" if counts[order[0]] == 1 else "are"
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    return template.format(things=things, be=be, there=f"there {be}")
