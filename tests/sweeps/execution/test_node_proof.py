"""What a node proves, each in this process: the storage, the cache, the data, the code, the versions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from inline import plan_of
from ray._private.dict import flatten_dict
from s3 import S3Server, seaweedfs

from sweeps.commands.run import scheduler_of
from sweeps.errors import InputError
from sweeps.execution import tune
from sweeps.execution.nodes import cluster_nodes, node_proof
from sweeps.execution.nodes.cluster_nodes import ClusterNodes
from sweeps.execution.nodes.node_proof import (
    check_cache,
    check_data,
    check_store,
    check_versions,
    finding_of,
    own_versions,
    prove,
    within,
)
from sweeps.execution.tune import PackSearcher, SweepPack
from sweeps.experiment.worker_context import WorkerContext
from sweeps.planning.plan import Plan
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

PROOF = ".proof/of-this-test"


@pytest.fixture
def plan(experiment: dict[str, Any], tmp_path: Path) -> Plan:
    """A plan whose storage and cache are folders."""
    return plan_of(experiment, tmp_path)


@pytest.fixture
def context(plan: Plan) -> WorkerContext:
    """What a node is told; the driver has written its proof."""
    context = replace(plan.context(), proof=PROOF)
    Store(context.storage).put(PROOF, PROOF.encode())
    return context


def problem(context: WorkerContext) -> str:
    """What keeps a node from running packs."""
    return prove(context.as_config(), own_versions(), False)[0]


def test_a_sound_node_proves_everything_and_leaves_nothing_behind(context: WorkerContext) -> None:
    files = sorted(Path(context.storage).rglob("*"))
    assert prove(context.as_config(), own_versions(), False) == ("", [])
    assert sorted(Path(context.storage).rglob("*")) == files
    assert list(Path(context.cache).iterdir()) == []


def test_other_code_is_a_problem(context: WorkerContext) -> None:
    assert "this worker runs other code" in problem(replace(context, digest="of others"))


def test_a_folder_that_the_node_does_not_share_is_a_problem_and_is_not_made(
    context: WorkerContext, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    line = problem(replace(context, storage=str(elsewhere)))
    assert line.startswith(f"storage = '{elsewhere}': what the driver has written is not there: ")
    assert "s3://" in line
    assert not elsewhere.exists()


def test_the_proof_of_another_run_is_none(context: WorkerContext) -> None:
    Store(context.storage).put(PROOF, b"of another run")
    assert "what the driver has written is not there" in problem(context)


def test_a_folder_that_cannot_be_written_is_a_problem(context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: Store, name: str, content: bytes) -> None:
        raise PermissionError(13, "Permission denied")  # root, whom tests may run as, may write everywhere

    monkeypatch.setattr(Store, "put", refuse)
    with pytest.raises(InputError, match=r"cannot be written: Permission denied: let the user that Ray runs as"):
        check_store(context, 5.0)


def test_a_store_that_loses_what_is_written_is_a_problem(
    context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "put", lambda store, name, content: Path(store.root, name).unlink())
    assert "what was written is not read back" in problem(context)


def test_a_cache_that_cannot_be_written_is_a_problem_and_a_full_disk_is_a_note(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    line = problem(replace(context, cache=str(tmp_path / "file" / "cache")))
    assert line.startswith(f"cache = '{tmp_path / 'file' / 'cache'}': cannot be written: Not a directory: ")
    assert "--cache" in line
    if Path("/dev/full").exists():
        full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - closed by what is tested
        monkeypatch.setattr(node_proof.tempfile, "TemporaryFile", lambda dir: full)
        [note] = check_cache(context)
        assert "is full" in note


def test_other_data_are_a_problem(context: WorkerContext, recording: Path) -> None:
    assert check_data(context) == []
    units = recording / "units.csv"
    units.write_text(units.read_text().replace("V4", "IT"))
    line = problem(context)
    assert line.startswith("recordings = 'small': this node sees other contents")
    assert "put the data where every node sees the same" in line
    (recording / "stimuli.csv").unlink()
    assert "put the data where every node sees the same" in problem(context)


def test_data_that_take_long_are_noted_and_the_node_is_taken(
    context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_proof, "DATA_SECONDS", 0.01)
    monkeypatch.setattr(node_proof, "_compare_data", lambda context: time.sleep(0.5))
    found, notes = prove(context.as_config(), own_versions(), False)
    assert found == ""
    assert notes == ["was still reading its recordings after 0.01 s: packs check them"]


def test_another_python_or_ray_is_a_problem_and_another_torch_a_note() -> None:
    own = own_versions()
    assert check_versions(own) == []
    assert check_versions(own | {"torch": "1.0"}) == [f"has torch {own['torch']}, the driver 1.0"]
    major, minor, _ = own["python"].split(".", 2)
    assert check_versions(own | {"python": f"{major}.{minor}.99"}) == []
    for other in ({"python": "3.9.1"}, {"ray": "2.49.0"}):
        with pytest.raises(InputError, match="install the same on every node"):
            check_versions(own | other)


def test_whatever_a_broken_node_raises_is_its_problem(context: WorkerContext) -> None:
    def broken() -> list[str]:
        raise ValueError("two\nlines")

    assert finding_of([lambda: ["a note"], broken, lambda: ["not reached"]]) == ("ValueError: two lines", ["a note"])


def test_an_action_that_hangs_is_not_waited_for() -> None:
    began = time.monotonic()
    assert not within(0.05, lambda: time.sleep(1.0))
    assert time.monotonic() - began < 0.9
    assert within(30.0, lambda: None)
    with pytest.raises(ZeroDivisionError):
        within(30.0, lambda: 1 / 0)  # type: ignore[arg-type, return-value]


def test_a_gpu_that_torch_does_not_see_is_a_problem() -> None:
    import torch

    if torch.cuda.is_available():
        assert finding_of([node_proof.check_gpu]) == ("", [])
    else:
        assert "torch finds no GPU" in prove(_anything().as_config(), {}, True)[0]


def _anything() -> WorkerContext:
    return WorkerContext({"name": "any"}, "", "", "", {}, {}, {}, "")


# -- an object store ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server of this module."""
    with seaweedfs(tmp_path_factory.mktemp("s3")) as running:
        yield running


