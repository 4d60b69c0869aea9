"""Which modules are mutated, the tests that are nearest to each, and the wider ones of its room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Room:
    """Modules with their nearest tests, and the tests that run where those kill nothing."""

    name: str
    modules: Mapping[str, tuple[str, ...]]
    wider: tuple[str, ...]


def _room(name: str, code: str, tests: str, modules: Mapping[str, str], wider: str) -> Room:
    """Shorten names: modules below `code`, tests below `tests`, or below tests/ where they begin with a stroke."""

    def paths(names: str) -> tuple[str, ...]:
        return tuple(f"tests{part}.py" if part.startswith("/") else f"{tests}/{part}.py" for part in names.split())

    return Room(name, {f"{code}/{module}.py": paths(nearest) for module, nearest in modules.items()}, paths(wider))


COLUMNS = "test_columns test_storage"
CELLS = "test_cell_identity test_identity /sweeps/planning/test_packs"

ROOMS = (
    _room(
        "splits",
        "sweeps/recordings",
        "tests/sweeps/recordings",
        {
            "splits": "test_golden_splits test_splits test_held_out test_split_rows",
            "split_rows": "test_golden_splits test_split_rows test_published_sets",
            "shared_splits": "test_golden_splits test_shared_groups",
        },
        "test_splits test_held_out test_split_rows test_shared_groups /sweeps/fitting/test_folded"
        " /sweeps/fitting/test_leakage /sweeps/commands/test_confirm",
    ),
    _room(
        "identity",
        "sweeps",
        "tests/sweeps/experiment",
        {
            "recordings/identity": "/sweeps/recordings/test_refined_identity",
            "hashing": "test_digests test_identity /sweeps/io/test_import_guard",
            "experiment/cells": CELLS,
            "experiment/worker_context": "/sweeps/planning/test_plan",
        },
        "test_cell_identity test_space /sweeps/planning/test_plan /sweeps/planning/test_scheduler"
        " /sweeps/recordings/test_equal_content",
    ),
    _room(
        "storage",
        "sweeps/storage",
        "tests/sweeps/storage",
        {
            "columns": f"{COLUMNS} /sweeps/report/test_missing_plugins",
            "compaction": "test_compacted_keys /faults/test_compaction test_tombstones",
            "current_rows": "test_current_rows test_edited_sweep",
            "load": "test_storage test_tombstones",
            "objects": "test_durable_objects test_storage /faults/test_object_store",
            "parquet": "test_storage test_tombstones test_row_log",
            "provenance": "test_provenance test_columns",
            "retry": "/faults/test_object_store",
            "row_log": "test_parts_read_once test_row_log test_tombstones",
            "run_lock": "/faults/test_run_lock",
            "schema": f"{COLUMNS} test_tombstones",
            "store": "test_storage test_compacted_keys test_tombstones test_row_log",
        },
        "test_columns test_storage test_row_log test_tombstones test_current_rows /faults/test_compaction"
        " /faults/test_damage /faults/test_object_store /sweeps/planning/test_scheduler /sweeps/commands/test_forget",
    ),
    _room(
        "scheduler",
        "sweeps/planning",
        "tests/sweeps/planning",
        {
            "scheduler": "test_cells_counted_once test_scheduler",
            "packs": "test_packs test_cells_counted_once",
            "finished_rows": "test_finished_rows test_slim_row",
            "failures": "test_words_of_failures",
        },
        "test_cells_counted_once test_finished_rows test_packs test_scheduler /sweeps/search/test_search"
        " /sweeps/execution/test_report_times",
    ),
    _room(
        "joins",
        "sweeps/planning",
        "tests/sweeps/planning",
        {
            "trial_rows": "test_closed_trials test_cells_counted_once",
            "trial_scores": "test_joined_scores test_area_orders test_slim_row /sweeps/scores/test_scores",
        },
        "test_cells_counted_once test_slim_row test_area_orders test_scheduler",
    ),
    _room(
        "scores",
        "sweeps/scores",
        "tests/sweeps/scores",
        {
            "fold_statistics": "test_beyond_mean /sweeps/report/test_nested_choice",
            "matched": "test_noise_alignment test_golden_draws test_honest_scores",
            "view": "test_beyond_mean test_golden_draws test_scores",
        },
        "test_beyond_mean test_scores test_honest_scores test_rsa_score test_interval /sweeps/fitting/test_folded"
        " /sweeps/report/test_nested_choice",
    ),
    _room(
        "guards",
        "sweeps/io",
        "tests/sweeps/io",
        {
            "import_guard": "test_import_guard",
            "untrusted": "test_damaged_arrays",
            "safe_yaml": "test_yaml_limits",
            "disk_cache": "test_disk_cache",
            "files": "test_whole_files test_disk_cache /sweeps/storage/test_durable_objects",
            "labels": "test_labels",
        },
        "test_disk_cache /faults/test_damage /sweeps/experiment/test_bad_input /sweeps/recordings/test_folder",
    ),
)
