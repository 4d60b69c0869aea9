"""Rows of the tables: a row is made here, whoever makes it, its settings typed as their components declare them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.experiment.cells import Cell, components_of
from sweeps.experiment.depths import blocks_of, depth_text
from sweeps.experiment.space import Configuration
from sweeps.hashing import canonical
from sweeps.scores import SCORES
from sweeps.storage.schema import COLUMNS, TEXT, column_type

_TYPES = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "str": pa.string()}


def column_notes(name: str) -> dict[str, str]:
    """Metadata of a column: what a score is, whether more is better, and why it may be NaN."""
    split, _, column = name.partition(".")
    for score in SCORES.values() if split in ("select", "score") else ():
        if column in (*score.columns, *score.trial_columns):
            direction = "more is better" if score.up and column == score.columns[0] else "descriptive"
            return {"score": score.summary, "direction": direction, "NaN where": score.nan_where}
    return {}


Components = Mapping[str, tuple[str, ...]]
"""Names of backbones and readouts from outside this project, by family, whose settings a table has."""


def setting_type(name: str, plugins: Components = MappingProxyType({})) -> pa.DataType | None:
    """The type of a setting's column, such as `backbone.weights`, as the components that have it declare it.

    Those are all that ship here and the given `plugins`, so that what else is installed does not matter. None for a
    setting that none of them has.
    """
    return _declared_type(name, tuple(plugins.get(name.partition(".")[0], ())))


@functools.cache
def _declared_type(name: str, plugins: tuple[str, ...]) -> pa.DataType | None:
    family, _, key = name.partition(".")
    registry = {"backbone": BACKBONES, "readout": READOUTS}[family]
    components = [*registry.shipped(), *(registry[plugin] for plugin in plugins)]
    kinds = {component.parameters[key].column for component in components if key in component.parameters}
    return None if not kinds else _TYPES[kinds.pop()] if len(kinds) == 1 else TEXT


def _plugins_of(names: Mapping[str, Iterable[str]]) -> Components:
    registries = {"backbone": BACKBONES, "readout": READOUTS}
    return {
        family: tuple(sorted({name for name in names[family] if name not in registry.builtin and name in registry}))
        for family, registry in registries.items()
    }


def cell_configuration(configuration: Configuration) -> dict[str, Any]:
    """Flat `config.*` columns and the canonical JSON of a configuration.

    `config.depth.AREA` is the deepest block that is read, `config.blocks.AREA` all of them, such as "3+5+7".
    """
    columns: dict[str, Any] = {"config": canonical(configuration)}
    plugins = _plugins_of({family: [configuration[family]["name"]] for family in ("backbone", "readout")})
    for family in ("backbone", "readout"):
        resolved = configuration[family]
        columns[f"config.{family}"] = resolved["name"]
        for key, value in resolved.items():
            if key != "name":
                text = pa.types.is_string(setting_type(f"{family}.{key}", plugins) or TEXT)
                columns[f"config.{family}.{key}"] = str(value) if text else value
    for area, depth in configuration["depth"].items():
        columns |= {f"config.depth.{area}": blocks_of(depth)[-1], f"config.blocks.{area}": depth_text(depth)}
    columns["config.seed"] = configuration["seed"]
    return columns


@dataclass(frozen=True)
class Outcome:
    """What came of a cell or trial, in the columns that both tables have; `halving` is set where it was pruned."""

    status: str
    error: str | None
    attempt: int
    split: str
    score_keys: Iterable[str] = ()
    halving: str | None = None

    def columns(self) -> dict[str, Any]:
        """The columns by name."""
        return {**vars(self), "score_keys": " ".join(sorted(self.score_keys))}


def cell_row(cell: Cell, outcome: Outcome, origin: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Make a row of `cells`: `origin` says where and with what it was made, `values` are its scores and facts."""
    return {
        "cell_id": cell.cell_id,
        "recording": cell.recording,
        "area": cell.area,
        "depth": cell.depth,
        "blocks": depth_text(cell.blocks),
        **cell_configuration(cell.configuration()),
        "components": components_of(cell.backbone, cell.readout),
        **outcome.columns(),
        **origin,
        **values,
    }


