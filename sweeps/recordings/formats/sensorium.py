"""The tree that Sensorium 2022 (pictures) and 2023 (videos) share: trials, tiers, units, one file per trial and kind.

    data/KIND/K.npy       KIND: images or videos, responses, behavior, pupil_center; K: number of the trial
    meta/trials/*.npy     row K belongs to file K; this is not the order of presentation, `trial_idx` is
    meta/neurons/*.npy    row N belongs to unit N of the responses
    config.json           {"links": {alias: folder}}: where a KIND lies under another name

`config.json` is read where there is one and never written. The statistics in `meta/statistics` are not used: in the
video sets they have one value per frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from sweeps.errors import InputError, listed
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.io.labels import clean_label
from sweeps.recordings.readers.file_tree import Tree, is_below
from sweeps.recordings.readers.screens import Brightness, Presentations, ScreenSpec
from sweeps.recordings.readers.trial_tables import blank
from sweeps.recordings.spec import StoredSpec
from sweeps.recordings.units import UnitChoice, Units, check_coordinates, check_length, choose_units

TIERS = (
    "train",
    "validation",
    "oracle",
    "test",
    "final_test",
    "live_test_main",
    "live_test_bonus",
    "final_test_main",
    "final_test_bonus",
    "none",
)
"""Tiers of the trials in all sets of this layout."""


class SensoriumSpec(StoredSpec, UnitChoice):
    """What the two formats share. `normalise: std` divides by each unit's deviation (see `scale_responses`)."""

    image: ScreenSpec = ScreenSpec()
    tiers: tuple[str, ...] = Field((), strict=False)
    normalise: Literal["std", "none"] = "std"
    repeats: int | None = Field(None, ge=1)
    white: float = Field(255.0, gt=0)
    memory_gb: float = Field(16.0, gt=0)

    def default_name(self) -> str:
        """Return the folder's own name."""
        return super().default_name().removesuffix(".zip")

    def options(self) -> str:
        """Identity of what decides the numbers beside the files."""
        return content_id(self.model_dump(mode="json", exclude={"path", "name", "memory_gb"}))


@dataclass(frozen=True)
class Session:
    """An opened session: its tree, the numbers of the trials that are read, their tiers and order, and the units."""

    tree: Tree
    spec: SensoriumSpec
    links: dict[str, str]
    trials: np.ndarray
    tiers: np.ndarray
    order: np.ndarray | None
    count: int
    units: Units

    def file(self, kind: str, trial: int) -> str:
        """Name of the file of one trial."""
        return _file(self.links, kind, trial)

    def files(self, kind: str) -> list[str]:
        """Names of the files of all read trials."""
        return [self.file(kind, int(trial)) for trial in self.trials]

    def brightness(self, kind: str) -> Brightness:
        """Brightness of the files of a kind, none of which is read yet."""
        return Brightness(self.spec.white, self.tree.file(f"data/{self.links.get(kind, kind)}"))

    def blank(self, rows: int, channels: int, repeats: int) -> np.ndarray:
        """See `blank`."""
        return blank(rows, channels, repeats, self.spec.memory_gb, self.tree.url)

    def has(self, kind: str) -> bool:
        """Whether anything of a kind was recorded."""
        return bool(self.tree.names(f"data/{self.links.get(kind, kind)}"))

    def arrays(self, kind: str) -> Iterator[tuple[int, str, np.ndarray]]:
        """Place, file and array of every read trial."""
        names = self.files(kind)
        arrays = zip(names, self.tree.arrays_of(names), strict=True)
        return ((place, name, array) for place, (name, array) in enumerate(arrays))

    def per_trial(self, key: str) -> np.ndarray | None:
        """One text per read trial from meta/trials; None where there is no such file."""
        name = f"meta/trials/{key}.npy"
        if not self.tree.has(name):
            return None
        labels = self.tree.labels(name)
        if len(labels) <= self.trials.max():
            raise InputError(f"has {len(labels)} entries, trial {self.trials.max()} is read", file=self.tree.file(name))
        return labels[self.trials]


def open_session(spec: SensoriumSpec, base: str, tiers: Sequence[str]) -> Session:
    """Open a session and choose its trials (those of `tiers`) and units."""
    tree = Tree(join(base, spec.path))
    links = _links(tree)
    tier_of = _tiers(tree)
    trials = _chosen(tier_of, tiers, tree)
    count = _count(tree, _file(links, "responses", int(trials[0])))
    units = _units(tree, spec, count)
    session = Session(tree, spec, links, trials, tier_of[trials], None, count, units)
    order = _order(session.per_trial("trial_idx"))
    return Session(tree, spec, links, trials, tier_of[trials], order, count, units)


