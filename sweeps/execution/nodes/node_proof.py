"""What a process proves of its node before the node gets packs.

Imports nothing of `models` or `metrics` at the top: a node's worker imports this module before it knows whether those
names are ours (see sweeps.io.import_guard).
"""

from __future__ import annotations

import errno
import importlib.metadata
import platform
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from sweeps.errors import InputError
from sweeps.execution.remote_tasks import claim_code
from sweeps.execution.store_environment import credentials_advice
from sweeps.experiment.worker_context import WorkerContext

STORE_SECONDS, DATA_SECONDS = 15.0, 25.0
"""How long a node waits for its store, and reads its data; data that take longer are checked by the packs."""

COMPARED = ("torch", "numpy", "pyarrow", "cortex-sweeps")
"""Packages whose versions may differ between nodes; rows tell which they were made with."""

Finding = tuple[str, list[str]]
"""What keeps a node from running packs, or nothing, and what is worth a line."""


def prove(config: str, versions: Mapping[str, str], gpu: bool) -> Finding:
    """In a process of a node: prove everything but a GPU, or with `gpu` that alone."""
    context = WorkerContext.from_config(config)
    return finding_of([check_gpu]) if gpu else finding_of(checks_of(context, versions, STORE_SECONDS))


def late_problem(context: WorkerContext, gpu: bool) -> str:
    """In a process that is to run packs: the problem of a node that has come after the proofs; empty for others.

    A store that is away is waited for, as it is within packs.
    """
    if not context.proof or ray.get_runtime_context().get_node_id() in context.proven:
        return ""
    checks = checks_of(context, None, None)
    problem, notes = finding_of([*checks, check_gpu] if gpu else checks)
    for note in notes:
        print(note, flush=True)  # in the worker's log
    return problem


Check = Callable[[], list[str]]
"""One thing that a node proves: raises InputError, or gives what is worth a line."""


def finding_of(checks: Sequence[Check]) -> Finding:
    """Run checks until one of them finds a problem."""
    notes: list[str] = []
    try:
        for check in checks:
            notes += check()
    except InputError as error:
        return str(error), notes
    except Exception as error:  # whatever a broken installation, driver or disk raises keeps a node from packs
        return " ".join(f"{type(error).__name__}: {error}".split()), notes
    return "", notes


def checks_of(context: WorkerContext, versions: Mapping[str, str] | None, seconds: float | None) -> list[Check]:
    """List what a node proves beside a GPU, the quickest first; versions are those of the driver."""
    return [
        lambda: check_code(context),
        lambda: check_versions(versions or {}),
        lambda: check_store(context, seconds),
        lambda: check_cache(context),
        lambda: check_data(context),
    ]


def check_code(context: WorkerContext) -> list[str]:
    """Prove that the code is the driver's. Raises Refusal."""
    claim_code(context)
    return []


def own_versions() -> dict[str, str]:
    """Give the versions that nodes have in common, or should."""
    return {"python": platform.python_version(), "ray": ray.__version__} | {name: _version(name) for name in COMPARED}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def check_versions(driver: Mapping[str, str]) -> list[str]:
    """Prove that Python (but for its last number) and Ray are the driver's; other packages that differ are noted."""
    own = own_versions()
    for name, kept in (("python", 2), ("ray", 3)):
        if name in driver and own[name].split(".")[:kept] != driver[name].split(".")[:kept]:
            raise InputError(
                f"the driver has {driver[name]}: install the same on every node", key=name, value=own[name]
            )
    return [
        f"has {name} {own[name]}, the driver {driver[name]}"
        for name in COMPARED
        if own[name] != driver.get(name, own[name])
    ]


def check_store(context: WorkerContext, seconds: float | None) -> list[str]:
    """Prove that the storage is the driver's, and can be written and read back; None waits as packs do."""
    if seconds is None:
        from sweeps.storage.retry import RETRY_SECONDS

        _use_store(context, RETRY_SECONDS)
    elif not within(seconds, lambda: _use_store(context, seconds / 2)):
        raise InputError(
            f"does not answer within {seconds:g} s: is its endpoint (AWS_ENDPOINT_URL) reached from there?",
            key="storage",
            value=context.storage,
        )
    return []


def _use_store(context: WorkerContext, patience: float) -> None:
    from sweeps.storage.store import Store

    store, name = Store(context.storage, patience), context.proof
    content = name.encode()
    if _tried(store, "read", lambda: store.get(name)) != content:
        advice = (
            "the nodes do not share this folder: set `storage` to s3://... or to a folder that every node mounts"
            if store.local
            else "the node reaches another store, see its AWS_ENDPOINT_URL"
        )
        raise InputError(f"what the driver has written is not there: {advice}", key="storage", value=context.storage)
    _tried(store, "written", lambda: store.put(name, content))
    if _tried(store, "read", lambda: store.get(name)) != content:
        raise InputError("what was written is not read back", key="storage", value=context.storage)


def _tried(store: Any, what: str, action: Callable[[], Any]) -> Any:
    """Use the store; whatever it raises becomes an InputError that says what to do."""
    from sweeps.storage.retry import storage_error

    try:
        return action()
    except OSError as error:
        if store.local:
            why = f"cannot be {what}: {error.strerror or error}: let the user that Ray runs as write there"
            raise InputError(why, key="storage", value=store.uri) from None
        raise _advised(storage_error(store.uri, error), what) from None
    except Exception as error:
        raise _advised(storage_error(store.uri, error), what) from None


def _advised(error: InputError, what: str) -> InputError:
    if any(word in error.problem for word in ("denied", "credentials")):
        error.problem = (
            f"cannot be {what}: {error.problem}: {credentials_advice(False)}; they must read and write there"
        )
    return error


def check_cache(context: WorkerContext) -> list[str]:
    """Prove that the cache can be written. A full disk is noted: packs then compute features again."""
    try:
        folder = Path(context.cache).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return [f"the disk of its cache {context.cache} is full: features are computed again for every pack"]
        why = f"cannot be written: {error.strerror or error}: name a folder that can be written on every node (--cache)"
        raise InputError(why, key="cache", value=context.cache) from None
    except RuntimeError:  # no home folder
        raise InputError(
            "its user has no home folder: name another (--cache)", key="cache", value=context.cache
        ) from None
    return []


def check_data(context: WorkerContext) -> list[str]:
    """Prove that every recording is there, with the contents that the driver has seen."""
    if within(DATA_SECONDS, lambda: _compare_data(context)):
        return []
    return [f"was still reading its recordings after {DATA_SECONDS:g} s: packs check them"]


def _compare_data(context: WorkerContext) -> None:
    from sweeps.recordings import describe

    try:
        described = describe(context.recordings, context.base)
    except InputError as error:
        error.problem += ": put the data where every node sees the same, for example on s3://"
        raise
    for facts in described:
        context.check_contents(facts.name, facts.fingerprint)


def check_gpu() -> list[str]:
    """Prove that torch computes on the GPU that this process was given."""
    import torch

    if not torch.cuda.is_available():
        raise InputError("torch finds no GPU here: install a torch with CUDA, and the GPU's driver", key="GPU")
    ones = torch.ones(64, 64, device="cuda")
    if float((ones @ ones).sum()) != 64.0**3:
        raise InputError("computes wrong numbers: take the node out, and look at its health", key="GPU")
    return []


def within(seconds: float, action: Callable[[], None]) -> bool:
    """Run an action beside this thread; whether it has ended in time. What it raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    return not thread.is_alive()
