"""Columns of the tables, every one typed and the same on every worker; a row is made here, whoever makes it."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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

SCHEMA_VERSION = 1

TIME = pa.timestamp("us", tz="UTC")
TEXT = pa.string()
TEXTS = pa.dictionary(pa.int32(), pa.string())
"""Texts of which many are equal, in little memory."""

SHARED = {
    "status": pa.string(),
    "error": pa.string(),
    "config": pa.string(),
    "score_keys": pa.string(),
    "seconds": pa.float64(),
    "attempt": pa.int64(),
    "data_fingerprint": pa.string(),
    "split": pa.string(),
    "halving": pa.string(),
    "components": pa.string(),
    "device": pa.string(),
    "host": pa.string(),
    "peak_memory_mb": pa.float64(),
    "versions": pa.string(),
    "commit": pa.string(),
    "schema_version": pa.int64(),
    "finished": TIME,
}
PICTURE_KINDS = ("guided", "unguided", "natural")
GUIDANCE_SCORES = (
    "activity_guided",
    "activity_unguided",
    "activity_kept",
    "activity_best_natural",
    "gain_over_best",
    "gain_over_unguided",
    "transfer_gain",
    "transfer_gain_over_best",
    "off_target_ratio",
    *(f"{name}_{kind}" for name in ("diversity", "rms_contrast", "spectrum_slope") for kind in PICTURE_KINDS),
)
GUIDANCE_SHARED = ("config", "attempt", "device", "host", "peak_memory_mb", "versions", "commit", "schema_version")
COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "trials": {"trial_id": pa.string(), **SHARED},
    "cells": {
        "cell_id": pa.string(),
        "recording": pa.string(),
        "area": pa.string(),
        "depth": pa.int64(),
        "blocks": pa.string(),
        "units": pa.int64(),
        "stimuli": pa.int64(),
        "groups": pa.int64(),
        "outer_folds": pa.int64(),
        "alpha": pa.float64(),
        **SHARED,
    },
    "bootstraps": {
        "cell_id": pa.string(),
        "replicates": pa.list_(pa.float32()),
        "attempt": pa.int64(),
        "finished": TIME,
    },
    "truths": {
        "truth_id": pa.string(),
        "recording": pa.string(),
        "area": pa.string(),
        "planted": pa.int64(),
        "alike": pa.list_(pa.int64()),
        "correlations": pa.list_(pa.float64()),
        "teacher": pa.string(),
    },
    "guidance": {
        "guidance_id": pa.string(),
        "gallery": pa.string(),
        "folder": pa.string(),
        "recording": pa.string(),
        "area": pa.string(),
        "against": pa.string(),
        "weight": pa.float64(),
        "method": pa.string(),
        "role": pa.string(),
        "trial_id": pa.string(),
        "cell_id": pa.string(),
        "backbone": pa.string(),
        "depth": pa.int64(),
        "readout": pa.string(),
        "prediction": pa.float64(),
        **dict.fromkeys(("seeds", "kept", "natural", "judges"), pa.int64()),
        **dict.fromkeys(GUIDANCE_SCORES, pa.float64()),
        "settings": pa.string(),
        **{name: SHARED[name] for name in GUIDANCE_SHARED},
        "finished": TIME,
    },
}
KEYS = {
    "trials": "trial_id",
    "cells": "cell_id",
    "bootstraps": "cell_id",
    "truths": "truth_id",
    "guidance": "guidance_id",
}

_TYPES = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "str": pa.string()}


def column_type(table: str, name: str) -> pa.DataType:
    """The type of a column by its name alone; KeyError for a name that no table has."""
    if name in COLUMNS[table]:
        return COLUMNS[table][name]
    head, _, tail = name.partition(".")
    if head in ("select", "score"):
        return pa.float64()
    if head == "cell":
        return pa.string()
    if head == "config":
        return _config_type(tail)
    raise KeyError(f"no table has a column {name!r}")


def column_notes(name: str) -> dict[str, str]:
    """Metadata of a column: what a score is, whether more is better, and why it may be NaN."""
    split, _, column = name.partition(".")
    for score in SCORES.values() if split in ("select", "score") else ():
        if column in (*score.columns, *score.trial_columns):
            direction = "more is better" if score.up and column == score.columns[0] else "descriptive"
            return {"score": score.summary, "direction": direction, "NaN where": score.absent}
    return {}


@functools.cache
def _config_type(name: str) -> pa.DataType:
    family, _, key = name.partition(".")
    if name == "seed" or family == "depth":
        return pa.int64()
    if not key or family == "blocks":
        return pa.string()
    components = {"backbone": BACKBONES, "readout": READOUTS}[family]
    kinds = {entry.parameters[key].column for entry in components.values() if key in entry.parameters}
    return _TYPES[kinds.pop()] if len(kinds) == 1 else pa.string()


def cell_configuration(configuration: Configuration) -> dict[str, Any]:
    """Flat `config.*` columns and the canonical JSON of a configuration.

    `config.depth.AREA` is the deepest block that is read, `config.blocks.AREA` all of them, such as "3+5+7".
    """
    columns: dict[str, Any] = {"config": canonical(configuration)}
    for family in ("backbone", "readout"):
        resolved = configuration[family]
        columns[f"config.{family}"] = resolved["name"]
        for key, value in resolved.items():
            if key != "name":
                text = pa.types.is_string(_config_type(f"{family}.{key}"))
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


def bootstrap_row(cell: Mapping[str, Any], replicates: np.ndarray) -> dict[str, Any]:
    """Make a row of `bootstraps` beside a row of `cells`."""
    return {**{name: cell[name] for name in ("cell_id", "attempt", "finished")}, "replicates": replicates}


def truth_row(truth_id: str, truth: Mapping[str, Any]) -> dict[str, Any]:
    """Make a row of `truths` from the fields of a `Truth`."""
    lists = {name: list(truth[name]) for name in ("alike", "correlations")}
    return {**truth, **lists, "truth_id": truth_id, "teacher": json.dumps(truth["teacher"])}


def configuration_of(row: Mapping[Any, Any]) -> Configuration:
    """The configuration of a row; one that an earlier version wrote gets the defaults of what came later."""
    configuration: Configuration = json.loads(row["config"])
    backbone, readout = configuration["backbone"], configuration["readout"]
    idle = BACKBONES[backbone["name"]].idle
    completed = READOUTS[readout["name"]].completed(readout)
    configuration["backbone"] = BACKBONES[backbone["name"]].completed(backbone)
    configuration["readout"] = {key: value for key, value in completed.items() if key in readout or key not in idle}
    return configuration


def schema_of(table: str, columns: Iterable[str] = ()) -> pa.Schema:
    """The schema of a table: its known columns, then `columns` (those known already are not repeated)."""
    names = list(dict.fromkeys([*COLUMNS[table], *columns]))
    return pa.schema([(name, column_type(table, name)) for name in names])


def as_table(table: str, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> pa.Table:
    """Rows as a typed table; columns that a row lacks are null, columns beyond `schema` are added."""
    columns = list(schema.names) if schema else []
    for row in rows:
        columns.extend(name for name in row if name not in columns)
    full = schema_of(table, columns)
    return pa.Table.from_pylist([{name: row.get(name) for name in full.names} for row in rows], schema=full)


def unify(table: str, parts: list[pa.Table], schema: pa.Schema | None = None, texts: pa.DataType = TEXT) -> pa.Table:
    """Parts as one table with every column of any of them; texts besides the key are of type `texts`."""
    columns = list(schema.names) if schema else []
    for part in parts:
        columns.extend(name for name in part.column_names if name not in columns)
    typed = [(field.name, field.type) for field in schema_of(table, columns)]
    full = pa.schema([(name, texts if kind == TEXT and name != KEYS[table] else kind) for name, kind in typed])
    aligned = [_align(part, full) for part in parts]
    return pa.concat_tables(aligned) if aligned else full.empty_table()


def _align(part: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        part[field.name].cast(field.type) if field.name in part.column_names else pa.nulls(len(part), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