def check_recorded(session: Session, silent: np.ndarray) -> None:
    """Raise InputError for a tier whose trials are all `silent` (trials,): zero or missing, so withheld."""
    for tier in dict.fromkeys(session.tiers.tolist()):
        if silent[session.tiers == tier].all():
            others = [other for other in dict.fromkeys(session.tiers.tolist()) if other != tier]
            problem = "its responses are zero or missing throughout: withheld in a competition; leave it out"
            place = session.tree.file(f"data/{session.links.get('responses', 'responses')}")
            raise InputError(f"{problem} (tiers: [{listed(others)}])", file=place, key="tiers", value=tier)


def limit_repeats(session: Session, presentations: Presentations) -> np.ndarray:
    """Return which trials are used (trials,): those within the first `repeats` of what they show."""
    most = session.spec.repeats
    return np.ones(len(presentations.item), dtype=bool) if most is None else presentations.repeat < most


# -- the parts of the tree --------------------------------------------------------------------------


def _links(tree: Tree) -> dict[str, str]:
    if not tree.has("config.json"):
        return {}
    links = tree.mapping("config.json").get("links") or {}
    if not isinstance(links, dict):
        raise InputError("must map aliases to folders", file=tree.file("config.json"), key="links", value=links)
    for alias, folder in links.items():
        if not is_below(folder):
            problem = "must be a folder below data/"
            raise InputError(problem, file=tree.file("config.json"), key=f"links.{alias}", value=folder)
    return {str(alias): folder.rstrip("/") for alias, folder in links.items()}


def _count(tree: Tree, name: str) -> int:
    """Number of units, from the responses of one trial."""
    responses = tree.array(name)
    if not responses.ndim:
        raise InputError("must hold the responses of units, not one number", file=tree.file(name))
    return len(responses)


def _file(links: dict[str, str], kind: str, trial: int) -> str:
    return f"data/{links.get(kind, kind)}/{trial}.npy"


def _tiers(tree: Tree) -> np.ndarray:
    name = "meta/trials/tiers.npy"
    if not tree.has(name):
        raise InputError("missing file: a Sensorium session names the tier of every trial there", file=tree.file(name))
    tiers = tree.labels(name)
    strange = sorted(set(tiers.tolist()) - set(TIERS))
    if strange:
        raise InputError("unknown tier", file=tree.file(name), value=strange[0], allowed=TIERS)
    return tiers


def _chosen(tier_of: np.ndarray, tiers: Sequence[str], tree: Tree) -> np.ndarray:
    wanted = [clean_label(tier) for tier in tiers]
    for tier in wanted:
        if tier not in TIERS:
            raise InputError("unknown tier", key="tiers", value=tier, allowed=TIERS)
    trials = np.flatnonzero(np.isin(tier_of, wanted))
    if not len(trials):
        present = listed(dict.fromkeys(tier_of.tolist()))
        problem = f"no trial belongs to these tiers; the trials' own are {present}"
        raise InputError(problem, file=tree.file("meta/trials/tiers.npy"), key="tiers", value=wanted)
    return trials


def _order(trial_idx: np.ndarray | None) -> np.ndarray | None:
    """Order of presentation, None where it is unknown or hashed, as numbers beyond 64 bits are."""
    if trial_idx is None or not all(label.isdecimal() and len(label) < 19 for label in trial_idx.tolist()):
        return None
    return trial_idx.astype(np.int64)


def _units(tree: Tree, spec: SensoriumSpec, count: int) -> Units:
    neurons = tree.names("meta/neurons")
    labels = tree.labels("meta/neurons/area.npy") if "area.npy" in neurons and spec.area is None else None
    check_length(labels, count, tree.file("meta/neurons/area.npy"))
    if "unit_ids.npy" in neurons:
        _check_ids(tree, count)
    coordinates = _coordinates(tree, count) if "cell_motor_coordinates.npy" in neurons else None
    return choose_units(spec, count, labels, coordinates, tree.file("meta/neurons/area.npy"))


def _check_ids(tree: Tree, count: int) -> None:
    name = "meta/neurons/unit_ids.npy"
    ids = tree.labels(name)
    check_length(ids, count, tree.file(name))
    if len(np.unique(ids)) < count:
        raise InputError("names a unit twice", file=tree.file(name))


def _coordinates(tree: Tree, count: int) -> np.ndarray:
    name = "meta/neurons/cell_motor_coordinates.npy"
    coordinates = tree.array(name)
    check_coordinates(coordinates, count, tree.file(name))
    return coordinates
