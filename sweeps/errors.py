"""The one error for bad input that the user can mend."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxdict, _REPR.maxset = 4, 16, 16, 16, 16
_REPR.maxstring, _REPR.maxlong, _REPR.maxother = 400, 400, 400


LONGEST, MOST_NAMES, COMPARED = 2000, 24, 1000
"""Characters of a message, names that it lists, names that a misspelt one is compared with: data may bring more."""


class InputError(Exception):
    """Bad input that the user can mend, in one line: where it stands, what it is, what is allowed.

    `value` left at `...` means that there is no value to show (a missing file or column). The fields stay
    writable, so that a caller who knows more, such as the file, fills it in before passing the error on.

    >>> print(InputError("must be a number above 0 up to 1", file="a.yaml", key="image.crop", value=1.7))
    a.yaml: image.crop = 1.7: must be a number above 0 up to 1
    >>> print(InputError("unknown kind", key="kind", value="fsh", allowed=["fish", "key"]))
    kind = 'fsh': unknown kind; allowed: fish, key; did you mean 'fish'?
    >>> print(InputError("unknown key", key="image.sise", allowed=["size", "crop"]))
    image.sise: unknown key; allowed: size, crop; did you mean 'size'?
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        key: str | None = None,
        value: Any = ...,
        allowed: Iterable[Any] | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.file = file
        self.key = key
        self.value = value
        self.allowed = None if allowed is None else tuple(allowed)

    def __str__(self) -> str:
        line = "".join(f"{part}: " for part in (self.file, self._setting()) if part)
        return shortened(escaped(" ".join(f"{line}{self.problem}{self._choices()}".split())), LONGEST)

    def _setting(self) -> str | None:
        if self.value is ...:
            return self.key
        shown = shortened(_shown(self.value))
        return f"{self.key} = {shown}" if self.key else shown

    def _choices(self) -> str:
        if self.allowed is None:
            return ""
        names = [str(name) for name in self.allowed]
        given = self.key if self.value is ... else self.value
        near = [] if given in names else _near(given, names)
        return f"; allowed: {listed(names)}" + (f"; did you mean {shortened(near[0])!r}?" if near else "")


def _near(given: Any, names: list[str]) -> list[str]:
    """The name nearest to a text, or to the last part of a key."""
    if not isinstance(given, str) or len(given) > 200:
        return []
    names = [name for name in names if len(name) <= 200][:COMPARED]
    nearest = difflib.get_close_matches(given, names, n=1)
    return nearest or difflib.get_close_matches(given.rsplit(".", 1)[-1], names, n=1)


def _shown(value: Any) -> str:
    """A value as text, the inner parts of large ones left out; its type where Python refuses, as for huge numbers."""
    try:
        return _REPR.repr(value)
    except (ValueError, RecursionError):
        return f"({type(value).__name__})"


def escaped(text: str, lines: bool = False) -> str:
    """The text with every character that is not printed written as Python writes it, for terminals, logs and metrics.

    Those are control characters (ESC, which moves cursors and sets titles, among them), marks that turn the direction
    of writing, characters of no width, blanks other than the usual one, halves of surrogate pairs. Unicode that is
    printed stays; so do line breaks where several `lines` are meant.

    >>> print(escaped("V1\x1b[2J"), escaped("\u202e4V"), escaped("Gyrus präcentralis"))
    V1\\x1b[2J \\u202e4V Gyrus präcentralis
    """
    if lines:
        return "\n".join(map(escaped, text.split("\n")))
    return text if text.isprintable() else "".join(sign if sign.isprintable() else _code(sign) for sign in text)


def _code(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


def listed(names: Iterable[Any], most: int = MOST_NAMES) -> str:
    """Names one after the other, long ones shortened; of many the first, and how many there are besides.

    >>> listed(["V1", "V2", "V4"]), listed(range(400_000), most=3)
    ('V1, V2, V4', '0, 1, 2, ... and 399,997 more')
    """
    every = list(names)
    more = [f"... and {len(every) - most:,} more"] if len(every) > most else []
    return ", ".join([*(shortened(str(name)) for name in every[:most]), *more])


def shortened(text: str, most: int = 160) -> str:
    """The text, its middle left out when it is long."""
    return text if len(text) <= most else f"{text[: most - 40]} ... {text[-30:]}"


class Unavailable(InputError):
    """What a run needs is away for now, such as its storage or Ray's head: the same command goes on when it is back."""


class Refusal(InputError):
    """Bad input that only a worker can see, such as other data or other code on its node: it ends the sweep."""
