"""Where networks and weights lie that an experiment names: beside the recordings, here, else by a name of a hub."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from models.backbones import BACKBONES
from sweeps.experiment.schema import Contrast, Experiment, Side


def model_place(name: str, base: str) -> str:
    """What `name` is below `base`, else below the current folder, as an absolute path; else the name as it is.

    Workers have a current folder of their own, so a relative path would mean another place to them.
    """
    for start in ["."] if "://" in base else [base, "."]:
        place = Path(start) / Path(name).expanduser()
        if place.exists():
            return str(place.resolve())
    return name


def with_places(experiment: Experiment, base: str) -> Experiment:
    """The experiment, with the places of its networks (also where contrasts name them) as absolute paths."""
    backbone = experiment.space.get("backbone")
    entries = backbone if isinstance(backbone, list) else [backbone]
    space = {**experiment.space, "backbone": [_entry(each, base) for each in entries]} if backbone else experiment.space
    contrasts = [_contrast(each, base) for each in experiment.contrasts]
    return experiment.model_copy(update={"space": space, "contrasts": contrasts})


def _entry(entry: Any, base: str) -> Any:
    """A choice of a backbone; whatever it should not be is left to the reader of the space."""
    if not isinstance(entry, dict):
        return entry
    return {name: _settings(name, held, base) if isinstance(held, dict) else held for name, held in entry.items()}


def _settings(name: str, settings: dict[str, Any], base: str) -> dict[str, Any]:
    component = BACKBONES.get(name)
    if component is None or component.content is None or component.content[0] not in settings:
        return settings
    key = component.content[0]
    return {**settings, key: _value(settings[key], base, component.parameters[key].words)}


def _value(value: Any, base: str, words: Collection[str]) -> Any:
    """A value or a list of them; words of the parameter ("random") are no places."""
    if isinstance(value, list):
        return [_value(each, base, words) for each in value]
    return model_place(value, base) if isinstance(value, str) and value and value not in words else value


def _contrast(contrast: Contrast, base: str) -> Contrast:
    return contrast.model_copy(update={name: _side(getattr(contrast, name), base) for name in ("left", "right")})


def _side(side: Side, base: str) -> Side:
    where = {key: _value(value, base, WORDS[key]) if key in WORDS else value for key, value in side.where.items()}
    return side.model_copy(update={"where": where})


def _words() -> dict[str, frozenset[str]]:
    """Settings of backbones that may be places, and the words that are none, of any backbone with that setting."""
    keys = {held.content[0] for held in BACKBONES.values() if held.content is not None}
    parameters = [(key, held.parameters[key]) for key in keys for held in BACKBONES.values() if key in held.parameters]
    return {
        f"backbone.{key}": frozenset(w for each, held in parameters if each == key for w in held.words) for key in keys
    }


WORDS = _words()
