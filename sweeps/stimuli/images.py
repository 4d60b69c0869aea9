"""Pictures on disk or in a bucket."""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from PIL import Image, UnidentifiedImageError

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.io.filesystem import open_filesystem
from sweeps.io.untrusted import reading

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
BATCH = 64  # pictures fetched at a time, so that a bucket answers many requests at once


class _Archive:
    """The files in a zip, which is never unpacked; a remote one is read whole, once."""

    def __init__(self, filesystem: Any, path: str, url: str) -> None:
        with reading(url):
            local = isinstance(filesystem, LocalFileSystem)
            self.stream = open(path, "rb") if local else io.BytesIO(filesystem.cat_file(path))  # noqa: SIM115
        with reading(url, "not a readable zip archive"):
            self.zip = zipfile.ZipFile(self.stream)
        self.url = url
        self.entries = [info.filename for info in self.zip.infolist() if not info.is_dir()]

    def read(self, entries: Sequence[str]) -> Iterator[bytes]:
        """The content of each entry in turn."""
        for entry in entries:
            with reading(self.url, f"image {entry!r} cannot be read"):
                self._refuse_bomb(entry)
                content = self.zip.read(entry)
            yield content

    def _refuse_bomb(self, entry: str) -> None:
        limit, size = Image.MAX_IMAGE_PIXELS, self.zip.getinfo(entry).file_size
        if limit is not None and size > 4 * limit + 2**20:
            raise InputError(f"image {entry!r} unpacks to {size} bytes, which is too large", file=self.url)

    def digest(self) -> str:
        """SHA-256 of the archive's bytes."""
        if isinstance(self.stream, io.BytesIO):
            return hashlib.sha256(self.stream.getbuffer()).hexdigest()
        with open(self.stream.name, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()


class _Files:
    """The files under a folder."""

    def __init__(self, filesystem: Any, path: str, url: str) -> None:
        self.filesystem, self.root, self.url = filesystem, path.rstrip("/"), url
        with reading(url):
            self.entries = sorted(full[len(self.root) + 1 :] for full in filesystem.find(self.root))

    def read(self, entries: Sequence[str]) -> Iterator[bytes]:
        """The content of each entry in turn, fetched a batch at a time."""
        for batch in _batches(entries):
            paths = [f"{self.root}/{entry}" for entry in batch]
            with reading(self.url):
                contents = self.filesystem.cat_ranges(paths, None, None, on_error="raise")
            yield from contents

    def digest(self) -> str:
        """SHA-256 over the names and contents of all files."""
        total = hashlib.sha256()
        for entry, content in zip(self.entries, self.read(self.entries), strict=True):
            total.update(f"{entry}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        return total.hexdigest()


def _batches(entries: Sequence[str]) -> Iterator[Sequence[str]]:
    return (entries[start : start + BATCH] for start in range(0, len(entries), BATCH))


class ImageFolder:
    """The pictures of a recording or a probe: its `images.zip`, else its folder `images/`.

    `url` is that folder, or the zip or the folder of pictures itself, local or at any URL that fsspec
    understands. Nothing is opened before it is needed; a copy sent to another process opens it anew.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def __reduce__(self) -> tuple[type[ImageFolder], tuple[str]]:
        return ImageFolder, (self.url,)

    def __repr__(self) -> str:
        return f"ImageFolder({self.url!r})"

    @cached_property
    def names(self) -> list[str]:
        """Paths of all pictures inside the zip or folder, sorted."""
        return sorted(entry for entry in self._exact if entry.lower().endswith(SUFFIXES))

    def read(self, name: str) -> Image.Image:
        """One picture by its path inside, or by its base name where only one picture has it."""
        [(_, image)] = self._images([name])
        return image

    def load(self, names: Iterable[str], geometry: Geometry) -> np.ndarray:
        """Pictures as a twin sees them, in the order of the names: uint8 (n, rows, columns, 3)."""
        names = list(names)
        pixels = np.empty((len(names), *geometry.shape, 3), np.uint8)
        for i, (name, image) in enumerate(self._images(names)):
            with reading(self._source.url, f"image {name!r} cannot be read"):
                pixels[i] = geometry.apply(image)
        return pixels

    def contents(self, entries: Sequence[str]) -> Iterator[bytes]:
        """Bytes of files by their paths inside (see `find`), in turn; a few in memory at a time."""
        return self._source.read(entries)

    def digest(self) -> str:
        """Content hash of the zip, or of all files in the folder: reads every byte."""
        return self._source.digest()

    def find(self, name: str) -> str:
        """The path inside that `name` stands for."""
        _refuse_unsafe(name, self._source.url)
        if name in self._exact:
            return name
        entries = self._by_base_name.get(name, [])
        if len(entries) == 1:
            return entries[0]
        if entries:
            raise InputError(f"image {name!r} is ambiguous: {', '.join(entries)}", file=self._source.url)
        raise InputError(f"there is no image {name!r} among {len(self._exact)} files", file=self._source.url)

    @cached_property
    def _source(self) -> _Archive | _Files:
        filesystem, path = open_filesystem(self.url)
        if path.endswith(".zip"):
            return _Archive(filesystem, path, self.url)
        if filesystem.isfile(f"{path}/images.zip"):
            return _Archive(filesystem, f"{path}/images.zip", f"{self.url}/images.zip")
        if filesystem.isdir(f"{path}/images"):
            return _Files(filesystem, f"{path}/images", f"{self.url}/images")
        files = _Files(filesystem, path, self.url) if filesystem.isdir(path) else None
        if files is None or not any(entry.lower().endswith(SUFFIXES) for entry in files.entries):
            raise InputError("neither images.zip nor a folder images/ here", file=self.url)
        return files

    @cached_property
    def _exact(self) -> frozenset[str]:
        for entry in self._source.entries:
            _refuse_unsafe(entry, self._source.url)
        return frozenset(entry for entry in self._source.entries if not _hidden(entry))

    @cached_property
    def _by_base_name(self) -> dict[str, list[str]]:
        entries: dict[str, list[str]] = {}
        for entry in sorted(self._exact):
            entries.setdefault(posixpath.basename(entry), []).append(entry)
        return entries

    def _images(self, names: Sequence[str]) -> Iterator[tuple[str, Image.Image]]:
        entries = [self.find(name) for name in names]
        for name, content in zip(names, self._source.read(entries), strict=True):
            yield name, self._decoded(name, content)

    def _decoded(self, name: str, content: bytes) -> Image.Image:
        return decoded(content, self._source.url, f"image {name!r}")


def decoded(content: bytes, file: str, what: str = "picture") -> Image.Image:
    """The picture that a file's contents hold, read whole; InputError says why there is none."""
    with reading(file, f"{what} cannot be read"):
        try:
            image = Image.open(io.BytesIO(content))
        except UnidentifiedImageError:
            raise InputError(f"{what} cannot be read: no known picture format", file=file) from None
        limit, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
        if limit is not None and pixels > limit:
            raise InputError(f"{what} cannot be read: {pixels} pixels, the limit is {limit}", file=file)
        image.load()
        if image.mode in ("P", "PA") and image.palette is None:
            raise InputError(f"{what} cannot be read: it has no palette", file=file)
    return image


def _hidden(entry: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in entry.split("/"))


def _refuse_unsafe(name: str, url: str) -> None:
    """Refuse names that would lead out of the folder or archive."""
    parts = re.split(r"[/\\]", name)
    if not name or name[0] in "/\\" or ".." in parts or re.match(r"[A-Za-z]:|[a-z0-9]+://", name) or "\0" in name:
        raise InputError(f"image name {name!r} is not safe: it must lie inside the folder or archive", file=url)
