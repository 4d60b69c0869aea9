"""The one error for bad input that the user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(Exception):
    """Bad input that the user can mend, said in one line: where it stands, what it is, what is allowed.

    `value` left at `...` means that there is no value to show (a missing file or column). The fields stay
    writable, so that a caller who knows more, such as the file, fills it in before passing the error on.

    >>> print(InputError("must be a number above 0 up to 1", file="a.yaml", key="image.crop", value=1.7))
    a.yaml: image.crop = 1.7: must be a number above 0 up to 1
    >>> print(InputError("unknown kind", key="kind", value="fsh", allowed=["fish", "key"]))
    kind = 'fsh': unknown kind; allowed: fish, key; did you mean 'fish'?
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
        return " ".join(f"{line}{self.problem}{self._choices()}".split())

    def _setting(self) -> str | None:
        if self.value is ...:
            return self.key
        return f"{self.key} = {self.value!r}" if self.key else repr(self.value)

    def _choices(self) -> str:
        if self.allowed is None:
            return ""
        names = [str(name) for name in self.allowed]
        near = difflib.get_close_matches(self.value, names, n=1) if isinstance(self.value, str) else []
        return f"; allowed: {', '.join(names)}" + (f"; did you mean {near[0]!r}?" if near else "")
