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
from sweeps.experiment.parse_space import read_stored_space
from sweeps.experiment.schema import Experiment, parse_experiment
from sweeps.experiment.space import Configuration
from sweeps.io.safe_yaml import read_yaml
from sweeps.storage.columns import configuration_of
from sweeps.storage.load import load
from sweeps.storage.objects import attempt
from sweeps.storage.store import Store

NAME = "current.json"


class Membership:
    """Which rows are of configurations that an experiment has.

    Of components that are not installed here the name alone counts. A trial must have read every recording of
    `whole_data`, if that is known, and all areas of the space.
    """

    def __init__(self, experiment: Experiment, areas: Sequence[str], whole_data: set[str] | None) -> None:
        listed = experiment.space.get("depth", {})
        named = [area for area in listed if area not in ("shared", "maps")] if isinstance(listed, dict) else []
        self.space, self.missing = read_stored_space(experiment.space, list(dict.fromkeys([*areas, *named])))
        self.whole_data = whole_data

    def of(self, rows: pd.DataFrame) -> pd.Series:
        """Mark the rows of `trials` or `cells` whose configurations are in the space."""
        part = "trial_id" not in rows
        marks = [self._holds(configuration_of({"config": config}), part) for config in rows["config"]]
        members = pd.Series(marks, index=rows.index, dtype=bool)
        if part or self.whole_data is None:
            return members
        return members & pd.Series(
            [set((p or "").split()) == self.whole_data for p in rows["data_fingerprint"]], rows.index
        )

    def _holds(self, configuration: Configuration, part: bool) -> bool:
        names = {configuration[family]["name"] for family in ("backbone", "readout")}
        if not names & self.missing:
            part = part and not BACKBONES[configuration["backbone"]["name"]].trained
            return self.space.holds(configuration, part)
        return configuration["seed"] in self.space.seeds and set(configuration["depth"]) <= set(self.space.areas)


def split_text(splits: Iterable[str]) -> str:
    """The split of a row of several recordings, given the texts of each: one text where they are equal."""
    return " ".join(sorted(set(splits)))


@dataclass
class CurrentRows:
    """Split, data and truths of the last run, and its experiment where it was read with them.

    `splits` are the splits of those data, by fingerprint, of which `split` does not say all. `base` is where that run
    found the recordings, `cache` where it kept features and fits; `plugins` are its plug-ins with their stated
    versions, `places` the areas that it read in every recording. `left_out` counts the rows that `of` has dropped
    because of other data, splits or versions, `edited_out` those of configurations that the experiment no longer has.
    """

    split: str
    fingerprints: dict[str, str]
    truth_ids: list[str]
    base: str | None = None
    cache: str | None = None
    plugins: list[str] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    experiment: Experiment | None = None
    left_out: int = field(default=0)
    edited_out: int = field(default=0)

    @classmethod
    def read(cls, uri: str) -> CurrentRows:
        """What the last run has written beside its experiment; InputError when no run has."""
        content = Store(uri).get(NAME)
        if content is None:
            raise InputError("no sweep has written here", key="storage", value=uri)
        fields: dict[str, Any] = json.loads(content)
        base, cache = fields.get("base"), fields.get("cache")
        plugins, places = list(fields.get("plugins", [])), dict(fields.get("places", {}))
        ids, splits = fields["truth_ids"], dict(fields.get("splits", {}))
        experiment = experiment_of(uri)
        return cls(fields["split"], fields["fingerprints"], ids, base, cache, plugins, places, splits, experiment)

    def as_json(self) -> bytes:
        """The object to write."""
        fields = {
            "split": self.split,
            "fingerprints": self.fingerprints,
            "truth_ids": self.truth_ids,
            "base": self.base,
            "cache": self.cache,
            "plugins": self.plugins,
            "places": self.places,
            "splits": self.splits,
        }
        return json.dumps(fields, sort_keys=True, indent=1).encode()

    def cache_here(self) -> str | None:
        """The cache of the last run, where this machine has it."""
        return self.cache if self.cache and Path(self.cache).expanduser().is_dir() else None

    def of(self, rows: pd.DataFrame, edited: bool = False) -> pd.DataFrame:
        """The rows of this split, of these data, of the present VERSIONs, and of configurations in the present space.

        Membership is that of the space: of a search also what it would not propose again. With `edited` also the
        others, which an experiment had before it was edited.
        """
        prints = set(self.fingerprints.values())
        own = [(fingerprints or "").split() for fingerprints in rows["data_fingerprint"]]
        data = pd.Series([set(fingerprints) <= prints for fingerprints in own], rows.index, dtype=bool)
        splits = [self._split_of(fingerprints) for fingerprints in own]
        present = {components: self._is_present(components) for components in rows["components"].unique()}
        current = (rows["split"] == splits) & data & rows["components"].map(present).astype(bool)
        self.left_out += int((~current).sum())
        rows = rows[current]
        if edited or self.experiment is None or rows.empty:
            return rows
        members = Membership(self.experiment, self.areas(rows), self._whole_data()).of(rows)
        self.edited_out += int((~members).sum())
        return rows[members]

    def areas(self, rows: pd.DataFrame) -> list[str]:
        """The areas that the last run read; of an earlier version those that rows have."""
        if self.places:
            return list(dict.fromkeys(area for areas in self.places.values() for area in areas))
        if "area" in rows:
            return list(rows["area"].unique())
        return [str(name).removeprefix("config.depth.") for name in rows if str(name).startswith("config.depth.")]

    def _whole_data(self) -> set[str] | None:
        """Fingerprints of the recordings that every trial reads; None where that is not known."""
        return {self.fingerprints[name] for name, areas in self.places.items() if areas} or None

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
