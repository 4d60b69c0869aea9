"""Probes: stimuli with known labels, drawn on the spot or read from a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sweeps.errors import InputError
from sweeps.io.filesystem import join
from sweeps.io.strict_model import from_validation
from sweeps.probes.folder import read_folder
from sweeps.probes.probe import Probe, content_hash
from sweeps.probes.rendered import RenderedCaptions, RenderedObjects
from sweeps.probes.search_displays import RenderedSearch
from sweeps.stimuli import scenes

__all__ = ["PROBES", "SHOWN", "Probe", "open_probe"]

PROBES: dict[str, type[RenderedObjects] | type[RenderedCaptions] | type[RenderedSearch]] = {
    "objects": RenderedObjects,
    "captions": RenderedCaptions,
    "search": RenderedSearch,
}
SHOWN = ("objects", "captions")
"""Kinds that every twin is shown in a recording's geometry; others are for scores that show them in their own way."""

Settings = TypeVar("Settings", bound=BaseModel)
_CHOICES = "must be `rendered`, {rendered: {...}}, the path of a folder, or {folder: PATH, every: K}"


class _Folder(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    folder: str
    every: int = 1


def open_probe(kind: str, value: Any, base: str | os.PathLike[str] = "") -> Probe:
    """Open the probe that an experiment file names under `probes: {kind: value}`.

    `value` is the word `rendered`, `{rendered: {...}}` with settings of PROBES[kind], the path of a
    folder (local or a URL, relative to `base`; a folder called "rendered" is `./rendered`), or
    `{folder: PATH, every: K}`, which keeps every K-th transform of each object.

    >>> len(open_probe("objects", {"rendered": {"kinds": ["fish", "key"], "rotations": 4}}))
    8
    """
    key = f"probes.{kind}"
    if kind not in PROBES:
        raise InputError("unknown kind of probe", key="probes", value=kind, allowed=PROBES)
    if isinstance(value, str) and value == "rendered":
        return _rendered(kind, {}, key)
    if kind not in SHOWN:
        return _drawn(kind, value, key)
    if isinstance(value, str | os.PathLike) and str(value):
        return read_folder(kind, _located(os.fspath(value), base))
    if not isinstance(value, Mapping) or not {"rendered", "folder"} & set(value):
        raise InputError(_CHOICES, key=key, value=value)
    if "folder" in value:
        return _folder(kind, value, base, key)
    if set(value) != {"rendered"}:
        raise InputError("only `rendered` may stand here", key=key, value=dict(value))
    return _rendered(kind, value["rendered"], f"{key}.rendered")


def _drawn(kind: str, value: Any, key: str) -> Probe:
    """A probe that no folder can hold, since its geometry is known only where it was drawn."""
    if not isinstance(value, Mapping) or set(value) != {"rendered"}:
        raise InputError("must be `rendered` or {rendered: {...}}", key=key, value=value)
    return _rendered(kind, value["rendered"], f"{key}.rendered")


def _rendered(kind: str, settings: Any, key: str) -> Probe:
    source = _validated(PROBES[kind], {} if settings is None else settings, key)
    fingerprint = content_hash(rendered=kind, version=scenes.VERSION, **source.model_dump(mode="json"))
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
