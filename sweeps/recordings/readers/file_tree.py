"""A tree of many small files, local, remote or in a zip: read only, without pickle, hashed as it is read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import fsspec
import numpy as np
from fsspec.implementations.zip import ZipFileSystem

from sweeps.errors import InputError
from sweeps.hashing import digest_bytes
from sweeps.io.filesystem import open_filesystem, store_options
from sweeps.io.guards.free_memory import refuse_beyond_memory
from sweeps.io.labels import clean_labels
from sweeps.io.pointers import exists, is_file, open_checked, refuse_pointer
from sweeps.io.safe_yaml import read_yaml
from sweeps.io.untrusted import npy_array, reading, refuse_bomb, refuse_infinite

BATCH = 16
"""Files fetched at a time, so that a bucket answers several requests at once."""


def is_below(place: Any) -> bool:
    r"""Whether a place that data name lies below the folder that it is meant to be in.

    >>> [is_below(place) for place in ("a/b", "../a", "/a", "a\\..\\b", "C:/a", "")]
    [True, False, False, False, False, False]
    """
    if not isinstance(place, str) or not place or "\0" in place or re.match(r"[A-Za-z]:|[a-z0-9]+://|[/\\]", place):
        return False
    return ".." not in re.split(r"[/\\]", place)


class Tree:
    """The files below a folder, or in the zip of the same name beside it, which is never unpacked.

    `digest` is of the names and contents of all that was read (but not of what `later` reads): two trees of equal
    contents have equal digests, whether packed or not. Its cost is that of reading these files once; nothing is stored
    beside the data. Folders are listed when they are first needed. `cleaned` tells whether a label that was read so
    far stands in its file with padding, or in another form of Unicode.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with reading(self.url):
            self.fs, self.root = _opened(self.url)
        self._listed: dict[str, frozenset[str]] = {}
        self._read: dict[str, str] = {}
        self.cleaned = False

    @property
    def packed(self) -> bool:
        """Whether the files lie in a zip."""
        return isinstance(self.fs, ZipFileSystem)

    def file(self, name: str) -> str:
        """The whole name of a file, for messages."""
        return f"{self.url}/{name}"

    def place(self, name: str) -> str:
        """Where a file lies in the file system."""
        return f"{self.root}/{name}" if self.root else name  # the root of an archive is no folder

    def names(self, folder: str) -> frozenset[str]:
        """Names in a folder, files and folders alike; none where there is no such folder."""
        if folder not in self._listed:
            self._listed[folder] = frozenset(self._list(folder))
        return self._listed[folder]

    def has(self, name: str) -> bool:
        """Whether a file or folder exists."""
        folder, _, last = name.rpartition("/")
        return last in self.names(folder)

    def read(self, name: str) -> bytes:
        """Contents of a file, remembered in the digest; InputError when it cannot be read."""
        [content] = self.many([name])
        return content

    def many(self, names: Sequence[str]) -> Iterator[bytes]:
        """Contents of files in turn, remembered in the digest."""
        for name, content in zip(names, self.later(names), strict=True):
            self._remember(name, content)
            yield content

    def later(self, names: Sequence[str]) -> Iterator[bytes]:
        """Contents of files in turn, a batch at a time, not remembered: for what was read before."""
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            self.must_have(batch)
            self._refuse_full_memory(batch)
            with reading(self.file(batch[0])):
                contents = self.fs.cat_ranges([self.place(name) for name in batch], None, None, on_error="raise")
            for name, content in zip(batch, contents, strict=True):
                refuse_pointer(content, self.file(name), self.packed)
                yield content

    def must_have(self, names: Sequence[str]) -> None:
        """Raise InputError for a file that is missing, or that a zip made to fill the memory holds."""
        for name in names:
            if not self.has(name):
                raise InputError("missing file", file=self.file(name))
            if self.packed:
                with reading(self.file(name)):
                    entry = self.fs.zip.getinfo(self.place(name))
                refuse_bomb(entry.file_size, entry.compress_size, self.file(name))

    def _refuse_full_memory(self, names: Sequence[str]) -> None:
        """Raise InputError where files of a zip that are unpacked together have no room in memory."""
        if self.packed and names:
            sizes = [self.fs.zip.getinfo(self.place(name)).file_size for name in names]
            refuse_beyond_memory(sum(sizes), self.file(names[0]), what=f" with {len(names) - 1} others")

    def array(self, name: str) -> np.ndarray:
        """A numeric .npy array."""
        return self.numbers(name, self.read(name))

    def arrays_of(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """Numeric .npy arrays in turn, remembered in the digest."""
        return (self.numbers(name, content) for name, content in zip(names, self.many(names), strict=True))

    def numbers(self, name: str, content: bytes) -> np.ndarray:
        """The numeric array that a file's contents hold."""
        array = npy_array(content, self.file(name))
        refuse_infinite(array, self.file(name))
        return array

    def labels(self, name: str) -> np.ndarray:
        """A .npy array of one text (or number) per entry, as texts; see `clean_labels`."""
        array = npy_array(self.read(name), self.file(name), "USiub")
        if array.ndim != 1:
            raise InputError(f"must hold one text per entry, not {array.dtype} {array.shape}", file=self.file(name))
        with reading(self.file(name)):
            texts = np.char.decode(array) if array.dtype.kind == "S" else array.astype(str)
        return self.clean(texts.tolist(), name)

    def clean(self, texts: Sequence[str], name: str, key: str | None = None) -> np.ndarray:
        """Labels of a file as `clean_labels` has them, an array of texts."""
        labels = clean_labels(texts, self.file(name), key)
        self.cleaned |= labels.tolist() != list(texts)
        return labels

    def mapping(self, name: str) -> dict[str, Any]:
        """A mapping from a YAML or JSON file."""
        content = self.read(name)
        if not name.endswith(".json"):
            return as_mapping(read_yaml(content, self.file(name)), self.file(name))
        with reading(self.file(name)):
            value = json.loads(content)
        return as_mapping(value, self.file(name))

    def digest(self) -> str:
        """Digest of the names and contents of all files that were read so far."""
        return digest_bytes(part.encode() for item in sorted(self._read.items()) for part in item)

    def remember_blocks(self, name: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Hand on the parts of a file that is too large to be read at once; remembered when all were taken."""
        total = hashlib.sha256()
        for block in blocks:
            total.update(block)
            yield block
        self._read[name] = total.hexdigest()

    def _remember(self, name: str, content: bytes) -> None:
        self._read[name] = hashlib.sha256(content).hexdigest()

    def _list(self, folder: str) -> Iterator[str]:
        with reading(self.file(folder)), suppress(FileNotFoundError, NotADirectoryError):
            paths = self.fs.ls(self.place(folder), detail=False)
            yield from (str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths)


def as_mapping(value: Any, file: str, key: str | None = None) -> dict[str, Any]:
    """A mapping that a file holds, its keys as texts; InputError where it is another thing."""
    if not isinstance(value, dict):
        raise InputError(f"must hold a mapping, not {type(value).__name__}", file=file, key=key)
    return {str(name): item for name, item in value.items()}


def _opened(url: str) -> tuple[Any, str]:
    """File system and root of a folder, else of the zip of that name."""
    filesystem, root = open_filesystem(url)
    if not url.endswith(".zip") and exists(filesystem, root, url) and filesystem.isdir(root):
        return filesystem, root
    packed, place = (url, root) if url.endswith(".zip") else (f"{url}.zip", f"{root}.zip")
    if not is_file(filesystem, place, packed):
        raise InputError("no such recording (neither a folder nor a .zip beside it)", file=url)
    open_checked(filesystem, place, packed).close()
    archive = fsspec.filesystem("zip", fo=packed, target_options=store_options(url), skip_instance_cache=True)
    return archive, _top(archive)


def _top(archive: Any) -> str:
    """The only folder at the top of an archive that has nothing else there, else its root."""
    entries = [entry for entry in archive.ls("", detail=True) if "__MACOSX" not in entry["name"]]
    only = entries[0] if len(entries) == 1 and entries[0]["type"] == "directory" else None
    return str(only["name"]).rstrip("/") if only else ""
