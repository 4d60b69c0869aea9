"""The section `split:` of an experiment file: which stimuli are reported, selected on, and kept to confirm."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Gt, Le
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from sweeps.io.strict_model import Strict

Share = Annotated[float, Gt(0), Le(0.5)]


class NamedRows(Strict):
    """Stimuli that the recording's own table names: those with one of these values in this column."""

    column: str
    values: list[str | int | float] = Field(min_length=1)


class Split(Strict):
    """Shares of the groups: confirm and report (by this seed alone), then select (by this seed and the trial's).

    `report` may be `published`, the report set that the data are published with, or rows of a column; `select` too may
    be rows of a column. `confirm` is kept out of everything until `sweeps confirm`.
    """

    seed: int = Field(0, ge=0)
    report: Share | Literal["published"] | NamedRows = 0.2
    select: Share | NamedRows = 0.2
    confirm: float = Field(0.0, ge=0, le=0.5)

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `confirm` out where there is none: identities of splits are older than the key."""
        fields: dict[str, Any] = handler(self)
        return fields if self.confirm else {name: value for name, value in fields.items() if name != "confirm"}

    @property
    def is_random(self) -> bool:
        """Whether the report set is drawn, not named."""
        return isinstance(self.report, float)
