"""Types of the tables' columns, by name or by the files that hold them: what reading needs, without declarations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

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
    "plugins": pa.string(),
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
        "chance": pa.list_(pa.float32()),
        "attempt": pa.int64(),
        "finished": TIME,
    },
    "folds": {
        "cell_id": pa.string(),
        "folds": pa.int64(),
        "select": pa.list_(pa.float64()),
        "sums": pa.list_(pa.float64()),
        "attempt": pa.int64(),
        "finished": TIME,
    },
    "confirmations": {
        "confirmation_id": pa.string(),
        "opened": pa.int64(),
        "trial_id": pa.string(),
        "cell_id": pa.string(),
        "recording": pa.string(),
        "area": pa.string(),
        "prediction": pa.float64(),
        "prediction_low": pa.float64(),
        "prediction_high": pa.float64(),
        "prediction_ceiled": pa.float64(),
        "brain_ceiling": pa.float64(),
        "stimuli": pa.int64(),
        "groups": pa.int64(),
        "user": pa.string(),
        **{name: SHARED[name] for name in ("config", "data_fingerprint", "split", "device", "host")},
        **{name: SHARED[name] for name in ("peak_memory_mb", "versions", "commit", "schema_version")},
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
FORGOTTEN = "forgotten"
"""The table of tombstones: which rows of other tables were removed for good."""

COLUMNS[FORGOTTEN] = {
    "forgotten_id": pa.string(),
    "table": pa.string(),
    "row_id": pa.string(),
    "attempt": pa.int64(),
    "finished": TIME,
}
KEYS = {
    "trials": "trial_id",
    "cells": "cell_id",
    "bootstraps": "cell_id",
    "folds": "cell_id",
    "confirmations": "confirmation_id",
    "truths": "truth_id",
    "guidance": "guidance_id",
    FORGOTTEN: "forgotten_id",
}


def column_type(table: str, name: str) -> pa.DataType | None:
    """The type of a column by its name; None for a setting, whose type its component declares; KeyError for none."""
    if name in COLUMNS[table]:
        return COLUMNS[table][name]
    head, _, tail = name.partition(".")
    if head in ("select", "score"):
        return pa.float64()
    if head == "cell":
        return pa.string()
    if head != "config":
        raise KeyError(f"no table has a column {name!r}")
    family, _, key = tail.partition(".")
    if tail == "seed" or family == "depth":
        return pa.int64()
    return pa.string() if not key or family == "blocks" else None


def unified_schema(table: str, schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Every column of any of these schemas, the table's own first.

    Of a setting the type is that of all schemas that have it; where they differ, a double for numbers, else text.
    """
    names = list(dict.fromkeys([*COLUMNS[table], *(name for schema in schemas for name in schema.names)]))
    return pa.schema([(name, column_type(table, name) or _setting_type(name, schemas)) for name in names])


def _setting_type(name: str, schemas: Iterable[pa.Schema]) -> pa.DataType:
    kinds = {_plain(schema.field(name).type) for schema in schemas if name in schema.names}
    kinds = {kind for kind in kinds if not pa.types.is_null(kind)}
    if len(kinds) == 1:
        return kinds.pop()
    numbers = kinds and all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)
    return pa.float64() if numbers else TEXT


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def unify(table: str, parts: list[pa.Table], schema: pa.Schema | None = None, texts: pa.DataType = TEXT) -> pa.Table:
    """Parts as one table with every column of any of them and of `schema`; texts but the key are of type `texts`."""
    full = unified_schema(table, [*([schema] if schema else []), *(part.schema for part in parts)])
    typed = [(field.name, texts if field.type == TEXT and field.name != KEYS[table] else field.type) for field in full]
    aligned = [_align(part, pa.schema(typed)) for part in parts]
    return pa.concat_tables(aligned) if aligned else pa.schema(typed).empty_table()


def _align(part: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        _cast(part[field.name], field.type) if field.name in part.column_names else pa.nulls(len(part), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column as another type; numbers become the texts that Python writes for them, as rows have them."""
    own, wanted = _plain(column.type), _plain(kind)
    if wanted == TEXT and own not in (TEXT, pa.null()) and not pa.types.is_temporal(own):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, TEXT)]).cast(kind)
    return column.cast(kind)
