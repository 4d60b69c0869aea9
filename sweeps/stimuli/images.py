"""Pictures on disk or in a bucket."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from PIL import Image, UnidentifiedImageError

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.io.filesystem import open_filesystem
from sweeps.io.pointers import exists, is_file, open_checked, refuse_pointer
from sweeps.io.untrusted import reading
from sweeps.stimuli.picture_file import Exif, PictureFile, describe_unknown, resolved
from sweeps.stimuli.picture_names import PictureNames

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
BATCH = 64  # pictures fetched at a time, so that a bucket answers many requests at once


class _Archive:
    """The files in a zip, which is never unpacked; a remote one is read whole, once."""

    def __init__(self, filesystem: Any, path: str, url: str) -> None:
        with reading(url):
            self.stream = self._opened(filesystem, path, url)
        with reading(url, "not a readable zip archive"):
            self.zip = zipfile.ZipFile(self.stream)
        self.url = url
        self.entries = [info.filename for info in self.zip.infolist() if not info.is_dir()]

    @staticmethod
    def _opened(filesystem: Any, path: str, url: str) -> Any:
        if isinstance(filesystem, LocalFileSystem):
            return open_checked(filesystem, path, url)
        content = filesystem.cat_file(path)
        refuse_pointer(content, url)
        return io.BytesIO(content)

    def read(self, entries: Sequence[str]) -> Iterator[bytes]:
        """The content of each entry in turn."""
        for entry in entries:
            with reading(self.url, f"image {entry!r} cannot be read"):
                self._refuse_bomb(entry)
                content = self.zip.read(entry)
            refuse_pointer(content, f"{self.url}/{entry}", packed=True)
            yield content

    def _refuse_bomb(self, entry: str) -> None:
        limit, size = Image.MAX_IMAGE_PIXELS, self.zip.getinfo(entry).file_size
        if limit is not None and size > 4 * limit + 2**20:
            raise InputError(f"image {entry!r} unpacks to {size} bytes, which is too large", file=self.url)

    def digest(self, visit: Callable[[str, bytes], None]) -> str:
        """SHA-256 of the archive's bytes; no entry is unpacked, so that none is visited."""
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
            for entry, content in zip(batch, contents, strict=True):
                refuse_pointer(content, f"{self.url}/{entry}")
                yield content

    def digest(self, visit: Callable[[str, bytes], None]) -> str:
        """SHA-256 over the names and contents of all files, each of which is visited."""
        total = hashlib.sha256()
        for entry, content in zip(self.entries, self.read(self.entries), strict=True):
            visit(entry, content)
            total.update(f"{entry}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        return total.hexdigest()


def _batches(entries: Sequence[str]) -> Iterator[Sequence[str]]:
    return (entries[start : start + BATCH] for start in range(0, len(entries), BATCH))


class ImageFolder:
    """The pictures of a recording or a probe: its `images.zip`, else its folder `images/`.

    `url` is that folder, or the zip or the folder of pictures itself, local or at a URL that `check_url` lets
    pass. Nothing is opened before it is needed; a copy sent to another process opens it anew. `exif` is what
    becomes of the orientation that a file states.
    """

    def __init__(self, url: str, exif: Exif = "obey") -> None:
        self.url, self.exif = url.rstrip("/"), exif
        self._resolved: dict[str, list[str] | InputError] = {}

    def __reduce__(self) -> tuple[type[ImageFolder], tuple[str, Exif]]:
        return ImageFolder, (self.url, self.exif)

    def __repr__(self) -> str:
        return f"ImageFolder({self.url!r})"

    @cached_property
    def names(self) -> list[str]:
        """Paths of all pictures inside the zip or folder, sorted."""
        return sorted(entry for entry in self._names.entries if entry.lower().endswith(SUFFIXES))

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
        return self._source.digest(self._resolve)

    def resolved(self, names: Iterable[str]) -> Counter[str]:
        """Return how many of some pictures each of `picture_file.RULES` changes; none where all are plain.

        InputError for a picture that is refused. One that cannot be read at all is found when it is shown. Contents
        are read, unless `digest` has read them.
        """
        entries = sorted({self.find(name) for name in names})
        unread = [entry for entry in entries if entry not in self._resolved]
        for entry, content in zip(unread, self._source.read(unread), strict=True):
            self._resolve(entry, content)
        counts: Counter[str] = Counter()
        for rules in (self._resolved[entry] for entry in entries):
            if isinstance(rules, InputError):
                raise rules
            counts.update(rules)
        return counts

    def _resolve(self, entry: str, content: bytes) -> None:
        """Note which rules change a picture, or why it is refused."""
        try:
            self._resolved[entry] = changed_by(content, self._source.url, f"image {entry!r}", self.exif)
        except InputError as error:
            self._resolved[entry] = error

    def find(self, name: str) -> str:
        """The path inside that `name` stands for, see `PictureNames.find`."""
        return self._names.find(name)

    @cached_property
    def _source(self) -> _Archive | _Files:
        filesystem, path = open_filesystem(self.url)
        if path.endswith(".zip"):
            return _Archive(filesystem, path, self.url)
        if is_file(filesystem, f"{path}/images.zip", f"{self.url}/images.zip"):
            return _Archive(filesystem, f"{path}/images.zip", f"{self.url}/images.zip")
        if exists(filesystem, f"{path}/images", f"{self.url}/images") and filesystem.isdir(f"{path}/images"):
            return _Files(filesystem, f"{path}/images", f"{self.url}/images")
        files = _Files(filesystem, path, self.url) if filesystem.isdir(path) else None
        if files is None or not any(entry.lower().endswith(SUFFIXES) for entry in files.entries):
            raise InputError("neither images.zip nor a folder images/ here", file=self.url)
        return files

    @cached_property
    def _names(self) -> PictureNames:
        return PictureNames(self._source.entries, self._source.url)

    def _images(self, names: Sequence[str]) -> Iterator[tuple[str, Image.Image]]:
        entries = [self.find(name) for name in names]
        for name, content in zip(names, self._source.read(entries), strict=True):
            yield name, self._decoded(name, content)

    def _decoded(self, name: str, content: bytes) -> Image.Image:
        return decoded(content, self._source.url, f"image {name!r}", self.exif)


def decoded(content: bytes, file: str, what: str = "picture", exif: Exif = "obey") -> Image.Image:
    """The picture that a file's contents hold, read whole: upright and in 8 bits, as `PictureFile` has it.

    InputError says why there is none.
    """
    with reading(file, f"{what} cannot be read"), _named(file, what):
        try:
            picture = PictureFile(content, exif)
        except UnidentifiedImageError:
            raise InputError(f"cannot be read: {describe_unknown(content)}") from None
        picture.refuse()
        return picture.picture()


def changed_by(content: bytes, file: str, what: str = "picture", exif: Exif = "obey") -> list[str]:
    """The `picture_file.RULES` that change the pixels of a file; InputError for a picture that is refused.

    None for what cannot be read at all: that is reported when it is to be shown.
    """
    try:
        with _named(file, what):
            return resolved(content, exif)
    except InputError:
        raise
    except Exception:  # whatever a library raises over a damaged file
        return []


@contextmanager
def _named(file: str, what: str) -> Iterator[None]:
    """Let what is wrong with a picture name it and its file."""
    try:
        yield
    except InputError as error:
        error.file, error.problem = file, f"{what} {error.problem}"
        raise
