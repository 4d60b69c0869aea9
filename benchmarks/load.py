"""`sweeps.load` of a million trials beside plain `pandas.read_parquet` of the same object.

    python benchmarks/load.py [ROWS] [--repeats N]

Rows as a sweep of the quickstart leaves them: every documented column of `trials` under its own name and type, depth
maps of four areas over 16 blocks, distinct ids and times, scores that are all different, folded into one
object on a local disk. Both sides read it in turn; the best of N times each, and processor seconds of all threads.
The first line says when and where.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from machine import describe_machine

from sweeps.experiment.cells import components_of
from sweeps.hashing import canonical
from sweeps.planning.plan import Plan, make_plan
from sweeps.storage.columns import cell_configuration, schema_of
from sweeps.storage.load import load
from sweeps.storage.provenance import commit, versions
from sweeps.storage.store import Store

AREAS, BLOCKS = ("V1", "V2", "V4", "IT"), 16


def write_trials(plan: Plan, rows: int) -> None:
    """The folded object of `trials`, made column by column."""
    random = np.random.default_rng(0)
    maps = random.integers(0, BLOCKS, (rows, len(AREAS)))
    schema = schema_of("trials", plan.columns()["trials"])
    columns = {field.name: pa.nulls(rows, field.type) for field in schema}
    ids = [f"{value:020x}" for value in range(rows)]
    configuration = next(iter(plan.space.grid()))
    columns |= {
        name: pa.repeat(pa.scalar(value, schema.field(name).type), rows)
        for name, value in {
            **cell_configuration(configuration),
            "status": "done",
            "score_keys": " ".join(sorted(plan.score_keys[name] for name in plan.experiment.scores)),
            "attempt": 0,
            "data_fingerprint": plan.facts[0].fingerprint,
            "split": canonical(plan.experiment.split.model_dump()),
            "components": components_of(configuration["backbone"], configuration["readout"]),
            "device": "cpu",
            "host": "a-node-of-a-cluster",
            "versions": versions(),
            "commit": commit(),
            "schema_version": 1,
        }.items()
    }
    texts = [canonical({**configuration, "depth": dict(zip(AREAS, row, strict=True))}) for row in maps.tolist()]
    columns |= {"trial_id": pa.array(ids), "config": pa.array(texts)}
    for place, area in enumerate(AREAS):
        depth = pa.array(maps[:, place])
        columns |= {f"config.depth.{area}": depth, f"config.blocks.{area}": depth.cast(pa.string())}
        cells = np.array([f"{place:02x}{block:018x}" for block in range(BLOCKS)])
        columns[f"cell.{plan.facts[0].name}.{area}"] = pa.array(cells[maps[:, place]])
    numbers = [name for name in schema.names if name.partition(".")[0] in ("select", "score")]
    columns |= {name: pa.array(random.random(rows)) for name in (*numbers, "seconds", "peak_memory_mb")}
    began = datetime(2026, 1, 1, tzinfo=UTC)
    times = [began + timedelta(milliseconds=index) for index in range(rows)]
    columns["finished"] = pa.array(times, schema.field("finished").type)
    Store(plan.storage).write_fold("trials", pa.table(columns, schema=schema), ["made.parquet"])


def timed(action: Callable[[], pd.DataFrame]) -> tuple[float, float, pd.DataFrame]:
    """Seconds, processor seconds and what came of it."""
    wall, used = time.perf_counter(), time.process_time()
    found = action()
    return time.perf_counter() - wall, time.process_time() - used, found


def main() -> None:
    """Write, read both ways, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as held:
        write_trials(make_plan("quickstart", None, held), given.rows)
        path = f"{held}/trials/trials.parquet"
        sides: dict[str, Callable[[], pd.DataFrame]] = {
            "sweeps.load": lambda: load(held),
            "pandas.read_parquet": lambda: pd.read_parquet(path),
        }
        best: dict[str, Any] = {}
        for _ in range(given.repeats):
            found = {name: timed(action) for name, action in sides.items()}
            pd.testing.assert_frame_equal(*(frame for _, _, frame in found.values()), check_like=True)
            for name, (wall, used, _) in found.items():
                best[name] = min(best.get(name, (wall, used)), (wall, used))
        columns = found["sweeps.load"][2].shape[1]
        print(f"{given.rows:,} rows, {columns} columns, {Path(path).stat().st_size / 1e6:.0f} MB")
    print("reader | seconds | processor seconds")
    for name, (wall, used) in best.items():
        print(f"{name} | {wall:.2f} | {used:.2f}")
    print(f"ratio {best['sweeps.load'][0] / best['pandas.read_parquet'][0]:.2f}")


if __name__ == "__main__":
    main()
