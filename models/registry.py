"""Declarations by name: what ships here, what installed packages bring, and what a dotted path names.

A registry is one literal dict of name -> "module:attribute". A name that is not in it is looked for among the entry
points of installed packages, in the registry's group; a name with a colon is the path of a declaration itself,
`mylab.retina:COMPONENT`. Nothing is imported before its name is asked for.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PREFIX = "cortex_sweeps"
"""Groups of entry points are called `cortex_sweeps.backbones` and so on."""


class UnknownName(KeyError):
    """A name that a registry does not know, or a plug-in that cannot be used, with the reason."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class UndeclaredName(UnknownName):
    """A name that nobody declares: it is neither here, nor that of a plug-in, nor a path."""


@dataclass(frozen=True)
class Plugin:
    """A declaration from outside this project: its registry's group, its name there, its VERSION and its code.

    `digest` is that of the Python files of the package, or of the file, that declares it.
    """

    group: str
    name: str
    version: int
    digest: str

    @property
    def stated(self) -> str:
        """Its identity: name and stated version."""
        return f"{self.group}/{self.name}@{self.version}"

    def __str__(self) -> str:
        return f"{self.stated}#{self.digest}"


class Registry(Mapping[str, T], Generic[T]):
    """Declarations of one kind, by name, in the order of the literal dict; plug-ins come after.

    `group` is the last part of the entry points' group, `declared` the class that a declaration is an instance of (or,
    with `classes`, a subclass of). `complete` makes a declaration ready for use, given the module that it lies in.
    Raises UnknownName (a KeyError) for a name that nobody declares, with the reason where there is more to say.
    """

    def __init__(
        self,
        group: str,
        declared: type,
        builtin: Mapping[str, str],
        complete: Callable[[Any, str], T] = lambda item, module: item,
        classes: bool = False,
    ) -> None:
        self.group, self.declared, self.builtin = group, declared, dict(builtin)
        self.complete, self.classes = complete, classes
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._loaded:
            self._loaded[name] = self._load(self._target(name), name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        """Names of what ships here and of the plug-ins that can be loaded; a broken one is logged, and left out."""
        yield from self.builtin
        for name in sorted(self._plugins()):
            if name not in self.builtin and self._usable(name):
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Registry({self.group}: {', '.join(self.builtin)})"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.installed(name) is not None

    def shipped(self) -> list[T]:
        """Declarations of what ships here."""
        return [self[name] for name in self.builtin]

    def installed(self, name: str) -> T | None:
        """What `name` is, or None; a dotted path that nobody has used yet is not imported: for names out of tables."""
        if name not in self._loaded and name not in self.builtin and name not in self._plugins():
            return None
        try:
            return self[name]
        except UnknownName:
            return None

    def plugin(self, name: str) -> Plugin | None:
        """What `name` is where it comes from outside, else None. Raises UnknownName as look-ups do."""
        if name in self.builtin:
            return None
        version = int(getattr(self[name], "version"))  # noqa: B009
        return Plugin(self.group, name, version, _digest_of(self._target(name).partition(":")[0]))

    def _target(self, name: str) -> str:
        if name in self.builtin:
            return self.builtin[name]
        if name.split() != [name]:
            raise UnknownName(f"a name of {self.group} has no blanks: {name!r}")
        points = self._plugins().get(name, [])
        if len({point.value for point in points}) > 1:
            packages = ", ".join(sorted(_package_of(point) for point in points))
            raise UnknownName(f"several packages bring {name!r}: {packages}; name one by its path, module:attribute")
        if points:
            return points[0].value
        if ":" in name:
            return name
        raise UndeclaredName(f"nothing of this name in {self.group}: {name!r}")

    def _load(self, target: str, name: str) -> T:
        module, _, attribute = target.partition(":")
        try:
            item = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # whatever foreign code raises while it is imported
            if name in self.builtin:
                raise
            raise UnknownName(f"{target} cannot be imported ({type(error).__name__}: {error})") from error
        self._check(item, target)
        if self.classes and name not in self.builtin and "version" not in vars(item):
            raise UnknownName(f"{target} states no `version` of its own")
        return self.complete(item, module)

    def _check(self, item: Any, target: str) -> None:
        right = isinstance(item, type) and issubclass(item, self.declared) if self.classes else None
        if not (isinstance(item, self.declared) if right is None else right):
            kind = "a subclass" if self.classes else "an instance"
            where = f"{self.declared.__module__}.{self.declared.__qualname__}"
            raise UnknownName(f"{target} is not {kind} of {where}, as the declarations of {self.group} are")
        if isinstance(getattr(item, "version", None), bool) or not isinstance(getattr(item, "version", None), int):
            raise UnknownName(f"{target} states no `version` (an integer, raised when its numbers change)")

    def _usable(self, name: str) -> bool:
        try:
            self[name]
        except UnknownName as error:
            logging.getLogger(__name__).warning("a plug-in of %s is left out: %s", self.group, error)
            return False
        return True

    def _plugins(self) -> dict[str, list[EntryPoint]]:
        return _entry_points(f"{PREFIX}.{self.group}")


@functools.cache
def _entry_points(group: str) -> dict[str, list[EntryPoint]]:
    """Entry points of a group by name, as they were when they were first asked for."""
    points: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        points.setdefault(point.name, []).append(point)
    return points


def _package_of(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _digest_of(module: str) -> str:
    """First 20 hex digits of the SHA-256 over the Python files of a module's top package, or of its one file."""
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a script that runs, a notebook
        spec = None
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    files = sorted((str(path.relative_to(place)), path) for place in places for path in place.rglob("*.py"))
    if not places and spec is not None and spec.origin and Path(spec.origin).is_file():
        files = [(Path(spec.origin).name, Path(spec.origin))]
    if not files:
        raise UnknownName(f"the module {top} lies in no file, so that other processes cannot be given it")
    total = hashlib.sha256()
    for line in sorted(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for name, path in files):
        total.update(line.encode())
    return total.hexdigest()[:20]
