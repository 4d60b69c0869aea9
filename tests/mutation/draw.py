"""Which mutants are tried: Cosmic Ray's whole list of the rooms' modules, drawn from by the content of a place.

A place is one operator, number, keyword, condition, loop, handler or decorator of the source. Places are ranked by a
hash of the seed and of their own text, so that what is edited elsewhere leaves the draw as it is; of every place one
mutation is tried, chosen likewise, since a binary operator alone has eleven. Left out are annotations, what is for type
checkers alone, texts of logs, and mutations that are no Python.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import tomllib
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from rooms import ROOMS, Room

SEED = 17
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

NEED_ARGUMENTS = {"core/VariableReplacer", "core/VariableInserter"}
"""Operators of Cosmic Ray that work on variables which are named to them."""

LOGS = {"debug", "info", "warning", "warn_once", "warn", "say"}
"""Functions whose arguments are texts for people."""

Position = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """One mutation; `number` counts equal places of a function, `before` and `after` are the line, stripped."""

    room: str
    module: str
    function: str
    line: int
    column: int
    number: int
    operator: str
    occurrence: int
    variant: int
    before: str
    after: str = ""

    @property
    def place(self) -> str:
        """The place by its content."""
        return f"{self.module}\0{self.function}\0{self.before}\0{self.column}\0{self.number}"

    @property
    def key(self) -> str:
        """The mutation by its content."""
        return f"{self.module} {self.function} #{self.number}: {self.before} -> {self.after}"

    def source(self) -> str | None:
        """The mutated module; None where it is no Python."""
        source = (ROOT / self.module).read_text()
        mutated = mutate_code(source, operators()[self.operator], self.occurrence)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # such as a comparison with a text by `is`
            try:
                compile(mutated or "(", self.module, "exec")
            except (SyntaxError, ValueError):
                return None
        return mutated if mutated != source else None

    def rank(self, variant: bool = False) -> str:
        """Place in the order of the draw."""
        text = f"{SEED}\0{self.place}" + (f"\0{self.operator}\0{self.variant}" if variant else "")
        return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def operators() -> dict[str, Operator]:
    """Every operator that needs no arguments, by name."""
    return {name: get_operator(name)() for name in operator_names() if name not in NEED_ARGUMENTS}


def mutations(room: str, module: str) -> Iterator[Mutant]:
    """Every mutation of a module that is not left out."""
    source = (ROOT / module).read_text()
    lines, left_out, functions = source.splitlines(), _left_out(source), _functions(source)
    occurrences: Counter[str] = Counter()
    seen: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for node in ast_nodes(get_ast(source)):
        if node.type in ("name", "newline", "string", "endmarker"):
            continue
        for name, operator in operators().items():
            for variant, (start, _) in enumerate(operator.mutation_positions(node)):
                occurrence = occurrences[name]
                occurrences[name] += 1
                if any(first <= start < last for first, last in left_out):
                    continue
                line, before = start[0], lines[start[0] - 1].strip()
                column = start[1] - len(lines[line - 1]) + len(lines[line - 1].lstrip())
                function = next((name for first, last, name in functions if first <= line <= last), "")
                equal = seen[function, before, column]
                equal += [] if line in equal else [line]
                place = (line, column, equal.index(line))
                yield Mutant(room, module, function, *place, name, occurrence, variant, before)


def _functions(source: str) -> list[tuple[int, int, str]]:
    """First and last line of every function and class, the innermost first, with its dotted name."""
    found: list[tuple[int, int, str]] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                visit(child, f"{prefix}{child.name}.")
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                found.append((first, child.end_lineno or first, f"{prefix}{child.name}"))
            else:
                visit(child, prefix)

    visit(ast.parse(source), "")
    return found


def _left_out(source: str) -> list[tuple[Position, Position]]:
    """Ranges of the source that are not mutated."""
    lines, nodes = source.splitlines(), list(ast.walk(ast.parse(source)))
    parts: list[ast.AST | None] = []
    for node in nodes:
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(node.returns)
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            parts.append(node)
        elif isinstance(node, ast.Call) and (getattr(node.func, "attr", None) or getattr(node.func, "id", "")) in LOGS:
            parts += node.args

    def position(line: int, offset: int) -> Position:
        return line, len(lines[line - 1].encode()[:offset].decode())

    return [
        (position(part.lineno, part.col_offset), position(part.end_lineno, part.end_col_offset))  # type: ignore[attr-defined]
        for part in parts
        if part is not None
    ]


@dataclass(frozen=True)
class Draw:
    """What is tried: `mutants` by rank, the `equivalent` ones that were met on the way, and the sizes of the lists."""

    mutants: list[Mutant]
    equivalent: list[Mutant]
    mutations: int
    places: dict[str, int]


def draw(count: int) -> Draw:
    """Draw so many mutants, of every room its share of the places; those that are argued to be equivalent are not
    among them."""
    known, mutants, met, total = equivalents(), [], [], 0
    by_room: dict[str, dict[str, list[Mutant]]] = {room.name: defaultdict(list) for room in ROOMS}
    for room in ROOMS:
        for module in room.modules:
            for mutation in mutations(room.name, module):
                by_room[room.name][mutation.place].append(mutation)
                total += 1
    sizes = {name: len(places) for name, places in by_room.items()}
    for name, quota in shares(sizes, count).items():
        drawn: list[Mutant] = []
        for variants in sorted(by_room[name].values(), key=lambda variants: variants[0].rank()):
            if len(drawn) == quota:
                break
            mutant = _first_sound(variants)
            if mutant is not None:
                (met if mutant.key in known else drawn).append(mutant)
        mutants += drawn
    return Draw(mutants, met, total, sizes)


def _first_sound(variants: list[Mutant]) -> Mutant | None:
    """The first mutation of a place that is Python."""
    for mutant in sorted(variants, key=lambda variant: variant.rank(variant=True)):
        source = mutant.source()
        if source is not None:
            lines = source.splitlines()
            return replace(mutant, after=lines[mutant.line - 1].strip() if len(lines) >= mutant.line else "")
    return None


def shares(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Divide a count in proportion to sizes, by largest remainders."""
    exact = {name: count * size / sum(sizes.values()) for name, size in sizes.items()}
    quota = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: quota[name] - exact[name])[: count - sum(quota.values())]:
        quota[name] += 1
    return quota


def equivalents() -> dict[str, str]:
    """Reasons by the content of mutants that no test can kill."""
    entries = tomllib.loads((HERE / "equivalent.toml").read_text()).get("mutant", [])
    key = "{module} {function} #{number}: {before} -> {after}"
    return {key.format(**{"number": 0, **entry}): entry["reason"] for entry in entries}


def room_named(name: str) -> Room:
    """The room of a name."""
    return next(room for room in ROOMS if room.name == name)
