"""What several backbones declare alike: how cores are trained, where weights come from, hub models, texts."""

from __future__ import annotations

from models.component import Parameter

TRAINER = ("learning_rate", "epochs", "patience", "pool")
"""Parameters of a readout that mean nothing beside a core: the core has its own, and its maps are not pooled."""

JOINT = {
    "behaviour": Parameter(False, "bool"),
    "gaze": Parameter(False, "bool"),
    "together": Parameter(False, "bool", later=True),
}
"""What a core and its readouts are given besides the stimulus, and whether a step takes all recordings together."""

WEIGHTS = ("weights", "models.backbones.file_digest:of_weights")
RANDOM = {"weights": ("random",)}
"""The seed counts for random weights alone."""

NETWORK = {
    "model": Parameter(None, "str"),
    "weights": Parameter("pretrained", "str", words=("pretrained", "random")),
}
"""A model of the hub: `model` is a folder or a name there and must be given."""

POOLING = {
    "pooling": Parameter("patches", "str", words=("patches", "mean", "max", "class", "projection")),
    "dimensions": Parameter(4096, "int", low=1, idle={"pooling": ("patches", "mean", "max", "class")}),
}

NORMALISE = {"normalise": Parameter(False, "bool")}

RANDOM_OR_PROJECTED = {"weights": ("random",), "pooling": ("projection",)}
HUB_CONTENT = ("model", "models.backbones.transformers.hub_files:fingerprint")


def training(learning_rate: float, epochs: int, patience: int) -> dict[str, Parameter]:
    """Give the parameters of a core's fit, with its own defaults."""
    return {
        "learning_rate": Parameter(learning_rate, "float", positive=True),
        "epochs": Parameter(epochs, "int", low=1),
        "patience": Parameter(patience, "int", low=1),
    }


def texts(token: str, words: tuple[str, ...], after: int) -> dict[str, Parameter]:
    """Give the parameters of a backbone of texts; all but `token` are about stories."""
    return {
        "token": Parameter(token, "str", words=words),
        "context": Parameter(20, "int", low=0),
        "after": Parameter(after, "int", low=0),
        "resample": Parameter("sum", "str", words=("sum", "mean")),
        "zscore": Parameter(True, "bool"),
    }
