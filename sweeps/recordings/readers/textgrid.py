"""Words and when they were spoken, from Praat's TextGrid files: the long, the short and the chronological text form.

All three are the same kind of tokens, as Praat itself reads them: numbers, texts in double quotes (a quote within is
doubled) and marks in angle brackets; whatever else stands there, and from an exclamation mark to the end of its line,
is comment.

    long, short      xmin xmax <exists> tiers, then of every tier class, name, xmin, xmax, size, and its entries
    chronological    xmin xmax tiers, class, name, xmin, xmax of every tier, then every entry behind its tier's number

An entry of an IntervalTier is start, end, text; of a TextTier time, text. Texts may hold Praat's special symbols.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sweeps.errors import InputError, listed
from sweeps.recordings.readers.praat_symbols import decoded_symbols

SILENCE = frozenset(
    ("", "sentence_start", "sentence_end", "sp", "ns_ap", "sil", "sl", "br", "ls", "ns", "lg", "ig", "cg")
)
"""Marks of an interval in which no word is spoken: pauses, breaths, smacks, noise, laughter, coughs."""

NAMES = ("word", "words")
"""Names of a tier of words, in lower case."""

QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
"""Marks in which a name may stand."""

_TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|(?<![^\s=])(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\S)|!.*'
)


@dataclass(frozen=True)
class Word:
    """A word with its start and end in seconds of the sound."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Tier:
    """A tier: its class, its name, and its intervals; points (of a TextTier) are left out."""

    kind: str
    name: str
    intervals: list[Word] = field(default_factory=list)


@dataclass(frozen=True)
class Spoken:
    """Words of a file in order of time, the name of their tier, and whether an earlier version read the same.

    It took the second tier of intervals where none was called word or words, and special symbols as they stand.
    """

    words: list[Word]
    tier: str
    as_before: bool


def read_words(content: bytes, file: str, tier: str | None = None) -> list[Word]:
    """Return the words of a TextGrid, pauses and remarks in brackets left out, in order of time; see `read_spoken`."""
    return read_spoken(content, file, tier).words


def read_spoken(content: bytes, file: str, tier: str | None = None) -> Spoken:
    """Return the words of a TextGrid, and the tier of intervals in which they stand.

    It is the one called `tier`; without that the one called word or words, else the only one whose name has that word
    in it, in small or large letters, in quotes or not. InputError, which lists the tiers, where there is none or more
    than one, and for a file that is no TextGrid.
    """
    tiers = _tiers(_Tokens(_decoded(content, file), file))
    intervals = [entry for entry in tiers if entry.kind == "IntervalTier"]
    chosen = _called(intervals, tier, file) if tier is not None else _of_words(intervals, file)
    words = _words(chosen, _plain)
    return Spoken(words, chosen.name, _earlier(intervals) in (None, words))


def _words(tier: Tier, plain: Callable[[str], str]) -> list[Word]:
    words = [Word(plain(interval.text), interval.start, interval.end) for interval in tier.intervals]
    return sorted((word for word in words if word.text not in SILENCE), key=lambda word: word.start)


def _of_words(tiers: list[Tier], file: str) -> Tier:
    """Return the tier that is called words, else the only one whose name says so."""
    exact = [tier for tier in tiers if _bare(tier.name) in NAMES]
    named = exact or [tier for tier in tiers if _says_words(tier.name)]
    if not named:
        raise _unclear("has no tier of intervals whose name says that it is of words", tiers, file)
    if any(tier.intervals != named[0].intervals for tier in named):
        raise _unclear("has more than one tier of words", tiers, file)
    return named[0]


def _called(tiers: list[Tier], name: str, file: str) -> Tier:
    """Return the tier of a given name, else of one that differs in case, blanks or quotes alone."""
    ways = ([tier for tier in tiers if spelt(tier.name) == spelt(name)] for spelt in (str, _bare))
    named = next((found for found in ways if found), [])
    if not named:
        names = list(dict.fromkeys(tier.name for tier in tiers)) or ["(none)"]
        raise InputError("there is no such tier of intervals", file=file, key="tier", value=name, allowed=names)
    if any(tier.intervals != named[0].intervals for tier in named):
        raise InputError("is the name of more than one tier", file=file, key="tier", value=name)
    return named[0]


def _bare(name: str) -> str:
    """Return a name in small letters, without blanks and quotes around it."""
    return name.strip().strip(QUOTES).strip().lower()


