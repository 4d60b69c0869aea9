"""Names of pictures: which file of a folder or zip a table means, where their spellings differ."""

from __future__ import annotations

import difflib
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property

from sweeps.errors import InputError, listed

FOLDER = "images"
"""The folder of pictures, which a table may name too."""


class PictureNames:
    """The files of a folder or zip, `place`, by the names under which they may be asked for.

    `entries` are their paths inside; hidden ones, and those that macOS adds to archives, are left out. InputError for
    a path that would lead out of the place.
    """

    def __init__(self, entries: Iterable[str], place: str) -> None:
        entries = list(entries)
        for entry in entries:
            refuse_unsafe(entry, place)
        self.entries = frozenset(entry for entry in entries if not _hidden(entry))
        self.place = place

    def find(self, name: str) -> str:
        """Return the path inside that `name` stands for; InputError where there is none, or more than one.

        It is that path itself, else the end of it from a slash on (such as its base name); else the same where accents
        are composed or not (NFC, NFD), slashes are backslashes, the case of the suffix differs, or the name begins with
        the folder's own name.
        """
        refuse_unsafe(name, self.place)
        if name in self.entries:
            return name
        entries = self._by_base_name.get(name) or self._alike(name)
        if len(entries) == 1:
            return entries[0]
        if entries:
            raise InputError(f"image {name!r} is ambiguous: {listed(entries)}", file=self.place)
        problem = f"there is no image {name!r} among {len(self.entries)} files"
        raise InputError(problem + self._nearest(name), file=self.place)

    @cached_property
    def _by_base_name(self) -> Mapping[str, list[str]]:
        return _listed((posixpath.basename(entry), entry) for entry in self.entries)

    @cached_property
    def _by_end(self) -> Mapping[str, list[str]]:
        """Entries by their plain path, and by every end of it from a slash on."""
        return _listed((end, entry) for entry in self.entries for end in _ends(plain(entry)))

    @cached_property
    def _by_plain_path(self) -> Mapping[str, list[str]]:
        return _listed((plain(entry), entry) for entry in self.entries)

    def _alike(self, name: str) -> list[str]:
        """Return the entries whose plain path is, or ends with, that of the name; the folder's own may lead it."""
        path = plain(name)
        own = posixpath.basename(self.place.rstrip("/")).removesuffix(".zip")
        first, _, inner = path.partition("/")
        inner = inner if first in (FOLDER, plain(own)) else ""
        entire, ends = self._by_plain_path, self._by_end
        ways = (entire.get(path, []), entire.get(inner, []) + ends.get(path, []), ends.get(inner, []))
        return next((list(dict.fromkeys(entries)) for entries in ways if entries), [])

    def _nearest(self, name: str) -> str:
        """Name the file whose path, or else whose base name, is most like a name."""
        wanted = plain(name)
        near = difflib.get_close_matches(wanted, [*self._by_end, *self._by_plain_path], n=1, cutoff=0.0)
        return f"; the nearest is {self._by_end[near[0]][0]!r}" if near else ""


def plain(name: str) -> str:
    r"""Return a path as it compares: composed accents, slashes, its suffix in small letters, without `./`.

    >>> plain("images\\Cafe\u0301.PNG") == "images/Caf\u00e9.png"
    True
    """
    path = unicodedata.normalize("NFC", _as_utf8(name)).replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    stem, suffix = posixpath.splitext("/".join(parts))
    return stem + suffix.lower()


def _as_utf8(name: str) -> str:
    """Decode a name anew that an archive holds in UTF-8 without saying so, and that was taken for code page 437."""
    try:
        return name if name.isascii() else name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _ends(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _listed(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    entries: dict[str, list[str]] = defaultdict(list)
    for name, entry in sorted(pairs):
        entries[name].append(entry)
    return dict(entries)


def _hidden(entry: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in re.split(r"[/\\]", entry))


def refuse_unsafe(name: str, place: str) -> None:
    """Raise InputError for a name that would lead out of the folder or archive."""
    parts = re.split(r"[/\\]", name)
    if not name or name[0] in "/\\" or ".." in parts or re.match(r"[A-Za-z]:|[a-z0-9]+://", name) or "\0" in name:
        raise InputError(f"image name {name!r} is not safe: it must lie inside the folder or archive", file=place)