def remote(context: WorkerContext, server: S3Server) -> WorkerContext:
    """The same with its storage on a server."""
    with server.reached():
        Store(f"{server.uri}/rows").put(PROOF, PROOF.encode())
    return replace(context, storage=f"{server.uri}/rows")


def test_a_bucket_is_written_and_read_back(context: WorkerContext, server: S3Server) -> None:
    there = remote(context, server)
    before = server.requests()
    with server.reached():
        assert problem(there) == ""
    after = server.requests()
    assert after["PUT"] - before["PUT"] == 1
    assert after["GET"] - before["GET"] == 2


def test_a_node_with_other_keys_names_the_place_and_the_remedy(
    context: WorkerContext, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = remote(context, server)
    with server.reached():
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
        line = problem(there)
    assert line.startswith(f"storage = '{server.uri}/rows': cannot be read: access denied")
    assert "a role, ~/.aws/credentials on each node" in line
    assert "not-the-secret" not in line


def test_a_node_that_does_not_reach_the_store_says_so(
    context: WorkerContext, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = remote(context, server)
    with server.reached():
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setattr(node_proof, "STORE_SECONDS", 1.0)
        line = problem(there)
    assert line.startswith(f"storage = '{server.uri}/rows': ")
    assert "AWS_ENDPOINT_URL" in line


# -- who gets packs -------------------------------------------------------------------------------------

NODES = [
    {"NodeID": id, "Alive": True, "NodeManagerAddress": address, "Resources": {"CPU": 1.0}}
    for id, address in (("aaaaaaaaaa", "10.0.0.1"), ("bbbbbbbbbb", "10.0.0.2"), ("cccccccccc", "10.0.0.2"))
]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> tuple[ClusterNodes, list[str]]:
    """Three nodes, two of them at one address, and what is said of them."""
    lines: list[str] = []
    monkeypatch.setattr(cluster_nodes.ray, "nodes", lambda: NODES)
    return ClusterNodes({"CPU": 1.0}, PROOF, say=lines.append), lines


def test_a_left_out_node_is_named_once_and_gets_no_pack(nodes: tuple[ClusterNodes, list[str]]) -> None:
    cluster, lines = nodes
    assert cluster.selector() is None
    assert cluster.leave_out({"bbbbbbbbbb": "denied"}) is None
    assert cluster.leave_out({"bbbbbbbbbb": "denied"}) is None
    assert lines == ["left out: node 10.0.0.2 (bbbbbbbb): denied"]
    assert cluster.selector() == {"ray.io/node-id": "!in(bbbbbbbbbb)"}
    request = SweepPack.default_resource_request({"resources": {"CPU": 1.0}, "selector": cluster.selector()})
    assert request._bound.kwargs == {"bundle_label_selector": [{"ray.io/node-id": "!in(bbbbbbbbbb)"}]}
    assert SweepPack.default_resource_request({"resources": {"CPU": 1.0}, "selector": None})._bound.kwargs == {}


def test_nodes_of_one_problem_are_one_line_and_without_any_node_the_run_ends(
    nodes: tuple[ClusterNodes, list[str]],
) -> None:
    cluster, lines = nodes
    error = cluster.leave_out({node["NodeID"]: "x" * 9999 for node in NODES})
    assert len(lines) == 1
    assert lines[0].startswith("left out: nodes 10.0.0.1, 10.0.0.2 (bbbbbbbb), 10.0.0.2 (cccccccc): xxx")
    assert len(lines[0]) < 1000
    assert str(error).startswith("cluster: no node is ready: nodes 10.0.0.1, ")


def test_every_node_may_be_required(nodes: tuple[ClusterNodes, list[str]]) -> None:
    cluster, lines = nodes
    cluster.require_all = True
    error = cluster.leave_out({"aaaaaaaaaa": "denied"})
    assert str(error) == "cluster: node 10.0.0.1: denied: every node has to be ready (--require-all-nodes)"
    assert lines == []


def test_a_pack_of_a_new_node_that_is_unfit_is_not_blamed(
    nodes: tuple[ClusterNodes, list[str]], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, _ = nodes
    scheduler = scheduler_of(plan, RowLog(Store(plan.storage), plan.columns()), False)
    scheduler.pack_size = lambda cells: 100
    searcher = PackSearcher(scheduler, plan.context(), cluster, 1)
    first = searcher.suggest("first")
    searcher.on_trial_complete("first", unfit("aaaaaaaaaa", monkeypatch))
    second = searcher.suggest("second")
    assert second["pack"] == first["pack"]
    assert (first["selector"], second["selector"]) == (None, {"ray.io/node-id": "!in(aaaaaaaaaa)"})
    assert (scheduler.progress.failed, searcher.problem) == (0, None)
    searcher.on_trial_complete("second", unfit("bbbbbbbbbb", monkeypatch))
    searcher.suggest("third")
    searcher.on_trial_complete("third", unfit("cccccccccc", monkeypatch))
    assert str(searcher.problem).startswith("cluster: no node is ready: ")
    assert searcher.suggest("fourth") == "FINISHED"


def unfit(node: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Tune gives the searcher of a step on an unfit node."""
    pack = object.__new__(SweepPack)
    pack._bad_node = "denied"
    monkeypatch.setattr(tune.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: node))
    return dict(flatten_dict(pack.step()))
