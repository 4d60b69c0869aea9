"""The experiment whose rows lie in a storage place."""

from __future__ import annotations

from sweeps.errors import InputError
from sweeps.experiment.schema import Experiment, parse_experiment
from sweeps.io.safe_yaml import read_yaml
from sweeps.storage.objects import attempt
from sweeps.storage.store import Store


def experiment_of(uri: str) -> Experiment:
    """Read the experiment whose rows lie at `uri`, plug-ins that are missing here included; InputError for none."""
    content = attempt(lambda: Store(uri).get("experiment.yaml"), uri)
    if content is None:
        raise InputError("no sweep has written here", key="storage", value=uri)
    file = f"{uri}/experiment.yaml"
    return parse_experiment(read_yaml(content, file), file=file, stored=True)
