"""Probes: stimuli with known labels, drawn or read from a folder. A new kind is one file and one line in PROBES."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from models.registry import Registry, UndeclaredName, UnknownName
from sweeps.errors import InputError
from sweeps.io.filesystem import join
from sweeps.io.strict_model import from_validation
from sweeps.probes.drawn import DrawnProbe
from sweeps.probes.folder import STORED, read_folder
from sweeps.probes.probe import Probe, content_hash

__all__ = ["PROBES", "DrawnProbe", "Probe", "open_probe", "shown_kinds"]

PROBES: Registry[type[DrawnProbe]] = Registry(
    "probes",
    DrawnProbe,
    {
        "objects": "sweeps.probes.rendered:RenderedObjects",
        "captions": "sweeps.probes.rendered:RenderedCaptions",
        "search": "sweeps.probes.search_displays:RenderedSearch",
    },
    classes=True,
)
"""Kind -> `module:class` of the settings that draw it; a laboratory's own come by entry point or path."""

Settings = TypeVar("Settings", bound=BaseModel)
_CHOICES = "must be `rendered`, {rendered: {...}}, the path of a folder, or {folder: PATH, every: K}"


class _Folder(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    folder: str
    every: int = 1


def shown_kinds(kinds: Iterable[str]) -> list[str]:
    """Return which kinds every twin is shown in a recording's geometry: those that ship here first, in their order.

    >>> shown_kinds(["search", "captions", "objects"])
    ['objects', 'captions']
    """
    places = {kind: place for place, kind in enumerate(PROBES.builtin)}
    ordered = sorted(kinds, key=lambda kind: places.get(kind, len(places)))
    return [kind for kind in ordered if PROBES[kind].shown_to_twins]


def open_probe(kind: str, value: Any, base: str | os.PathLike[str] = "") -> Probe:
    """Open the probe that an experiment file names under `probes: {kind: value}`.

    `value` is the word `rendered`, `{rendered: {...}}` with settings of PROBES[kind], and for objects and captions
    also the path of a folder (local or a URL, relative to `base`; a folder called "rendered" is `./rendered`), or
    `{folder: PATH, every: K}`, which keeps every K-th transform of each object.

    >>> len(open_probe("objects", {"rendered": {"kinds": ["fish", "key"], "rotations": 4}}))
    8
    """
    key, drawn = f"probes.{kind}", _kind(kind)
    if isinstance(value, str) and value == "rendered":
        return _rendered(kind, drawn, {}, key)
    if kind not in STORED:
        return _unstored(kind, drawn, value, key)
    if isinstance(value, str | os.PathLike) and str(value):
        return read_folder(kind, _located(os.fspath(value), base))
    if not isinstance(value, Mapping) or not {"rendered", "folder"} & set(value):
        raise InputError(_CHOICES, key=key, value=value)
    if "folder" in value:
        return _folder(kind, value, base, key)
    if set(value) != {"rendered"}:
        raise InputError("only `rendered` may stand here", key=key, value=dict(value))
    return _rendered(kind, drawn, value["rendered"], f"{key}.rendered")


def _kind(name: str) -> type[DrawnProbe]:
    """Look a kind of probe up; InputError lists what there is, or says why a plug-in cannot be used."""
    try:
        return PROBES[name]
    except UndeclaredName:
        raise InputError("unknown kind of probe", key="probes", value=name, allowed=PROBES) from None
    except UnknownName as error:
        raise InputError(error.problem, key="probes", value=name) from None


def _unstored(kind: str, drawn: type[DrawnProbe], value: Any, key: str) -> Probe:
    """Open a probe that no folder can hold, since its geometry is known only where it was drawn."""
    if not isinstance(value, Mapping) or set(value) != {"rendered"}:
        raise InputError("must be `rendered` or {rendered: {...}}", key=key, value=value)
    return _rendered(kind, drawn, value["rendered"], f"{key}.rendered")


def _rendered(kind: str, drawn: type[DrawnProbe], settings: Any, key: str) -> Probe:
    source = _validated(drawn, {} if settings is None else settings, key)
    fingerprint = content_hash(rendered=kind, version=drawn.version, **source.model_dump(mode="json"))
    return Probe(f"rendered-{kind}", kind, source.table(), fingerprint, source)


def _folder(kind: str, value: Mapping[str, Any], base: str | os.PathLike[str], key: str) -> Probe:
    settings = _validated(_Folder, value, key)
    if settings.every < 1:
        raise InputError("must be a whole number from 1", key=f"{key}.every", value=settings.every)
    if kind != "objects" and "every" in value:
        raise InputError("applies to probes of objects only", key=f"{key}.every", value=settings.every)
    return read_folder(kind, _located(settings.folder, base), settings.every)


def _located(path: str, base: str | os.PathLike[str]) -> str:
    return join(os.fspath(base), os.path.expanduser(path))


def _validated(model: type[Settings], value: Any, key: str) -> Settings:
    """Settings read by a pydantic model, whose first complaint becomes an InputError."""
    try:
        return model.model_validate(value)
    except InputError as error:
        error.key = f"{key}.kinds"
        raise
    except ValidationError as invalid:
        raise from_validation(invalid, model, None, f"{key}.") from None
