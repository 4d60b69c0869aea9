"""Plug-ins that an experiment names: which they are, and that every worker has the same code of them.

A plug-in is a backbone, readout, loss, score, recording format or kind of probe from outside this project, named by an
entry point or by a dotted path (see `models.registry`). Its name and stated version are its identity, as they are of
what ships here; the digest of its code is a guard and a column of the tables.
"""

from __future__ import annotations

import functools
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.backbones import BACKBONES
from models.objectives.losses import LOSSES
from models.readouts import READOUTS
from models.registry import Plugin, Registry, UnknownName
from sweeps.errors import InputError, Refusal
from sweeps.experiment.domains import Choice, Values
from sweeps.experiment.schema import Experiment
from sweeps.experiment.space import Configuration, Space
from sweeps.probes import PROBES
from sweeps.recordings import FORMATS
from sweeps.scores import SCORES

REGISTRIES: Mapping[str, Registry[Any]] = {
    registry.group: registry for registry in (BACKBONES, READOUTS, LOSSES, SCORES, FORMATS, PROBES)
}
"""Registries whose declarations workers need, by group."""


def plugins_of(experiment: Experiment, space: Space, chosen: Iterable[Configuration] = ()) -> tuple[Plugin, ...]:
    """Every plug-in that the workers of an experiment need, for `chosen` configurations beside its space; sorted.

    Raises InputError for one that lies in no file.
    """
    names: dict[str, set[str]] = defaultdict(set)
    names["scores"] |= set(experiment.scores)
    names["formats"] |= {str(recording["format"]) for recording in experiment.recordings}
    names["probes"] |= {kind for kind, value in experiment.probes.items() if value is not None}
    for group, choices in (("backbones", space.backbones), ("readouts", space.readouts)):
        names[group] |= {choice.name for choice in choices}
        for choice in choices:
            for inner, values in _nested(choice):
                names[inner] |= values
    for configuration in chosen:
        for group, family in (("backbones", "backbone"), ("readouts", "readout")):
            _add_names(names, group, configuration[family])
    plugins = [_plugin(group, name) for group in REGISTRIES for name in sorted(names[group])]
    return tuple(plugin for plugin in plugins if plugin is not None)


def _add_names(names: dict[str, set[str]], group: str, resolved: Mapping[str, Any]) -> None:
    """Add what a resolved component names: itself, and what its parameters take from a registry."""
    names[group].add(resolved["name"])
    for key, parameter in REGISTRIES[group][resolved["name"]].parameters.items():
        if isinstance(parameter.words, Registry) and key in resolved:
            names[parameter.words.group].add(resolved[key])


def _plugin(group: str, name: str) -> Plugin | None:
    try:
        return REGISTRIES[group].plugin(name)
    except UnknownName as error:
        raise InputError(error.problem, key=group, value=name) from None


@functools.cache
def code_of(backbone: str) -> tuple[str, ...]:
    """What tells the code of a backbone from outside this project, for keys of a node's cache; nothing of others."""
    plugin = BACKBONES.plugin(backbone)
    return () if plugin is None else (plugin.digest,)


def _nested(choice: Choice) -> Iterable[tuple[str, set[str]]]:
    """Names that a choice's parameters may take from a registry, such as losses, by its group."""
    for key, domain in choice.domains.items():
        words = choice.component.parameters[key].words
        if isinstance(words, Registry) and isinstance(domain, Values):
            yield words.group, {str(value) for value in domain.values}


def add_import_paths(folders: Iterable[str]) -> None:
    """Let modules beside an experiment be imported, behind everything that can be imported already."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def claim_plugins(plugins: Sequence[str], folders: Iterable[str]) -> None:
    """In a worker: check that it has every plug-in of the driver, and the same code; raises Refusal otherwise."""
    add_import_paths(folders)
    for text in plugins:
        group, _, rest = text.partition("/")
        name = rest.rpartition("#")[0].rpartition("@")[0]
        try:
            own = REGISTRIES[group].plugin(name)
        except UnknownName as error:
            raise Refusal(
                f"this worker lacks a plug-in of the experiment: {error}. Install it on every node, or put its module "
                "where every node sees it",
                key=group,
                value=name,
            ) from None
        if str(own) != text:
            raise Refusal(
                f"this worker has other code of a plug-in ({own}) than the driver ({text}): install the same on every "
                "node",
                key=group,
                value=name,
            )


def other_code(plugins: Iterable[Plugin], earlier: Iterable[str | None]) -> list[str]:
    """Plug-ins of which rows were made by other code under the same name and version, given the rows' `plugins`."""
    digests: dict[str, set[str]] = defaultdict(set)
    for text in {part for texts in set(earlier) if texts for part in texts.split()}:
        stated, _, digest = text.rpartition("#")
        digests[stated].add(digest)
    return [plugin.stated for plugin in plugins if digests[plugin.stated] - {plugin.digest}]
