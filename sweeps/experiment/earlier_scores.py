"""What an earlier row of a cell holds that a sweep still lacks scores of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeps.scores import in_order


@dataclass(frozen=True)
class EarlierScores:
    """Scores that a cell was given by an earlier run, under their present VERSIONs; plain data.

    `names` are those scores, `foreign_keys` the keys of others that are not known here, `numbers` the columns of both,
    `facts` the columns that the fit gave beside them, `error` the errors of these scores, `plugins` the plug-ins that
    they were made with, `seconds` what they took. Where not `done`, the cell has nothing yet, or all of these scores
    are taken anew because they ended in an error.
    """

    names: tuple[str, ...] = ()
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    seconds: float | None = None
    done: bool = False
    plugins: str | None = None
    foreign_keys: tuple[str, ...] = ()

    def with_wanted(self, wanted: Collection[str]) -> list[str]:
        """List the scores that a new row of the cell holds: the wanted ones and the earlier ones."""
        return in_order([*wanted, *self.names])

    def missing(self, wanted: Collection[str]) -> list[str]:
        """List the scores that are still to be computed."""
        return [name for name in self.with_wanted(wanted) if not (self.done and name in self.names)]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> EarlierScores:
        """Read what `dataclasses.asdict` and JSON have made of one."""
        return cls(**{**fields, "names": tuple(fields["names"]), "foreign_keys": tuple(fields["foreign_keys"])})


NOTHING_EARLIER = EarlierScores()
"""What a cell has that was never fitted."""
