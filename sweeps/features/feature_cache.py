"""Features of (backbone, stimuli): computed once per node, kept on disk by content hash."""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import sentences
from models.backbones import BACKBONES
from models.inputs.tensors import BATCH, as_images
from models.readouts.gaussian import shrink
from sweeps.hashing import content_id
from sweeps.io.files import last_used, locked, replacing, size_of

SHARD = 256
"""Stimuli in one shard: what one process computes while others compute the next."""


Whole = Callable[[torch.nn.Module, Sequence[int]], list[np.ndarray]]
"""A network and blocks -> maps (rows, channels, h, w) of every row."""

IN_USE_SECONDS = 600.0
"""An entry that was used within these seconds is never removed."""

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""A full disk, a full quota, a folder of another user or one that is read-only."""

TRIES = 3
"""How often an entry is begun anew that another process removed to make room."""


class FeatureCache:
    """Feature maps on disk, shared by every process of a node; entries are cut to `limit` bytes, oldest first."""

    def __init__(self, folder: Path, limit: float, device: torch.device) -> None:
        self.folder = folder / "features"
        self.limit = limit
        self.device = device

    def maps(
        self,
        backbone: Mapping[str, Any],
        seed: int,
        stimuli: str,
        count: int,
        load: Callable[[slice], Any],
        depths: Sequence[int],
        depth: int,
        pool: int,
        whole: Whole | None = None,
    ) -> np.ndarray:
        """Feature map (stimuli, channels, h, w) float32 of one block, maps averaged to at most `pool` x `pool`.

        What is missing is computed for all `depths` in one pass; processes of one node share the shards.
        `stimuli` identifies what is shown, `load` reads a slice of it: pictures, uint8 (n, height, width, 3), or a list
        of texts for a backbone that sees texts, whose map has one row and one column. `whole` computes the maps of all
        rows at once, where they hang together. A damaged file is computed again; where nothing can be written, as on a
        full disk, the map is computed for this call alone.
        """
        size = count if whole else SHARD
        shards = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        for left in reversed(range(TRIES)):
            try:
                entry = self._entry(backbone, seed, stimuli, pool)
                self._fill(entry, backbone, seed, load, shards, depths, pool, whole)
                os.utime(entry)
                return np.concatenate([_read(_file(entry, depth, index)) for index in range(len(shards))])
            except FileNotFoundError:  # another process needed the room, or a file was damaged
                if not left:
                    raise
            except OSError as error:
                if error.errno not in UNWRITABLE:
                    raise
                _tell_unwritable(self.folder, error)
                return self._unkept(backbone, seed, load, shards, depth, pool, whole)
        raise AssertionError

    def _unkept(
        self,
        backbone: Mapping[str, Any],
        seed: int,
        load: Callable[[slice], Any],
        shards: Sequence[slice],
        depth: int,
        pool: int,
        whole: Whole | None,
    ) -> np.ndarray:
        """The map of one block, kept nowhere."""
        network = self.network(backbone, seed)
        if whole:
            return whole(network, [depth])[0]
        return np.concatenate([self._computed(network, load(rows), [depth], pool)[0] for rows in shards])

    def _fill(
        self,
        entry: Path,
        backbone: Mapping[str, Any],
        seed: int,
        load: Callable[[slice], Any],
        shards: Sequence[slice],
        depths: Sequence[int],
        pool: int,
        whole: Whole | None,
    ) -> None:
        """Compute the missing shards of an entry: first those that nobody else is at, then what is still missing."""
        network: list[torch.nn.Module] = []
        for wait in (False, True):
            for index, rows in enumerate(shards):
                missing = self._missing(entry, depths, index)
                if not missing:
                    continue
                with locked(entry / f"{index:05d}.lock", wait) as held:
                    missing = self._missing(entry, depths, index) if held else []
                    if missing:
                        network = network or [self.network(backbone, seed)]
                        if whole:
                            self._write(entry, index, missing, whole(network[0], missing))
                        else:
                            self._write(entry, index, missing, self._computed(network[0], load(rows), missing, pool))

    def _entry(self, backbone: Mapping[str, Any], seed: int, stimuli: str, pool: int) -> Path:
        component = BACKBONES[backbone["name"]]
        used = component.seed_in_use(backbone, seed)
        entry = self.folder / content_id([component.identity(backbone), used, stimuli, pool, SHARD])
        entry.mkdir(parents=True, exist_ok=True)
        return entry

    def network(self, backbone: Mapping[str, Any], seed: int) -> torch.nn.Module:
        """A frozen backbone on this node's device, in evaluation mode; one that learns has learned, once per node."""
        component = BACKBONES[backbone["name"]]
        parameters = {key: value for key, value in backbone.items() if key != "name"}
        network: torch.nn.Module = component.load()(parameters, seed)
        network = network.to(self.device)
        if component.learns:
            self._learn(network, content_id(["learned", component.identity(backbone), seed]))
        return network.eval().requires_grad_(False)

    def _learn(self, network: torch.nn.Module, key: str) -> None:
        """Let a network learn, or give it what another process of this node has learned with the same settings."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save

        kept = self.folder.parent / "learned" / f"{key}.safetensors"
        with ExitStack() as stack:
            with suppress(OSError):
                stack.enter_context(locked(kept.with_suffix(".lock")))
            if kept.exists():
                with suppress(SafetensorError):  # damaged: learn again
                    network.load_state_dict(load_file(kept))
                    return
            network.learn()  # type: ignore[operator]
            try:
                with replacing(kept) as file:
                    file.write(save({name: value.contiguous() for name, value in network.state_dict().items()}))
            except OSError as error:  # nothing can be written: it is kept by nobody
                _told(f"{kept.parent} cannot be written ({error}): what a network has learned is not kept")

    def sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Sentence embeddings (texts, 384), computed once per node: the encoder takes seconds to import and load."""
        entry = self.folder / content_id(["sentences", sentences.VERSION, version(sentences.WHEEL), list(texts)])
        for left in reversed(range(TRIES)):
            try:
                with locked(entry / "vectors.lock"):
                    os.utime(entry)
                    if not (entry / "vectors.npy").exists():
                        _write(entry / "vectors.npy", sentences.embed(texts))
                        self._prune()
                    return _read(entry / "vectors.npy")
            except FileNotFoundError:  # another process needed the room, or the file was damaged
                if not left:
                    raise
            except OSError as error:
                if error.errno not in UNWRITABLE:
                    raise
                _tell_unwritable(self.folder, error)
                return sentences.embed(texts)
        raise AssertionError

    @staticmethod
    def _missing(entry: Path, depths: Sequence[int], index: int) -> list[int]:
        return [depth for depth in depths if not _file(entry, depth, index).exists()]

    @torch.inference_mode()
    def _computed(self, network: torch.nn.Module, shown: Any, depths: Sequence[int], pool: int) -> list[np.ndarray]:
        """Maps of some blocks to what is shown."""
        parts: list[list[Tensor]] = [[] for _ in depths]
        for start in range(0, len(shown), BATCH):
            for part, found in zip(parts, self._blocks(network, shown[start : start + BATCH], depths), strict=True):
                part.append(shrink(found, pool).cpu())
        return [torch.cat(part).numpy() for part in parts]

    def _write(self, entry: Path, index: int, depths: Sequence[int], maps: Sequence[np.ndarray]) -> None:
        for depth, found in zip(depths, maps, strict=True):
            _write(_file(entry, depth, index), found)
        self._prune()

    def _blocks(self, network: torch.nn.Module, shown: Any, depths: Sequence[int]) -> list[Tensor]:
        if isinstance(shown, np.ndarray):
            return list(network.forward_blocks(as_images(shown, self.device), depths))  # type: ignore[operator]
        return [found[:, :, None, None] for found in network.forward_texts(shown, depths)]  # type: ignore[operator]

    def _prune(self) -> None:
        """Remove the oldest entries above the limit; what was used in the last minutes may be in use and stays."""
        entries = sorted((last_used(path), size_of(path), path) for path in self.folder.iterdir() if path.is_dir())
        total = sum(size for _, size, _ in entries)
        for used, size, path in entries:
            if total <= self.limit or time.time() - used < IN_USE_SECONDS:
                return
            total -= size
            shutil.rmtree(path, ignore_errors=True)


