"""Words and when they were said, from Praat's TextGrid files (the long text form)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sweeps.errors import InputError

SILENCE = ("", "sp", "sil", "br", "ls", "ns", "lg", "cg")
"""Marks of an interval in which no word is said: pauses, breaths, smacks, noise, laughter, coughs."""

_TIER = re.compile(r'class\s*=\s*"IntervalTier"\s*name\s*=\s*"([^"]*)"(.*?)(?=class\s*=\s*"|\Z)', re.DOTALL)
_INTERVAL = re.compile(r'xmin\s*=\s*([-\d.eE]+)\s*xmax\s*=\s*([-\d.eE]+)\s*text\s*=\s*"((?:[^"]|"")*)"')


@dataclass(frozen=True)
class Word:
    """A word with its start and end in seconds of the sound."""

    text: str
    start: float
    end: float


def read_words(content: bytes, file: str, tier: str = "word") -> list[Word]:
    """The words of a TextGrid's tier, pauses and remarks in brackets left out, in order of time.

    InputError for a file that is no TextGrid in the long form, or that has no such tier.
    """
    text = _decoded(content, file)
    tiers = dict(_TIER.findall(text))
    if not tiers:
        raise InputError("is no TextGrid in the long text form: it has no interval tier", file=file)
    if tier not in tiers:
        raise InputError("has no such tier", file=file, key="tier", value=tier, allowed=tiers)
    found = [Word(_plain(said), float(start), float(end)) for start, end, said in _INTERVAL.findall(tiers[tier])]
    return sorted((word for word in found if word.text not in SILENCE), key=lambda word: word.start)


def _plain(said: str) -> str:
    """A word in lower case; nothing for a remark in brackets, such as {LG} or [laughs]."""
    word = said.replace('""', '"').strip().lower()
    return "" if word[:1] in "{[(<" else word


def _decoded(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"is no text: {error}", file=file) from None
