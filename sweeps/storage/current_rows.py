"""Which rows of a storage belong to the experiment as it stands: a sweep that was edited keeps its older rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.errors import InputError
from sweeps.experiment.schema import Experiment, parse_experiment
from sweeps.io.safe_yaml import read_yaml
from sweeps.storage.load import load
from sweeps.storage.objects import attempt
from sweeps.storage.store import Store

NAME = "current.json"


def split_text(splits: Iterable[str]) -> str:
    """The split of a row of several recordings, given the texts of each: one text where they are equal."""
    return " ".join(sorted(set(splits)))


@dataclass
class CurrentRows:
    """Split, data and truths of the last run; `left_out` counts the rows that `of` has dropped.

    `splits` are the splits of those data, by fingerprint, of which `split` does not say all. `base` is where that run
    found the recordings, `cache` where it kept features and fits; `plugins` are its plug-ins with their versions.
    """

    split: str
    fingerprints: dict[str, str]
    truth_ids: list[str]
    base: str | None = None
    cache: str | None = None
    plugins: list[str] = field(default_factory=list)
    splits: dict[str, str] = field(default_factory=dict)
    left_out: int = field(default=0)

    @classmethod
    def read(cls, uri: str) -> CurrentRows:
        """What the last run has written beside its experiment; InputError when no run has."""
        content = Store(uri).get(NAME)
        if content is None:
            raise InputError("no sweep has written here", key="storage", value=uri)
        fields: dict[str, Any] = json.loads(content)
        base, cache = fields.get("base"), fields.get("cache")
        plugins = list(fields.get("plugins", []))
        splits = dict(fields.get("splits", {}))
        return cls(fields["split"], fields["fingerprints"], fields["truth_ids"], base, cache, plugins, splits)

    def as_json(self) -> bytes:
        """The object to write."""
        fields = {
            "split": self.split,
            "fingerprints": self.fingerprints,
            "truth_ids": self.truth_ids,
            "base": self.base,
            "cache": self.cache,
            "plugins": self.plugins,
            "splits": self.splits,
        }
        return json.dumps(fields, sort_keys=True, indent=1).encode()

    def cache_here(self) -> str | None:
        """The cache of the last run, where this machine has it."""
        return self.cache if self.cache and Path(self.cache).expanduser().is_dir() else None

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of this split, of these data, and of the present VERSIONs."""
        prints = set(self.fingerprints.values())
        own = [(fingerprints or "").split() for fingerprints in rows["data_fingerprint"]]
        data = pd.Series([set(fingerprints) <= prints for fingerprints in own], rows.index, dtype=bool)
        splits = [self._split_of(fingerprints) for fingerprints in own]
        present = {components: self._is_present(components) for components in rows["components"].unique()}
        current = (rows["split"] == splits) & data & rows["components"].map(present).astype(bool)
        self.left_out += int((~current).sum())
        return rows[current]

    def _split_of(self, fingerprints: Sequence[str]) -> str:
        """The split of a row of these data."""
        return split_text(self.splits.get(fingerprint, self.split) for fingerprint in fingerprints) or self.split

    def _is_present(self, components: str) -> bool:
        """Whether a row has the present VERSIONs, of plug-ins those of the last run; others are taken as they are."""
        for registry, component in zip((BACKBONES, READOUTS), components.split(), strict=False):
            name, _, version = component.rpartition("@")
            installed = registry.installed(name)
            stated = [text.rpartition("@")[2] for text in self.plugins if text.startswith(f"{registry.group}/{name}@")]
            present = [str(installed.version)] if installed is not None else stated
            if present and version not in present:
                return False
        return True

    def truths(self, uri: str) -> pd.DataFrame:
        """The truths of the simulated recordings of the last run."""
        if not self.truth_ids:
            return pd.DataFrame()
        truths = load(uri, "truths")
        return truths[truths["truth_id"].isin(self.truth_ids)]


def experiment_of(uri: str) -> Experiment:
    """Read the experiment whose rows lie at `uri`, plug-ins that are missing here included; InputError for none."""
    content = attempt(lambda: Store(uri).get("experiment.yaml"), uri)
    if content is None:
        raise InputError("no sweep has written here", key="storage", value=uri)
    file = f"{uri}/experiment.yaml"
    return parse_experiment(read_yaml(content, file), file=file, stored=True)
