"""What a worker is given of the driver's environment: which object store is meant, and never who the driver is.

Imports nothing of `models` or `metrics` at the top: a worker imports this module before it knows whether those
names are ours (see sweeps.io.import_guard).
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from fsspec import get_filesystem_class

from sweeps.errors import InputError, Refusal
from sweeps.execution.connection import ray_internals
from sweeps.experiment.worker_context import WorkerContext
from sweeps.io.filesystem import STORE_VARIABLES, store_settings
from sweeps.io.guards.secrets import is_credential, is_secret

ADOPTED = "CORTEX_SWEEPS_ADOPTED"
"""The variable of a worker's process that names those which it has taken over from a driver."""

NAMES = "ENV_VARS_TO_PROPAGATE"
"""In Tune's cache of actor classes: variables that it copies from the driver into the runtime environment of actors."""


# -- credentials stay with the driver -------------------------------------------------------------------


@contextmanager
def credentials_withheld() -> Iterator[None]:
    """Keep Tune from copying credentials into runtime environments; InputError where it would copy one all the same.

    Ray writes runtime environments into its logs, in clear and readable by all users, and shows them in its dashboard;
    and in a worker a copied key comes before the role of its node.
    """
    class_cache = ray_internals.tune_actors()
    usual = getattr(class_cache, NAMES, None)
    if usual is not None:
        setattr(class_cache, NAMES, {name for name in usual if not is_credential(name)})
    try:
        _refuse_copies()
        yield
    finally:
        if usual is not None:
            setattr(class_cache, NAMES, usual)


def _refuse_copies() -> None:
    """Raise InputError where Tune would copy a credential of this process, or where that cannot be told."""
    variables = ray_internals.copied_variables()
    here = sorted(name for name in os.environ if is_credential(name))
    copied = [name for name in here if (is_secret(name) if variables is None else name in variables)]
    if copied:
        raise InputError(
            f"Ray {ray.__version__} would write it into its logs: use the version of constraints.txt, "
            "or give the driver a role or ~/.aws/credentials in place of variables",
            key=copied[0],
        )


def warn_of_credentials() -> None:
    """Warn where the user has put credentials into the runtime environment of the job that this process belongs to."""
    given = ray.get_runtime_context().runtime_env.get("env_vars") or {}
    names = ", ".join(sorted(name for name in given if is_secret(name)))
    if names:
        text = f"{names} in the job's runtime environment can be read in Ray's logs and dashboard"
        warnings.warn(f"{text}: change them, and {credentials_advice(False)}", stacklevel=2)


def driver_has_keys() -> bool:
    """Tell whether this process has AWS keys in its environment, which stay with it."""
    return "AWS_SECRET_ACCESS_KEY" in os.environ


def credentials_advice(driver_has_keys: bool) -> str:
    """Say in one line how the nodes of a cluster get credentials of the object store."""
    ways = "a role, ~/.aws/credentials on each node, or variables in the environment of its `ray start`"
    own = "the driver's keys stay with the driver: " if driver_has_keys else ""
    return f"{own}give the nodes credentials of their own, by {ways}"


REFUSED = ("NoCredentials", "Unable to locate credentials", "InvalidAccessKeyId", "SignatureDoesNotMatch")
"""Words of errors of a store that does not know who asks."""


def with_advice(problem: str) -> str:
    """Give a worker's problem, and how the nodes get credentials where the store does not know it."""
    return (
        f"{problem}; {credentials_advice(driver_has_keys())}" if any(word in problem for word in REFUSED) else problem
    )


# -- which store is meant goes along --------------------------------------------------------------------


def adopt_store(context: WorkerContext) -> None:
    """Let this worker's process talk to the object store that the driver talks to.

    Endpoint and region of the driver are set where the node has none of its own; Refusal where it has others. Those
    that this process has taken over from an earlier driver are no longer there.
    """
    if not context.store:
        return
    earlier = os.environ.pop(ADOPTED, "").split()
    for name in earlier:
        os.environ.pop(name, None)
    own = _settings_here()
    for what, value in context.store.items():
        theirs = own[what]
        if theirs == value or (not value and what == "region"):
            continue
        if theirs:
            raise Refusal(_difference(what, theirs, value), key=STORE_VARIABLES[what][0])
        os.environ |= dict.fromkeys(STORE_VARIABLES[what], value)
        os.environ[ADOPTED] = f"{os.environ.get(ADOPTED, '')} {' '.join(STORE_VARIABLES[what])}".strip()
    if earlier or ADOPTED in os.environ:
        get_filesystem_class("s3").clear_instance_cache()


def _settings_here() -> dict[str, str]:
    try:
        return store_settings()
    except InputError as error:
        raise Refusal(f"on node {socket.gethostname()}: {error.problem}", key=error.key) from None


def _difference(what: str, theirs: str, value: str) -> str:
    return (
        f"the S3 {what} on node {socket.gethostname()} is {theirs!r}, for the driver {value or 'that of AWS'!r}: "
        "give both the same, or leave it out on the node"
    )
