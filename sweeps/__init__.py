"""Ray-distributed sweeps over digital twins of visual cortex.

>>> import sweeps
>>> trials = sweeps.load("s3://lab/sweeps/macaque-depth")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.commands.rescore import score
    from sweeps.commands.run import check, run
    from sweeps.storage.load import load

__version__ = "0.1.0"
__all__ = ["__version__", "check", "load", "run", "score"]

_HOMES = {
    "load": "sweeps.storage.load",
    "run": "sweeps.commands.run",
    "check": "sweeps.commands.run",
    "score": "sweeps.commands.rescore",
}


def __getattr__(name: str) -> Any:
    """Import the public functions on first use, so that importing a part stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
    import importlib

    from sweeps.io.import_guard import check_names

    check_names()
    return getattr(importlib.import_module(_HOMES[name]), name)
