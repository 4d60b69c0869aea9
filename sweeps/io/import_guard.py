"""The three import names are generic, so runs are guarded: one place, one digest, in every process.

What only reads results is not guarded: `sweeps.load` imports neither `models` nor `metrics`, and the command puts its
own home first.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from sweeps.errors import InputError, Refusal
from sweeps.hashing import PACKAGES, code_digest


def home() -> Path:
    """The folder that holds the `sweeps` package of this process."""
    return Path(__file__).resolve().parents[2]


def _location(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module made by hand
        return None
    places = list(spec.submodule_search_locations or []) if spec else []
    return str(Path(places[0]).resolve().parent) if places else (spec.origin if spec else None)


def check_names() -> str:
    """Check that `sweeps`, `models` and `metrics` come from one place; return the digest of their code.

    Raises InputError that names the stranger when another package of that name comes first.
    """
    root = home()
    for name in PACKAGES:
        place = _location(name)
        if place != str(root):
            raise InputError(
                f"the package {name!r} would be imported from {place}, but cortex-sweeps lies in {root}: "
                f"another {name!r} comes first on the import path. Start from another folder or rename it",
                key="import path",
            )
    return code_digest(root)


def put_home_first() -> None:
    """Put the home of `sweeps` first on the import path, and forget packages of our names that lie elsewhere."""
    root = str(home())
    sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]
    importlib.invalidate_caches()
    for name in ("models", "metrics"):
        loaded = sys.modules.get(name)
        place = getattr(loaded, "__path__", None)
        if loaded is not None and (not place or str(Path(next(iter(place))).resolve().parent) != root):
            for stranger in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
                del sys.modules[stranger]


def claim_names(digest: str) -> None:
    """In a worker: put the home of `sweeps` first, and check the place of the packages and the digest of their code.

    Ray puts the driver's folder ahead of site-packages in every worker, so a lab's own `models/` beside its
    notebook would otherwise win there. Raises Refusal when the code differs from the driver's.
    """
    put_home_first()
    try:
        own = check_names()
    except InputError as error:
        raise Refusal(error.problem, key=error.key) from None
    if own != digest:
        raise Refusal(
            f"this worker runs other code (digest {own}) than the driver (digest {digest}): "
            f"install the same cortex-sweeps on every node; here it lies in {home()}",
            key="code",
        )