def _file(entry: Path, depth: int, index: int) -> Path:
    return entry / f"block-{depth:03d}.{index:05d}.npy"


def _write(path: Path, array: np.ndarray) -> None:
    """Write an array and its checksum, as a whole or not at all."""
    array, header = np.ascontiguousarray(array), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    with replacing(path) as file:  # numpy's own writing says of a full disk only that it could not write
        file.write(header.getvalue())
        file.write(array.data)
        file.write(_checksum(array))


def _read(path: Path) -> np.ndarray:
    """An array as it was written; a damaged file is removed, as if it had never been there: FileNotFoundError."""
    with open(path, "rb") as file:
        try:
            array = np.asarray(np.load(file, allow_pickle=False))
            sound = file.read() == _checksum(array)
        except Exception:  # whatever a damaged file makes numpy raise
            sound = False
    if sound:
        return array
    path.unlink(missing_ok=True)
    raise FileNotFoundError(f"{path} was damaged")


def _checksum(array: np.ndarray) -> bytes:
    return zlib.crc32(np.ascontiguousarray(array).data).to_bytes(4, "little")


def _tell_unwritable(folder: Path, error: OSError) -> None:
    """Say that features are not kept."""
    _told(f"{folder} cannot be written ({error.strerror}): features are computed anew every time")


@cache
def _told(text: str) -> None:
    """Say something once in a process."""
    logging.getLogger("sweeps").warning("%s", text)