def _says_words(name: str) -> bool:
    """Tell whether word or words is one of the words of a name.

    >>> [_says_words(name) for name in ("anna - words", "WordTier", "ort_words2", "keywords", "phones")]
    [True, True, True, False, False]
    """
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return any(part in NAMES for part in re.split(r"[\W\d_]+", parted.lower()))


def _unclear(problem: str, tiers: list[Tier], file: str) -> InputError:
    names = listed(repr(tier.name) for tier in tiers) or "none"
    return InputError(
        f"{problem}: name one by the key `tier` of the recording; its tiers of intervals: {names}", file=file
    )


def _earlier(tiers: list[Tier]) -> list[Word] | None:
    """Return what an earlier version read, None where it read nothing: a rule that identities of recordings rest on."""
    named = [tier for tier in tiers if tier.name.strip().lower() in NAMES]
    tier = named[0] if named else tiers[1] if len(tiers) > 1 else None
    return None if tier is None else _words(tier, _without_remarks)


def _tiers(tokens: _Tokens) -> list[Tier]:
    title = tokens.text()
    if title == "Praat chronological TextGrid text file":
        return _chronological(tokens)
    if not title.startswith("ooTextFile") or tokens.text() != "TextGrid":
        raise tokens.refused("it does not begin as one of Praat's text forms does")
    return _tier_by_tier(tokens)


def _tier_by_tier(tokens: _Tokens) -> list[Tier]:
    """The long and the short form, which differ in comments only."""
    tokens.span()
    tiers = []
    for _ in range(tokens.count()):
        tier = Tier(tokens.text(), tokens.text())
        tokens.span()
        for _ in range(tokens.count()):
            _entry(tokens, tier)
        tiers.append(tier)
    return tiers


def _chronological(tokens: _Tokens) -> list[Tier]:
    tokens.span()
    tiers = []
    for _ in range(tokens.count()):
        tiers.append(Tier(tokens.text(), tokens.text()))
        tokens.span()
    while tokens.more():
        number = tokens.count()
        if not 1 <= number <= len(tiers):
            raise tokens.refused(f"an entry of tier {number}, there are {len(tiers)}")
        _entry(tokens, tiers[number - 1])
    return tiers


def _entry(tokens: _Tokens, tier: Tier) -> None:
    start = tokens.number()
    if tier.kind == "IntervalTier":
        end = tokens.number()
        tier.intervals.append(Word(tokens.text(), start, end))
    else:
        tokens.text()


class _Tokens:
    """Numbers and texts of a file in turn; InputError where another thing stands than what must follow."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self._tokens: Iterator[re.Match[str]] = (token for token in _TOKEN.finditer(text) if token.lastgroup)
        self._next = next(self._tokens, None)

    def more(self) -> bool:
        """Whether there is another number or text."""
        return self._next is not None

    def number(self) -> float:
        """The next token, which must be a number."""
        number = float(self._take("number"))
        if not math.isfinite(number):
            raise self.refused("a number has no end")
        return number

    def count(self) -> int:
        """The next token, which must be a whole number."""
        number = self.number()
        if not number.is_integer():
            raise self.refused(f"{number:g} stands where a whole number must")
        return int(number)

    def text(self) -> str:
        """The next token, which must be a text."""
        return self._take("text").replace('""', '"')

    def span(self) -> None:
        """Pass over a start and an end."""
        self.number()
        self.number()

    def refused(self, why: str) -> InputError:
        """The error that says why this is no TextGrid."""
        return InputError(f"is no TextGrid: {why}", file=self.file)

    def _take(self, kind: str) -> str:
        token = self._next
        if token is None:
            raise self.refused(f"it ends where a {kind} must follow")
        if token.lastgroup != kind:
            raise self.refused(f"{token[0][:40]} stands where a {kind} must, at character {token.start()}")
        self._next = next(self._tokens, None)
        return token[kind]


def _plain(text: str) -> str:
    """Return a word in lower case, special symbols decoded, on one line; nothing for a remark."""
    return _without_remarks(re.sub(r"\s*[\r\n]+\s*", " ", decoded_symbols(text)))


def _without_remarks(text: str) -> str:
    """Return a word in lower case; nothing for a remark in brackets, such as {LG} or [laughs]."""
    word = text.strip().lower()
    return "" if word[:1] in ("{", "[", "(", "<") else word


def _decoded(content: bytes, file: str) -> str:
    """Decode a text in UTF-8 or UTF-16, which its mark tells, else its first character: all forms begin in ASCII."""
    encoding = "utf-8-sig"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif b"\0" in content[:2]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"is no text in UTF-8 or UTF-16, save it as UTF-8: {error}", file=file) from None