def trial_row(
    trial_id: str,
    configuration: Configuration,
    cells: Sequence[Cell],
    outcome: Outcome,
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """Make a row of `trials`: `values` are its scores and costs, and where and with what it was made."""
    return {
        "trial_id": trial_id,
        **cell_configuration(configuration),
        **{f"cell.{cell.recording}.{cell.area}": cell.cell_id for cell in cells},
        "components": components_of(configuration["backbone"], configuration["readout"]),
        **outcome.columns(),
        **values,
    }


def bootstrap_row(cell: Mapping[str, Any], replicates: np.ndarray, chance: np.ndarray | None = None) -> dict[str, Any]:
    """Make a row of `bootstraps` beside a row of `cells`: replicates of its prediction, and what chance gives."""
    identity = {name: cell[name] for name in ("cell_id", "attempt", "finished")}
    return {**identity, "replicates": replicates, "chance": chance}


def fold_row(cell: Mapping[str, Any], select: np.ndarray, sums: np.ndarray) -> dict[str, Any]:
    """Make a row of `folds` beside a row of `cells`: select (folds,), and sums (folds, units, 6) as one list."""
    own = {name: cell[name] for name in ("cell_id", "attempt", "finished")}
    return {**own, "folds": len(select), "select": select, "sums": sums.ravel()}


def confirmation_row(
    cell: Cell, place: Mapping[str, Any], origin: Mapping[str, Any], scores: Mapping[str, float]
) -> dict[str, Any]:
    """Make a row of `confirmations`: `place` says which opening and which stimuli, `scores` are report columns."""
    own = {"cell_id": cell.cell_id, "recording": cell.recording, "area": cell.area}
    columns = ("prediction", "prediction_low", "prediction_high", "prediction_ceiled", "brain_ceiling")
    numbers = {name: scores.get(f"score.{name}") for name in columns}
    return {**place, **own, **numbers, "config": canonical(cell.configuration()), **origin}


def truth_row(truth_id: str, truth: Mapping[str, Any]) -> dict[str, Any]:
    """Make a row of `truths` from the fields of a `Truth`."""
    lists = {name: list(truth[name]) for name in ("alike", "correlations")}
    return {**truth, **lists, "truth_id": truth_id, "teacher": json.dumps(truth["teacher"])}


def configuration_of(row: Mapping[Any, Any]) -> Configuration:
    """The configuration of a row; one of an earlier version gets the defaults of what came later, one of a plug-in that
    is missing here is as it is."""
    configuration: Configuration = json.loads(row["config"])
    backbone, readout = configuration["backbone"], configuration["readout"]
    of_backbone, of_readout = BACKBONES.installed(backbone["name"]), READOUTS.installed(readout["name"])
    if of_backbone:
        configuration["backbone"] = of_backbone.completed(backbone)
    if of_readout:
        idle = of_backbone.idle if of_backbone else ()
        completed = of_readout.completed(readout).items()
        configuration["readout"] = {key: value for key, value in completed if key in readout or key not in idle}
    return configuration


def is_installed(configuration: Configuration) -> bool:
    """Whether backbone, readout and loss of a row's configuration are known here; nothing is imported for it."""
    registries = {"backbone": BACKBONES, "readout": READOUTS}
    for family, registry in registries.items():
        component = registry.installed(configuration[family]["name"])
        if component is None or not component.is_usable(configuration[family]):
            return False
    return True


def schema_of(table: str, columns: Iterable[str] = (), plugins: Components = MappingProxyType({})) -> pa.Schema:
    """The schema of a table: its own columns, then `columns`; settings that nobody declares are left to the rows."""
    names = list(dict.fromkeys([*COLUMNS[table], *columns]))
    types = {name: column_type(table, name) or setting_type(name.removeprefix("config."), plugins) for name in names}
    return pa.schema([(name, kind) for name, kind in types.items() if kind is not None])


def as_table(table: str, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> pa.Table:
    """Rows as a typed table; columns that a row lacks are null, columns beyond `schema` are added."""
    columns = list(schema.names) if schema else []
    for row in rows:
        columns.extend(name for name in row if name not in columns)
    families = ("backbone", "readout")
    plugins = _plugins_of(
        {each: {row[f"config.{each}"] for row in rows if f"config.{each}" in row} for each in families}
    )
    full = schema_of(table, columns, plugins)
    for name in columns:
        if name not in full.names:  # a setting of a component that is not installed here
            full = full.append(pa.field(name, pa.array([row.get(name) for row in rows]).type))
    return pa.Table.from_pylist([{name: row.get(name) for name in full.names} for row in rows], schema=full)
