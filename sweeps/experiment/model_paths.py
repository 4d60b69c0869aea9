"""Where networks and weights lie that an experiment names: beside the recordings, here, else by a name of a hub."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from models.backbones import BACKBONES
from models.component import Component
from sweeps.experiment.schema import Contrast, Experiment, Side


def model_place(name: str, base: str) -> str:
    """Find `name` below `base`, else below the current folder, as an absolute path; else return it as it is.

    Workers have a current folder of their own, so a relative path would mean another place to them.
    """
    for start in ["."] if "://" in base else [base, "."]:
        place = Path(start) / Path(name).expanduser()
        if place.exists():
            return str(place.resolve())
    return name


def with_places(experiment: Experiment, base: str) -> Experiment:
    """Return the experiment with the places of its networks (also where contrasts name them) as absolute paths."""
    backbone = experiment.space.get("backbone")
    entries = backbone if isinstance(backbone, list) else [backbone]
    placed = {"backbone": [_entry(entry, base) for entry in entries]} if backbone else {}
    space, words = {**experiment.space, **placed}, _words(entries)
    contrasts = [_contrast(contrast, base, words) for contrast in experiment.contrasts]
    return experiment.model_copy(update={"space": space, "contrasts": contrasts})


def _entry(entry: Any, base: str) -> Any:
    """Place a choice of a backbone; whatever it should not be is left to the reader of the space."""
    if not isinstance(entry, dict):
        return entry
    return {name: _settings(name, value, base) if isinstance(value, dict) else value for name, value in entry.items()}


def _settings(name: str, settings: dict[str, Any], base: str) -> dict[str, Any]:
    component = BACKBONES.get(name) if isinstance(name, str) else None
    if component is None or component.content is None or component.content[0] not in settings:
        return settings
    key = component.content[0]
    return {**settings, key: _value(settings[key], base, component.parameters[key].words)}


def _value(value: Any, base: str, words: Collection[str]) -> Any:
    """Place a value or a list of them; words of the parameter ("random") are no places."""
    if isinstance(value, list):
        return [_value(entry, base, words) for entry in value]
    return model_place(value, base) if isinstance(value, str) and value and value not in words else value


def _contrast(contrast: Contrast, base: str, words: Mapping[str, Collection[str]]) -> Contrast:
    sides = {name: _side(getattr(contrast, name), base, words) for name in ("left", "right")}
    return contrast.model_copy(update=sides)


def _side(side: Side, base: str, words: Mapping[str, Collection[str]]) -> Side:
    where = {key: _value(value, base, words[key]) if key in words else value for key, value in side.where.items()}
    return side.model_copy(update={"where": where})


def _words(entries: Iterable[Any]) -> dict[str, frozenset[str]]:
    """List the settings of backbones that may be places, with the words that are none, of any backbone that has them.

    Backbones are those that are installed, and those that the choices name by their paths.
    """
    named = [name for entry in entries for name in (entry if isinstance(entry, dict) else [entry])]
    names = dict.fromkeys([*BACKBONES, *(name for name in named if isinstance(name, str))])
    components = [BACKBONES[name] for name in names if name in BACKBONES]
    keys = {component.content[0] for component in components if component.content is not None}
    return {f"backbone.{key}": _words_of(key, components) for key in keys}


def _words_of(key: str, components: Iterable[Component]) -> frozenset[str]:
    parameters = [component.parameters[key] for component in components if key in component.parameters]
    return frozenset(word for parameter in parameters for word in parameter.words)
