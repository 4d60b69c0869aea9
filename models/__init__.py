"""What a digital twin is and how it is fitted: backbones, readouts, losses, ridge, gradient fits.

Imports neither `metrics`, `sweeps` nor Ray, and nothing here is imported before it is asked for:
`import models` is light, `models.backbones` and `models.readouts` list what there is without importing torch,
and `models.backbones.BACKBONES[name].load()` imports one of them.
"""

SENTENCES_VERSION = 1
"""VERSION of the sentence encoder (`models.sentences`): raise it when the numbers that `embed` returns change."""
