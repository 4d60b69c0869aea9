"""How many requests a whole sweep makes, as a real S3 server counts them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3 import S3Server, seaweedfs

import sweeps
from sweeps.storage.run_lock import HEARTBEAT_SECONDS

SIZES = 48, 240


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    """A server that this process, and a Ray of two cores, talk to."""
    import ray

    with seaweedfs(tmp_path / "s3") as held, held.reached():
        ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        yield held
        ray.shutdown()


def requests(server: S3Server, experiment: dict[str, Any], trials: int, cache: Path) -> Counter[str]:
    """Requests of a sweep of so many trials, two cells each; those that follow the clock are left out."""
    readout = {"ridge": {"pool": 3, "alpha": {"low": 0.01, "high": 1000.0, "log": True, "steps": trials}}}
    space = {"backbone": "pixels", "readout": readout}
    before, began = server.requests(), time.monotonic()
    held = {**experiment, "space": space, "scores": ["prediction"]}
    found = sweeps.run(held, storage=f"{server.uri}/{trials}", cache=str(cache))
    beats = int((time.monotonic() - began) / HEARTBEAT_SECONDS)
    assert (found.progress.done, found.progress.executed) == (trials, 2 * trials)
    assert len(found.trials) == trials
    return server.requests() - before - Counter(PUT=beats, LIST=beats)


@pytest.mark.slow
def test_a_trial_takes_far_less_than_a_request(server: S3Server, experiment: dict[str, Any], tmp_path: Path) -> None:
    few, many = (requests(server, experiment, trials, tmp_path / "cache") for trials in SIZES)
    print({trials: dict(found) for trials, found in zip(SIZES, (few, many), strict=True)})
    assert few.keys() == many.keys() == {"PUT", "GET", "LIST", "DELETE"}, "a multipart upload is a POST"
    more = many - few
    # a small recording has outer folds, whose part lies beside every part of cells
    for kind, fixed, each in (("PUT", 60, 0.2), ("GET", 60, 0.2), ("LIST", 30, 0.01), ("DELETE", 2, 0.0)):
        assert few[kind] <= fixed, kind
        assert more[kind] <= each * (SIZES[1] - SIZES[0]), kind
    assert more["GET"] <= more["PUT"], "something is read twice, or its size asked for first"
