"""A tree of many small files, local, remote or in a zip: read only, without pickle, hashed as it is read."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import fsspec
import numpy as np
import yaml

from sweeps.errors import InputError
from sweeps.identity import digest_bytes
from sweeps.recordings.images import open_filesystem

BATCH = 16
"""Files fetched at a time, so that a bucket answers several requests at once."""

CONVERT = "np.save(file, np.load(file, allow_pickle=True).astype(str))"


def is_below(place: Any) -> bool:
    """Whether a place that data name lies below the folder that it is meant to be in."""
    return isinstance(place, str) and bool(place) and not place.startswith("/") and ".." not in place.split("/")


def npy_header(stream: Any, file: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is stored column by column, and type; the stream is left at the first number."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, kind = read(stream)
    except (ValueError, EOFError) as error:
        raise InputError(f"is not a plain .npy array: {error}", file=file) from None
    if kind.kind not in "fiub":
        raise InputError(f"must hold numbers, not {kind}", file=file)
    return shape, by_columns, kind


class Tree:
    """The files below a folder, or in the zip of the same name beside it, which is never unpacked.

    `digest` is of the names and contents of all that was read (but not of what `later` reads): two trees of equal
    contents have equal digests, whether packed or not. Its cost is that of reading these files once; nothing is kept
    beside the data. Folders are listed when they are first asked for.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self.fs, self.root = _opened(self.url)
        except FileNotFoundError:
            raise InputError("no such recording (neither a folder nor a .zip beside it)", file=self.url) from None
        except InputError:
            raise
        except Exception as error:  # whatever the library of an object store raises
            raise self._unreadable("", error) from None
        self._listed: dict[str, frozenset[str]] = {}
        self._read: dict[str, str] = {}

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
            self._must_have(batch)
            try:
                yield from self.fs.cat_ranges([self.place(name) for name in batch], None, None, on_error="raise")
            except Exception as error:  # whatever the library of an object store raises
                raise self._unreadable(batch[0], error) from None

    def array(self, name: str) -> np.ndarray:
        """A numeric .npy array."""
        return self.numbers(name, self.read(name))

    def arrays_of(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """Numeric .npy arrays in turn, remembered in the digest."""
        return (self.numbers(name, content) for name, content in zip(names, self.many(names), strict=True))

    def numbers(self, name: str, content: bytes) -> np.ndarray:
        """The numeric array that a file's contents hold."""
        array = self._loaded(name, content)
        if array.dtype.kind not in "fiub":
            raise InputError(f"must hold numbers, not {array.dtype}", file=self.file(name))
        return array

    def labels(self, name: str) -> np.ndarray:
        """A .npy array of one text (or number) per entry, as texts."""
        array = self._loaded(name, self.read(name))
        if array.ndim != 1 or array.dtype.kind not in "USiub":
            raise InputError(f"must hold one text per entry, not {array.dtype} {array.shape}", file=self.file(name))
        return np.char.decode(array) if array.dtype.kind == "S" else array.astype(str)

    def mapping(self, name: str) -> dict[str, Any]:
        """A mapping from a YAML or JSON file."""
        content = self.read(name)
        try:
            held = json.loads(content) if name.endswith(".json") else yaml.safe_load(content)
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"cannot be read: {error}", file=self.file(name)) from None
        if not isinstance(held, dict):
            raise InputError(f"must hold a mapping, not {type(held).__name__}", file=self.file(name))
        return {str(key): value for key, value in held.items()}

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

    def _must_have(self, names: Sequence[str]) -> None:
        for name in names:
            if not self.has(name):
                raise InputError("missing file", file=self.file(name))

    def _unreadable(self, name: str, error: Exception) -> InputError:
        return InputError(f"cannot be read ({type(error).__name__}: {error})", file=self.file(name))

    def _list(self, folder: str) -> Iterator[str]:
        try:
            found = self.fs.ls(self.place(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        except Exception as error:  # whatever the library of an object store raises
            raise self._unreadable(folder, error) from None
        yield from (str(path).rstrip("/").rsplit("/", 1)[-1] for path in found)

    def _loaded(self, name: str, content: bytes) -> np.ndarray:
        try:
            return np.asarray(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))
        except (ValueError, EOFError) as error:
            if "Object arrays" in str(error):
                problem = "holds pickled objects, which are never loaded; where you trust it, convert it once:"
                raise InputError(f"{problem} {CONVERT}", file=self.file(name)) from None
            raise InputError(f"is not a plain .npy array: {error}", file=self.file(name)) from None


def _opened(url: str) -> tuple[Any, str]:
    """File system and root of a folder, else of the zip of that name."""
    filesystem, root = open_filesystem(url)
    if not url.endswith(".zip") and filesystem.isdir(root):
        return filesystem, root
    packed = url if url.endswith(".zip") else f"{url}.zip"
    if not filesystem.isfile(root if url.endswith(".zip") else f"{root}.zip"):
        raise FileNotFoundError(url)
    options = {"use_listings_cache": False} if "://" in url else {}
    archive = fsspec.filesystem("zip", fo=packed, target_options=options, skip_instance_cache=True)
    return archive, _top(archive)


def _top(archive: Any) -> str:
    """The only folder at the top of an archive that has nothing else there, else its root."""
    held = [entry for entry in archive.ls("", detail=True) if "__MACOSX" not in entry["name"]]
    only = held[0] if len(held) == 1 and held[0]["type"] == "directory" else None
    return str(only["name"]).rstrip("/") if only else ""
