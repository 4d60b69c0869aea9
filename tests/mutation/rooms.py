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
    """Shorten names: modules below `code`, tests below `tests`, or below tests/ where they begin with a stroke.

    Behind a file one of its tests may be named, as pytest names it.
    """

    def paths(names: str) -> tuple[str, ...]:
        parts = [part.partition("::") for part in names.split()]
        files = [f"tests{name}.py" if name.startswith("/") else f"{tests}/{name}.py" for name, _, _ in parts]
        return tuple(file + colons + test for file, (_, colons, test) in zip(files, parts, strict=True))

    nearest = {f"{code}/{module}.py": paths(names) for module, names in modules.items()}
    return Room(name, nearest, paths(f"{FROZEN} {wider}"))


FROZEN = "/sweeps/test_frozen_values"
COLUMNS = "test_columns test_storage"
DYING = "/sweeps/planning/test_scheduler::test_only_the_failing_cell_of_a_dying_pack_fails[3]"
SCHEDULED = " ".join(
    f"/sweeps/planning/test_scheduler::{test}"
    for test in (
        "test_the_loss_of_a_node_never_counts",
        "test_failed_is_final_until_it_is_asked_for_again",
        "test_a_score_that_is_added_is_computed",
        "test_where_memory_is_short_no_other_cell_fails[4-1-False]",
    )
)
"""A part of the scheduler's tests: all of them take minutes."""

REMOTE = "/faults/test_object_store::test_locks_and_compaction_on_a_server_with_conditional_puts"
RETRIES = " ".join(
    f"/faults/test_object_store::{test}"
    for test in ("test_what_is_retried", "test_what_an_error_means_is_said_without_credentials", "test_retries_end")
)

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
            "hashing": "test_digests test_cell_identity test_identity::test_ids_are_hashes_of_canonical_text",
            "experiment/cells": "test_cell_identity /sweeps/planning/test_packs",
            "experiment/worker_context": "/sweeps/planning/test_plan",
        },
        f"test_cell_identity test_space test_identity /sweeps/planning/test_plan /sweeps/recordings/test_shared_groups"
        f" {SCHEDULED}",
    ),
    _room(
        "storage",
        "sweeps/storage",
        "tests/sweeps/storage",
        {
            "columns": f"{COLUMNS} /sweeps/report/test_missing_plugins",
            "compaction": "test_compacted_keys /faults/test_compaction test_tombstones",
            "current_rows": "test_current_rows test_edited_sweep::test_an_edit_that_adds_leaves_nothing_out",
            "load": "test_places test_storage test_tombstones",
            "objects": f"test_durable_objects test_places test_storage {REMOTE}",
            "parquet": "test_storage test_tombstones test_row_log",
            "provenance": "test_provenance test_columns",
            "retry": f"test_when_to_retry {RETRIES}",
            "row_log": "test_parts_read_once test_row_log test_tombstones",
            "run_lock": "test_company /faults/test_run_lock",
            "schema": f"{COLUMNS} test_tombstones",
            "store": "test_storage test_compacted_keys test_tombstones test_row_log",
        },
        "test_columns test_storage test_row_log test_tombstones test_current_rows /faults/test_compaction"
        " /faults/test_object_store",
    ),
    _room(
        "scheduler",
        "sweeps/planning",
        "tests/sweeps/planning",
        {
            "scheduler": f"test_cells_counted_once {DYING}",
            "packs": "test_halved_packs test_slim_row test_packs test_cells_counted_once",
            "finished_rows": "test_finished_rows test_slim_row",
            "failures": "test_words_of_failures",
        },
        f"test_cells_counted_once test_finished_rows test_packs {DYING} {SCHEDULED}",
    ),
    _room(
        "joins",
        "sweeps/planning",
        "tests/sweeps/planning",
        {
            "trial_rows": "test_closed_trials test_cells_counted_once",
            "trial_scores": "test_joined_scores test_area_orders test_slim_row /sweeps/scores/test_scores",
        },
        f"test_cells_counted_once test_slim_row test_area_orders {SCHEDULED}",
    ),
    _room(
        "scores",
        "sweeps/scores",
        "tests/sweeps/scores",
        {
            "fold_statistics": "test_beyond_mean /sweeps/report/test_nested_choice",
            "matched": "test_noise_alignment test_golden_draws",
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
            "disk_cache": "test_cache_room test_disk_cache",
            "files": "test_whole_files test_disk_cache /sweeps/storage/test_durable_objects",
            "labels": "test_labels",
        },
        "test_disk_cache /sweeps/experiment/test_bad_input /sweeps/recordings/test_folder",
    ),
)
