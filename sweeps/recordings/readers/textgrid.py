"""Words and when they were spoken, from Praat's TextGrid files: the long, the short and the chronological text form.

All three are the same kind of tokens, as Praat itself reads them: numbers, texts in double quotes (a quote within is
doubled) and marks in angle brackets; whatever else stands there, and from an exclamation mark to the end of its line,
is comment.

    long, short      xmin xmax <exists> tiers, then of every tier class, name, xmin, xmax, size, and its entries
    chronological    xmin xmax tiers, class, name, xmin, xmax of every tier, then every entry behind its tier's number

An entry of an IntervalTier is start, end, text; of a TextTier time, text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sweeps.errors import InputError

SILENCE = frozenset(
    ("", "sentence_start", "sentence_end", "sp", "ns_ap", "sil", "sl", "br", "ls", "ns", "lg", "ig", "cg")
)
"""Marks of an interval in which no word is spoken: pauses, breaths, smacks, noise, laughter, coughs."""

NAMES = ("word", "words")
"""Names of a tier of words, in lower case."""

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


def read_words(content: bytes, file: str) -> list[Word]:
    """The words of a TextGrid, pauses and remarks in brackets left out, in order of time.

    They stand in the tier called word or words, in small or large letters; where there is none, in the second tier of
    intervals. InputError for a file that is no TextGrid, or that has no such tier.
    """
    tier = _of_words(_tiers(_Tokens(_decoded(content, file), file)), file)
    words = [Word(_plain(interval.text), interval.start, interval.end) for interval in tier.intervals]
    return sorted((word for word in words if word.text not in SILENCE), key=lambda word: word.start)


def _of_words(tiers: list[Tier], file: str) -> Tier:
    of_intervals = [tier for tier in tiers if tier.kind == "IntervalTier"]
    named = [tier for tier in of_intervals if tier.name.strip().lower() in NAMES]
    if not named and len(of_intervals) < 2:
        problem = f"has no tier called {' or '.join(NAMES)}, nor a second tier of intervals; its tiers"
        raise InputError(f"{problem}: {', '.join(tier.name for tier in tiers) or 'none'}", file=file)
    return named[0] if named else of_intervals[1]


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
    """A word in lower case; nothing for a remark in brackets, such as {LG} or [laughs]."""
    word = text.strip().lower()
    return "" if word[:1] in ("{", "[", "(", "<") else word


def _decoded(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"is no text: {error}", file=file) from None
